"""What is done with a bad file: recorded, moved to quarantine, its report beside it, a line in `errors.log`.

Guarantees F3 and F4: the ledger row comes first and says where the file is about to go; whatever a crash leaves undone the
next delivery completes. The verdict is not asked again; recording it is tried until it is done.
"""
import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass

import failpoints
from db import ledger
from errors import FileChanged, Outage, disk
from scripts.opening import Place
from scripts.report import Report
from scripts.utils import CHANGED, MOVED, MUST_STAY, Quarantine, log_error, quarantine_file, utc_text
from worker import outcome
from worker.run import logger


@dataclass(frozen=True)
class BadFile:
    place: Place
    file: int | None  # its content, if it could be opened
    facts: ledger.FileFacts
    report: Report

    @property
    def tag(self):
        """What tells files of one name apart in quarantine."""
        return (self.facts.sha256 or self.facts.key)[:4].hex()


def refuse(run, bad):
    """Deals with a bad file that may be moved; the result. FileChanged: what lies there now is to be judged."""
    with _only_run(bad.file):
        with disk("cannot look into the watch directory"):
            if not bad.place.is_unchanged():
                raise FileChanged
        return _complete(run, run.persist(lambda: _move_once(run, bad)))


def refuse_in_place(run, facts, report):
    """Deals with what may not be moved: a link, a directory, a path elsewhere; the result."""
    return _complete(run, ledger.record_quarantined(run, facts, report, None))


def complete_earlier(run, row):
    """Completes what an earlier run left undone with a file that has gone to quarantine; the result."""
    if row.is_moved or row.quarantine_path is None:
        return outcome.quarantined(run.file_path, row)
    with _quarantine(run) as quarantine:
        if not quarantine.has(os.path.basename(row.quarantine_path)):
            # Somebody took the file away before it could be moved; the verdict stands.
            row = row._replace(quarantine_path=None)
    return _complete(run, row)


@contextmanager
def _only_run(file):
    """Only one run at a time deals with a bad file; the lock ends with the process at the latest.

    Where a file system has no locks, the steps below still lose nothing.
    """
    if file is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Outage("cannot quarantine the file: another run is just doing so") from None
        except OSError:
            pass
    # Closing the descriptor, which whoever opened it does, lets the lock go.
    yield


@contextmanager
def _quarantine(run):
    directory = run.settings.quarantine_dir
    with disk(f"cannot move a file to {directory}"), Quarantine(directory) as quarantine:
        yield quarantine


def _move_once(run, bad):
    """Records the verdict with a free name, and moves the file there; its row."""
    earlier = ledger.find_unmoved(run, bad.facts)
    while True:
        with _quarantine(run) as quarantine:
            name = earlier and os.path.basename(earlier)
            is_copied = bool(name and bad.file is not None and quarantine.holds_copy(bad.file, name))
            if not is_copied:
                name = quarantine.free_name(bad.facts.file_name, bad.tag)
        target = os.path.join(run.settings.quarantine_dir, name)
        row = ledger.record_quarantined(run, bad.facts, bad.report, _text(target))
        failpoints.reach("before_move")
        with _quarantine(run) as quarantine:
            if is_copied:
                moved = quarantine.remove_original(bad.place)
            else:
                moved = quarantine_file(quarantine, bad.place, bad.file, name)
        if moved == MOVED:
            failpoints.reach("after_move")
            return row
        if moved == MUST_STAY:
            return row._replace(quarantine_path=None)
        if moved == CHANGED:
            ledger.record_moved(run, row.file_id, None)
            raise FileChanged


def _complete(run, row):
    """The report beside the file, the line in the log, and then the last word in the ledger; the result."""
    run.persist(lambda: _write_down(run, row))
    if row.quarantine_path is not None:
        ledger.record_moved(run, row.file_id, row.quarantine_path)
    logger.error("Data from %s quarantined: %s.", run.shown, row.reason)
    return outcome.quarantined(run.file_path, row)


def _write_down(run, row):
    if row.quarantine_path is not None:
        failpoints.reach("before_sidecar")
        with _quarantine(run) as quarantine:
            quarantine.write_sidecar(os.path.basename(row.quarantine_path), _sidecar(run, row))
        failpoints.reach("after_sidecar")
    with disk(f"cannot write to {run.settings.log_dir}/errors.log"):
        log_error(run.settings.log_dir, row.recorded_at, f"Quarantined {run.shown}: {row.reason}")


def _sidecar(run, row):
    """The report as it lies beside the file."""
    return {
        "file_path": run.path,
        "sha256": row.sha256.hex() if row.sha256 else None,
        "size_bytes": row.size_bytes,
        "task_id": run.task_id,
        "quarantined_at": utc_text(row.recorded_at),
        "reason": row.reason,
        **row.reasons,
    }


def _text(path):
    return os.fsencode(path).decode("utf-8", "replace")
