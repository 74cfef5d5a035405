"""The seed's `quarantine_file` and `log_error`, and the quarantine directory (docs/ingest-rules.md, "Quarantine").

Nothing is ever overwritten; at every moment a bad file lies whole in one place or the other (for a moment in both, across
file systems), never in neither; what is moved is the very file that was judged. Files only: the ledger is `refuse`'s.
"""
import errno
import filecmp
import json
import os
import shutil
from datetime import timezone

from scripts.naming import create_whole, rename
from scripts.opening import identity_of, links_of

SIDECAR_SUFFIX = ".error.json"

MAX_NAME_BYTES = 255 - len(SIDECAR_SUFFIX)  # with the suffix it still is a name (NAME_MAX)

MAX_NAMES = 1000

# What becomes of the wish to move a file.
MOVED = "moved"
NAME_TAKEN = "something came to have the name in the meantime"
CHANGED = "it does not lie at its path any more, or something else does, or it has been written to"
MUST_STAY = "on another file system, and it cannot be read or has names that unlinking would not undo"


def log_error(log_dir, time, message):
    """Appends a line to `errors.log` in one write, so that lines of several workers never mix."""
    os.makedirs(log_dir, exist_ok=True)
    message = message.replace("\n", "\\n").replace("\r", "\\r")
    flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
    file = os.open(os.path.join(log_dir, "errors.log"), flags, 0o666)
    try:
        os.write(file, f"{utc_text(time)} {message}\n".encode("utf-8", "backslashreplace"))
    finally:
        os.close(file)


def utc_text(time):
    """`2026-11-23T17:43:36.694319Z`."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Quarantine:
    """The quarantine directory, open; made first if it is not there."""

    def __init__(self, path):
        os.makedirs(path, exist_ok=True)
        self.directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.directory)

    def has(self, name):
        try:
            os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def free_name(self, file_name, tag):
        """A name that nothing has yet, and its report's neither."""
        for name in candidates(file_name, tag):
            if not self.has(name) and not self.has(name + SIDECAR_SUFFIX):
                return name
        raise OSError(errno.EEXIST, f"{MAX_NAMES} files named like it lie in quarantine already", file_name)

    def holds_copy(self, file, name):
        """Whether `name` is a copy of the open `file`, made by a run that died before it could remove the original."""
        try:
            copy = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.directory)
        except FileNotFoundError:
            return False
        try:
            return filecmp.cmp(f"/proc/self/fd/{copy}", f"/proc/self/fd/{file}", shallow=False)
        finally:
            os.close(copy)
            filecmp.clear_cache()

    def remove_original(self, place):
        """Removes the original of a file that lies here whole."""
        if not place.is_unchanged():
            return CHANGED
        os.unlink(place.name, dir_fd=place.directory)
        return MOVED

    def write_sidecar(self, name, report):
        """Writes the report beside the file, unless an earlier run has."""
        text = json.dumps(report, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
        create_whole(self.directory, name + SIDECAR_SUFFIX, lambda file: _write_all(file, text))

    def confirm(self, place, name):
        """Another file may have come under the name between the look and the move: then that one goes back."""
        status = os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        if status.st_ino != place.identity.inode:
            rename(self.directory, name, place.directory, place.name)
            return CHANGED
        os.fsync(self.directory)
        return MOVED

    def copy(self, place, file, name):
        """Across file systems: a whole copy first, then the original goes."""
        if file is None or links_of(file) > 1:
            return MUST_STAY

        def write(copy):
            with open(f"/proc/self/fd/{file}", "rb") as source, open(copy, "wb", closefd=False) as target:
                shutil.copyfileobj(source, target)

        if not create_whole(self.directory, name, write):
            return NAME_TAKEN
        # Written to while it was copied: the copy is not the file.
        if identity_of(file) == place.identity and self.remove_original(place) == MOVED:
            return MOVED
        os.unlink(name, dir_fd=self.directory)
        return CHANGED


def quarantine_file(quarantine, place, file, name):
    """Moves the file at `place` to quarantine; `file` is its content, if it could be opened. Says what became of it."""
    if not place.is_unchanged():
        return CHANGED
    try:
        if not rename(place.directory, place.name, quarantine.directory, name):
            return NAME_TAKEN
    except FileNotFoundError:
        return CHANGED
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return quarantine.copy(place, file, name)
    return quarantine.confirm(place, name)


def candidates(file_name, tag):
    """The names to try for a file: its own, then `stem~tag.csv`, `stem~tag~2.csv`, …"""
    if len(file_name.encode()) <= MAX_NAME_BYTES:
        yield file_name
    point = file_name.rfind(".")
    # A long tail behind a point is no extension.
    if point <= 0 or len(file_name[point:].encode()) > 16:
        point = len(file_name)
    stem, extension = file_name[:point].encode(), file_name[point:]
    for number in range(1, MAX_NAMES):
        tail = f"~{tag}" + (f"~{number}" if number > 1 else "") + extension
        room = MAX_NAME_BYTES - len(tail.encode())
        yield stem[:room].decode("utf-8", "ignore") + tail


def _write_all(file, data):
    with open(file, "wb", closefd=False) as target:
        target.write(data)
