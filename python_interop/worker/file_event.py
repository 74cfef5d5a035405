"""The record on topic `file_events` ("this file is complete, load it"), and the id of the task that is made of it.

Rules: docs/ingest-rules.md, "The record". A path is checked as text before anything else sees it; what it leads to is
checked by the task, with the file open.
"""
import hashlib
import json
import os
import stat
import uuid
from dataclasses import dataclass

from scripts.paths import BadPath, absolute, below_root

MAX_RECORD_BYTES = 64 * 1024  # two paths of PATH_MAX, each byte written as a six-byte escape, fit in

TASK_ID_NAMESPACE = uuid.UUID("5d1f6f0a-93c2-5b7e-a0c4-2c6b8e37d914")


@dataclass(frozen=True)
class Version:
    """Which content of a path is meant: what changes when a file is written again or replaced."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status):
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class FileEvent:
    file_path: str  # as the record has it; this is the task's argument
    resolved: bytes  # the same path, from `/` on
    version: Version | None  # that was announced; a bare record has none


class BadRecord(Exception):
    """A record that cannot become a task; `reason` is one word for the kind of fault."""

    def __init__(self, reason, text):
        super().__init__(text)
        self.reason = reason


def compose(file_path, file_name, version):
    """A record's value."""
    return json.dumps({"file_path": file_path, "file_name": file_name, **vars(version)}).encode()


def parse(value, working_dir, root):
    """The event of a record's value; the directories are bytes. Raises BadRecord."""
    record = _object(value)
    if "file_path" not in record:
        raise BadRecord("no_file_path", 'the record has no "file_path"')
    file_path = record["file_path"]
    if not isinstance(file_path, str):
        raise BadRecord("file_path_not_text", f'"file_path" is {_kind(file_path)}, not a string')
    try:
        parts = below_root(file_path, working_dir, root)
    except BadPath as bad:
        text = f'"file_path" is {bad.violation.text!r}, expected {bad.violation.rule}'
        raise BadRecord(bad.violation.reason, text) from None
    # No producer announces a hidden name, and the producer's own journal has one.
    if any(part.startswith(b".") for part in parts):
        raise BadRecord("hidden_name", f"the path {file_path!r} is hidden (a name that begins with a dot)")
    resolved = b"/".join([absolute(working_dir, root).rstrip(b"/"), *parts])
    return FileEvent(file_path, resolved, _version(record))


def _object(value):
    if value is None:
        raise BadRecord("tombstone", "the record has no value (a tombstone)")
    if len(value) > MAX_RECORD_BYTES:
        raise BadRecord("too_large", f"the record has {len(value)} bytes, more than {MAX_RECORD_BYTES}")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadRecord("not_utf8", f"the record is not UTF-8 (first bad byte at {error.start})") from None
    try:
        record = json.loads(text, parse_constant=_no_constant)
        # Half a surrogate pair, which no text of PostgreSQL can hold.
        json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRecord("not_json", f"the record is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise BadRecord("not_an_object", f"the record is {_kind(record)}, not a JSON object")
    return record


def _no_constant(name):
    raise ValueError(f"{name} is no number")


def _kind(value):
    kinds = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def _version(record):
    """The announced version; what is not a number of the right kind counts as absent."""
    limits = {"size": (0, 2**64), "mtime_ns": (-(2**63), 2**63), "inode": (0, 2**64)}
    numbers = {name: record.get(name) for name in limits}
    is_right = all(type(n) is int and limits[name][0] <= n < limits[name][1] for name, n in numbers.items())
    return Version(**numbers) if is_right else None


def task_id(event, topic, partition, offset):
    """The id of the file's version: as announced; for a bare record as it is now; else of the record's own place.

    The same file announced, delivered or replayed again has the same id.
    """
    version = event.version or _version_now(event.resolved)
    if version is None:
        return _uuid5(f"record\0{topic}\0{partition}\0{offset}".encode())
    return _uuid5(b"file\0%b\0%d\0%d\0%d" % (event.resolved, version.size, version.mtime_ns, version.inode))


def _version_now(path):
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    return Version.of(status) if stat.S_ISREG(status.st_mode) else None


def _uuid5(name):
    """uuid.uuid5 of bytes, which Python takes from 3.12 on."""
    digest = hashlib.sha1(TASK_ID_NAMESPACE.bytes + name, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))
