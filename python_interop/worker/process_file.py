"""From a path to its fate: the one place that decides.

May be called again for the same file at any time: what is done stays, what is missing is completed.
"""
import os

import failpoints
from db import ledger, load
from errors import FileChanged, Outage, RefusedRows, disk
from scripts.opening import Opening, identity_of
from scripts.paths import BadPath, below_root
from scripts.report import Report, Violation
from scripts.validate import validate_and_transform_data
from worker import outcome
from worker.refuse import BadFile, complete_earlier, refuse, refuse_in_place
from worker.run import logger

# How often a file that changes while it is read is started again at once.
MAX_RESTARTS = 3


def process_file(run):
    """Deals with the file that `run` names; the result. Raises what keeps a verdict away, never what is wrong with it."""
    restarts = 0
    while True:
        try:
            result = _attempt(run)
        except FileChanged:
            if restarts == MAX_RESTARTS:
                raise
            restarts += 1
        except Outage as outage:
            run.wait_out(outage)
        else:
            failpoints.reach("before_ack")
            return result


def _attempt(run):
    watch_dir = os.fsencode(run.settings.watch_dir)
    try:
        parts = below_root(run.file_path, run.working_dir, watch_dir)
    except BadPath as bad:
        return _refuse_as_is(run, bad.violation)
    with Opening(watch_dir, parts) as found:
        if found.is_gone:
            return _gone(run)
        if found.place is None:
            return _refuse_as_is(run, found.violation)
        if found.violation:
            facts = ledger.FileFacts(run.path, run.task_id, found.place.identity)
            return refuse(run, BadFile(found.place, None, facts, Report(found.violation)))
        return _judge(run, found.place, found.file)


def _judge(run, place, file):
    with disk("cannot read the file"):
        checked = validate_and_transform_data(file)
        if identity_of(file) != place.identity or checked.size_bytes != place.identity.size_bytes:
            raise FileChanged
    facts = ledger.FileFacts(run.path, run.task_id, place.identity, checked.sha256)
    content = load.Content(checked.sha256, checked.size_bytes, checked.rows, facts.file_name)
    if not checked.report:
        try:
            return _load(run, place, file, facts, content, checked.aggregates)
        except RefusedRows as refused:
            # The words of PostgreSQL, as a rule.
            report = Report(Violation("refused_by_database", str(refused)))
            return refuse(run, BadFile(place, file, facts, report))
    # What is loaded is loaded, also when the rules have become stricter since.
    known = ledger.find_content(run, checked.sha256)
    if known:
        return _known(run, facts, content, known)
    return refuse(run, BadFile(place, file, facts, checked.report))


def _load(run, place, file, facts, content, aggregates):
    def attempt():
        with disk("cannot read the file again"):
            return load.load_once(run.database, place, file, facts, content, aggregates)

    if run.persist(attempt):
        result = outcome.loaded(run.file_path, content)
    else:
        known = ledger.find_content(run, content.sha256)
        if known is None:
            raise Outage("cannot load the file: its content was just being removed")
        result = _known(run, facts, content, known)
    if result["status"] == "loaded":
        # Level and words are the seed's.
        logger.warning("Data from %s validated and transformed successfully.", run.shown)
    return result


def _known(run, facts, content, known):
    """The content was loaded before: by another file, or by an earlier run for this one."""
    if ledger.record_known_content(run, facts, known.content_id) == "loaded":
        return outcome.loaded(run.file_path, content)
    return outcome.duplicate(run.file_path, content, known.file_name)


def _gone(run):
    """Nothing lies at the path: what is known of it."""
    row = ledger.last_seen(run, run.path)
    if row is not None:
        if row.state == "quarantined":
            return complete_earlier(run, row)
        if row.state == "missing":
            return outcome.missing(run.file_path)
        if row.task_id == run.task_id:
            content = load.Content(row.sha256, row.size_bytes, row.row_count, row.content_name)
            if row.state == "loaded":
                return outcome.loaded(run.file_path, content)
            return outcome.duplicate(run.file_path, content, row.content_name)
    ledger.record_missing(run, ledger.FileFacts(run.path, run.task_id, instead=run.task_id.encode()))
    return outcome.missing(run.file_path)


def _refuse_as_is(run, violation):
    facts = ledger.FileFacts(run.path, run.task_id, instead=ledger.REFUSED)
    return refuse_in_place(run, facts, Report(violation))
