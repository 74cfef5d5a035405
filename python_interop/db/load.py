"""Puts a good file in: content, rows, statistics and ledger row in one transaction.

Guarantees F1 and F2: all of it or nothing, and once. The content's key is taken first; whoever comes second waits for it
and then finds it taken. What was judged is what is loaded: the second reading must have the hash of the first, and the
file must not have been written to in between.
"""
from dataclasses import dataclass
from datetime import timedelta

import failpoints
from db import ledger
from db.config import answers_within, translated
from errors import FileChanged, Unexpected
from scripts.opening import identity_of
from scripts.validate import RANGES, SensorReader

_CLAIM = """
    insert into ingest_content (sha256, size_bytes, row_count, file_name)
    values (%(sha256)s, %(size_bytes)s, %(rows)s, %(file_name)s)
    on conflict (sha256) do nothing returning content_id
"""

_COPY_ROWS = f"""
    copy raw_sensor_data (ts, device, light, motion, {", ".join(RANGES)}, file_name, content_id, line_no)
    from stdin (format binary)
"""
_ROW_TYPES = ["timestamptz", "text", "bool", "bool", *["float8"] * len(RANGES), "text", "int8", "int8"]

_COPY_AGGREGATES = """
    copy aggregated_metrics (device, metric, min_value, max_value, avg_value, std_dev, median_value, count, file_name,
    content_id) from stdin
"""


@dataclass(frozen=True)
class Content:
    sha256: bytes
    size_bytes: int
    rows: int
    file_name: str


def load_once(database, place, file, facts, content, aggregates):
    """One transaction. False if the content has been loaded before; then nothing is changed."""
    limit_ms = 60_000 + content.size_bytes // 1000  # a MB a second, and a minute
    connection = database.connection
    try:
        with translated("cannot load the file"), answers_within(connection, limit_ms / 1000 + 30):
            cursor = connection.cursor()
            cursor.execute(f"begin; set local statement_timeout = {limit_ms}")
            # Guarantee F2: this key lets each content in once.
            claimed = cursor.execute(_CLAIM, vars(content)).fetchone()
            if claimed is None:
                cursor.execute("rollback")
                return False
            failpoints.reach("before_copy")
            _copy_rows(cursor, place, file, content, claimed.content_id)
            failpoints.reach("after_copy")
            _copy_aggregates(cursor, aggregates, content.file_name, claimed.content_id)
            ledger.record_loaded(cursor, facts, claimed.content_id)
            failpoints.reach("before_commit")
            # When the answer is lost the outcome is unknown: the next attempt finds the key taken if it was committed.
            cursor.execute("commit")
            failpoints.reach("after_commit")
            return True
    except BaseException:
        database.forget()
        raise


def _copy_rows(cursor, place, file, content, content_id):
    reader = SensorReader(file)
    with cursor.copy(_COPY_ROWS) as copy:
        copy.set_types(_ROW_TYPES)
        for line, (micros, *values) in reader:
            ts = ledger.EPOCH + timedelta(microseconds=micros)
            copy.write_row((ts, *values, content.file_name, content_id, line))
        # An exception ends the COPY, and with it the transaction.
        if reader.report or reader.finish() != content.sha256 or identity_of(file) != place.identity:
            raise FileChanged
    if cursor.rowcount != content.rows:
        raise Unexpected(f"cannot copy the rows: {cursor.rowcount} taken of {content.rows}")


def _copy_aggregates(cursor, aggregates, file_name, content_id):
    with cursor.copy(_COPY_AGGREGATES) as copy:
        for aggregate in aggregates:
            copy.write_row((*vars(aggregate).values(), file_name, content_id))
