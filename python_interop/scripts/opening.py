"""Opens a file below the watch directory, and nothing else (docs/ingest-rules.md, "Which file").

Only regular files whose every path component is a real directory below the root: the components are opened one by one
with O_NOFOLLOW, and there is no `..` among them (see `paths`), so that a link put in between two looks is not followed
either. A FIFO, socket or device is looked at but never opened, so that none can block a worker.

What an error says of the file itself is told apart; every other one is an outage.
"""
import errno
import os
import stat
from dataclasses import dataclass

from errors import disk
from scripts.report import Violation, cut

MAX_FILE_BYTES = 4 << 30  # exact medians hold some 40 bytes a row in memory

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Identity:
    """Which file it is, and in what state: another write, or another file under the name, shows here."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status):
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Place:
    """A directory entry. Its directory stays open, so that what is moved later is an entry of that very directory."""

    def __init__(self, directory, name, identity):
        self.directory = directory
        self.name = name
        self.identity = identity

    def is_unchanged(self):
        """Whether the very file still lies here, and nobody has written to it."""
        status = _look(self.directory, self.name)
        return status is not None and Identity.of(status) == self.identity


@dataclass(frozen=True)
class Found:
    """What lies at a path: nothing (no field set), something refused, or a regular file at its place.

    With a place and a violation: a regular file that must not be read. `file` is a descriptor, open for reading.
    """

    place: Place | None = None
    file: int | None = None
    violation: Violation | None = None

    @property
    def is_gone(self):
        return self.place is None and self.violation is None


class Opening:
    """A look at `parts` below `root`; what it opens is closed at the end of its `with`."""

    def __init__(self, root, parts):
        self._root = root
        self._parts = parts
        self._open = []

    def __enter__(self):
        try:
            with disk(f"cannot open a file below {os.fsdecode(self._root)}"):
                return self._find()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        while self._open:
            os.close(self._open.pop())

    def _keep(self, descriptor):
        self._open.append(descriptor)
        return descriptor

    def _find(self):
        # A root that is away would make every file look deleted: its OSError is an outage.
        directory = self._keep(os.open(self._root, _DIRECTORY))
        *parents, name = self._parts
        for part in parents:
            try:
                directory = self._keep(os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory))
            except OSError as error:
                return _no_directory(directory, part, error)
        try:
            return self._entry(directory, name)
        except OSError as error:
            return _no_entry(name, error)

    def _entry(self, directory, name):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if violation := _wrong_kind(status, name):
            return Found(violation=violation)
        place = Place(directory, name, Identity.of(status))
        if violation := _must_not_be_read(name, status.st_size):
            return Found(place=place, violation=violation)
        try:
            file = self._keep(os.open(name, _READ, dir_fd=directory))
        except PermissionError:
            return Found(place=place, violation=Violation("unreadable", "a file that this worker may read"))
        # What is open counts, not what was there a moment before.
        status = os.fstat(file)
        if violation := _wrong_kind(status, name):
            return Found(violation=violation)
        place.identity = Identity.of(status)
        return Found(place=place, file=file)


def _look(directory, name):
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _must_not_be_read(name, size_bytes):
    try:
        name.decode()
    except UnicodeDecodeError:
        return Violation("bad_name", "a file name in UTF-8", text=cut(name))
    if size_bytes > MAX_FILE_BYTES:
        return Violation("too_large", f"at most {MAX_FILE_BYTES} bytes, not {size_bytes}")
    return None


def _wrong_kind(status, name):
    if stat.S_ISREG(status.st_mode):
        return None
    return _link(name) if stat.S_ISLNK(status.st_mode) else _not_regular(name)


def _link(name):
    return Violation("outside_root", "a file itself: links are not followed", text=cut(name))


def _not_regular(name):
    return Violation("not_regular", "a regular file", text=cut(name))


def _no_entry(name, error):
    match error.errno:
        case errno.ENOENT:
            return Found()
        case errno.ELOOP:
            return Found(violation=_link(name))
        case errno.ENXIO:
            return Found(violation=_not_regular(name))
        case errno.ENAMETOOLONG:
            rule = "a name that the file system can hold"
            return Found(violation=Violation("bad_name", rule, text=cut(name)))
    raise error


def _no_directory(parent, name, error):
    """A component that is no directory: a link (refused), or something else (then nothing can lie below it)."""
    match error.errno:
        case errno.ENOTDIR | errno.ELOOP:
            status = _look(parent, name)
            is_link = status is not None and stat.S_ISLNK(status.st_mode)
            return Found(violation=_link(name)) if is_link else Found()
        case errno.EACCES:
            rule = "a directory that this worker may enter"
            return Found(violation=Violation("unreadable", rule, text=cut(name)))
    return _no_entry(name, error)


def identity_of(file):
    """As an open file says now."""
    return Identity.of(os.fstat(file))


def links_of(file):
    """How many names an open file has."""
    return os.fstat(file).st_nlink
