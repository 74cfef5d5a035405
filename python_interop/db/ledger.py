"""`ingest_files`: what became of every file seen.

Guarantees F2 and F3: one row for a file however often its message comes, and never a verdict without a row. The key is
the identity of the file that lies at the path (docs/ingest-rules.md, "The ledger"); once the file has been moved away the
key is given up, so that one brought back is judged afresh.
"""
import hashlib
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from psycopg.types.json import Jsonb

from db.query import execute_query
from scripts.opening import Identity

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_FACTS = "path, file_name, size_bytes, sha256, inode, modified_at, task_id, file_key"
_VALUES = "%(path)s, %(file_name)s, %(size_bytes)s, %(sha256)s, %(inode)s, %(modified_at)s, %(task_id)s, %(file_key)s"

_QUARANTINE_COLUMNS = """
    file_id, recorded_at, quarantine_path, moved_at is not null as is_moved, f.sha256, f.size_bytes, reason, reasons
"""

REFUSED = b"refused"  # instead of an identity: what lies there is neither read nor moved


@dataclass(frozen=True)
class FileFacts:
    """What is known of the file at hand; all texts such as PostgreSQL can hold them."""

    path: str
    task_id: str
    identity: Identity | None = None  # of the regular file that lies there
    sha256: bytes | None = None
    instead: bytes | None = None  # without an identity: REFUSED, or (nothing lies there) the task's id

    @property
    def file_name(self):
        return self.path.rpartition("/")[2]

    @property
    def key(self):
        if self.identity:
            seconds, nanoseconds = divmod(self.identity.mtime_ns, 10**9)
            identity = struct.pack(">QqI", self.identity.inode, seconds, nanoseconds)
        else:
            identity = self.instead
        return hashlib.sha256(self.path.encode() + b"\0" + identity + (self.sha256 or bytes(32))).digest()

    def values(self):
        """What every row has."""
        identity = self.identity
        return {
            "path": self.path,
            "file_name": self.file_name,
            "size_bytes": identity and identity.size_bytes,
            "sha256": self.sha256,
            "inode": identity and _signed(identity.inode),
            "modified_at": identity and _modified_at(identity.mtime_ns),
            "task_id": self.task_id,
            "file_key": self.key,
        }


def _signed(number):
    return struct.unpack("q", struct.pack("Q", number))[0]


def _modified_at(mtime_ns):
    try:
        return EPOCH + timedelta(microseconds=mtime_ns // 1000)
    except OverflowError:
        return None


def record_loaded(cursor, facts, content_id):
    """Inside the transaction that loads the file."""
    sql = f"""
        insert into ingest_files ({_FACTS}, state, content_id) values ({_VALUES}, 'loaded', %(content_id)s)
        on conflict (file_key) do update set state = 'loaded', content_id = excluded.content_id, recorded_at = now(),
            task_id = excluded.task_id, reason = null, reasons = null, quarantine_path = null
    """
    cursor.execute(sql, {**facts.values(), "content_id": content_id})


def find_content(run, sha256):
    """The loaded content with this hash (content_id, row_count, file_name), or None."""
    sql = "select content_id, row_count, file_name from ingest_content where sha256 = %s"
    rows = execute_query(run, "cannot look a content up", sql, [sha256])
    return rows[0] if rows else None


def record_known_content(run, facts, content_id):
    """Records a file whose content was loaded before; its state. The same file delivered again is no duplicate of itself."""
    sql = f"""
        insert into ingest_files ({_FACTS}, state, content_id) values ({_VALUES}, 'duplicate', %(content_id)s)
        on conflict (file_key) do update set content_id = excluded.content_id, reason = null, reasons = null,
            quarantine_path = null, state = case ingest_files.state when 'loaded' then 'loaded' else 'duplicate' end
        returning state
    """
    values = {**facts.values(), "content_id": content_id}
    return execute_query(run, "cannot record the file as a duplicate", sql, values)[0].state


def find_unmoved(run, facts):
    """Where an earlier run was about to move this very file, if it never came to say that it had."""
    sql = "select quarantine_path from ingest_files where file_key = %s and state = 'quarantined'"
    rows = execute_query(run, "cannot look a file up", sql, [facts.key])
    return rows[0].quarantine_path if rows else None


def record_quarantined(run, facts, report, quarantine_path):
    """Records a bad file and where it is about to go; its row. Before the move, so that a crash in between loses neither."""
    sql = f"""
        insert into ingest_files as f ({_FACTS}, state, reason, reasons, quarantine_path)
        values ({_VALUES}, 'quarantined', %(reason)s, %(reasons)s, %(quarantine_path)s)
        on conflict (file_key) do update set state = 'quarantined', reason = excluded.reason, reasons = excluded.reasons,
            quarantine_path = excluded.quarantine_path, content_id = null
        returning {_QUARANTINE_COLUMNS}
    """
    values = {
        **facts.values(),
        "reason": report.summary(),
        "reasons": Jsonb(report.as_json()),
        "quarantine_path": quarantine_path,
    }
    return execute_query(run, "cannot record the file as quarantined", sql, values)[0]


def record_moved(run, file_id, quarantine_path):
    """The last word: the file lies in quarantine, or (None) not. Its key is given up: it may be brought back."""
    sql = """
        update ingest_files set file_key = null, quarantine_path = %(path)s,
            moved_at = case when %(path)s::text is not null then coalesce(moved_at, now()) end
        where file_id = %(file_id)s
    """
    execute_query(run, "cannot record the move", sql, {"file_id": file_id, "path": quarantine_path})


def last_seen(run, path):
    """The last row of this path (with row_count and content_name of its content), or None."""
    sql = f"""
        select {_QUARANTINE_COLUMNS}, state, task_id, c.row_count, c.file_name as content_name
        from ingest_files f left join ingest_content c using (content_id) where path = %s order by file_id desc limit 1
    """
    rows = execute_query(run, "cannot look a path up", sql, [path])
    return rows[0] if rows else None


def record_missing(run, facts):
    """Records that there was no such file; once for this task."""
    sql = f"""
        insert into ingest_files ({_FACTS}, state) values ({_VALUES}, 'missing') on conflict (file_key) do nothing
    """
    execute_query(run, "cannot record the file as missing", sql, facts.values())
