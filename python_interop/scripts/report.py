"""What is wrong with a file, where, and a report of it that stays small (docs/ingest-rules.md, "Report")."""
import unicodedata
from collections import Counter
from dataclasses import dataclass

REASONS = (
    "missing_column", "bad_header", "empty", "bad_number", "out_of_range", "bad_bool", "bad_device", "bad_ts",
    "field_count", "malformed", "encoding", "nul", "bad_name", "unreadable", "not_regular", "outside_root", "too_large",
    "refused_by_database",
)  # fmt: skip

MAX_VIOLATIONS_IN_FULL = 200

MAX_TEXT_CHARS = 80


@dataclass(frozen=True)
class Violation:
    reason: str
    rule: str  # what would have been right, for people
    line: int | None = None  # None: the file as a whole
    column: str | None = None  # None: the record as a whole
    text: str | None = None  # what was found, cut

    def as_json(self):
        return {"line": self.line, "column": self.column, "reason": self.reason, "rule": self.rule, "text": self.text}


class Report:
    """All violations of one file: the first few hundred in full, all of them counted."""

    def __init__(self, *violations):
        self.counts = Counter()
        self.first = []
        for violation in violations:
            self.add(violation)

    def add(self, violation):
        self.counts[violation.reason] += 1
        if len(self.first) < MAX_VIOLATIONS_IN_FULL:
            self.first.append(violation)

    def __bool__(self):
        return bool(self.counts)

    @property
    def by_reason(self):
        return {reason: self.counts[reason] for reason in REASONS if reason in self.counts}

    def as_json(self):
        first = [violation.as_json() for violation in self.first]
        return {"violations": self.counts.total(), "by_reason": self.by_reason, "first": first}

    def summary(self):
        """One sentence: `2 violations (bad_number 1, out_of_range 1); first: line 102, column "temp": …`."""
        total = self.counts.total()
        counts = ", ".join(f"{reason} {count}" for reason, count in self.by_reason.items())
        noun = "violation" if total == 1 else "violations"
        return f"{total} {noun} ({counts}); first: {_describe(self.first[0])}"


def cut(text):
    """What may be shown of an offending text (`str`, or bytes as they were found)."""
    if isinstance(text, bytes):
        # Four bytes a character at most: no more of a megabyte is looked at than can be shown.
        text = text[: 4 * MAX_TEXT_CHARS + 4].decode("utf-8", "replace")
    # PostgreSQL's text and jsonb hold no NUL: its picture stands for it.
    shown = text[:MAX_TEXT_CHARS].replace("\0", "␀")
    return shown + "…" if len(text) > MAX_TEXT_CHARS else shown


def _describe(violation):
    place = []
    if violation.line is not None:
        place.append(f"line {violation.line}")
    if violation.column is not None:
        place.append(f"column {quoted(violation.column)}")
    sentence = f"{', '.join(place)}: {violation.rule}" if place else violation.rule
    if violation.text is not None:
        sentence += f", found {quoted(violation.text)}"
    return sentence


_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def quoted(text):
    """In double quotes, on one line, and with nothing that a terminal would not show as itself."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char):
    if char in _SHORT:
        return _SHORT[char]
    # A combining mark would melt into what stands before it.
    if not char.isprintable() or unicodedata.category(char) in ("Mn", "Me"):
        return f"\\u{{{ord(char):x}}}"
    return char
