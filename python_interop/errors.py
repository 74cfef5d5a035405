"""What may keep a verdict from being given or recorded (docs/ingest-rules.md, "Outages").

A bad file is no error: its verdict is a result.
"""
from contextlib import contextmanager


class Outage(Exception):
    """PostgreSQL, a disk or a directory is away, full or busy. Tried again without end; uses up no retry."""


class DeploymentError(Outage):
    """Tables, rights or settings do not fit this worker: somebody must act. Waited for just so, and longer."""


class FileChanged(Exception):
    """The file was written to or replaced while it was read. Read again at once, and later handed back."""


class RefusedRows(Exception):
    """PostgreSQL refuses the rows by a constraint of its own: the file is bad by a rule that is not known here."""


class Unexpected(Exception):
    """A defect. Counted retries, then FAILURE."""


@contextmanager
def disk(what):
    """Errors of reading, writing or moving a file may all pass: what one says of the file is told apart before."""
    try:
        yield
    except OSError as error:
        raise Outage(f"{what}: {error}") from error
