"""A path as a message names it, to a place below the watch directory. Text only: nothing is looked up on disk.

Rules: docs/ingest-rules.md, "Which file". `..`, an absolute path elsewhere or a NUL never get past here; links are the
business of `opening`. File names are bytes: not every one is text.
"""
import os
from urllib.parse import unquote_to_bytes

from scripts.report import Violation, cut

MAX_PATH_BYTES = 4095  # Linux' PATH_MAX without its NUL

FILE_URL = "file://"


class BadPath(Exception):
    """The path is not acceptable; `violation` says why."""

    def __init__(self, violation):
        super().__init__(violation.rule)
        self.violation = violation


def below_root(text, working_dir, root):
    """`text` as components below `root` (bytes, at least one), without `.` and `..`. The directories are bytes."""
    path = message_bytes(text)
    if text.startswith(FILE_URL):
        path = unquote_to_bytes(path[len(FILE_URL) :])
    if not 1 <= len(path) <= MAX_PATH_BYTES or b"\0" in path or not _is_text(text):
        rule = f"a path of 1 to {MAX_PATH_BYTES} bytes without NUL"
        raise BadPath(Violation("bad_name", rule, text=cut(path)))
    parts, root_parts = _normal(working_dir, path), _normal(working_dir, root)
    if parts is None or root_parts is None or parts[: len(root_parts)] != root_parts or len(parts) <= len(root_parts):
        raise BadPath(Violation("outside_root", "a path below the watch directory", text=cut(path)))
    return parts[len(root_parts) :]


def _normal(working_dir, path):
    """The components of an absolute path with `.` and `..` resolved as text; None if `..` leads above `/`."""
    normal = []
    for part in os.path.join(working_dir, path).split(b"/"):
        if part == b"..":
            if not normal:
                return None
            normal.pop()
        elif part not in (b"", b"."):
            normal.append(part)
    return normal


def absolute(working_dir, path):
    """`path` from `/` on, without `.`; `..` is kept, for it may lead through a link."""
    parts = [part for part in os.path.join(working_dir, path).split(b"/") if part not in (b"", b".")]
    return b"/" + b"/".join(parts)


def message_bytes(text):
    """The bytes of a text out of a message. JSON can hold half a surrogate pair, which is no text; it keeps its bytes."""
    return text.encode("utf-8", "surrogatepass")


def _is_text(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(raw):
    """Any bytes as text that PostgreSQL, JSON and a log line can hold: NUL and what is not UTF-8 become `\\xHH`."""
    text = raw.decode("utf-8", "surrogateescape").replace("\0", "\\x00")
    return "".join(f"\\x{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def on_one_line(text):
    """A path for a log line: control characters escaped."""
    return "".join(_SHORT.get(c) or (f"\\u{{{ord(c):x}}}" if ord(c) < 32 or 127 <= ord(c) < 160 else c) for c in text)
