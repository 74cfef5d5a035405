"""Directory entries that appear whole or not at all, and never in place of another.

A file is written without a name (O_TMPFILE), synced, and then linked: a crash at any moment leaves nothing behind. Where
the file system knows no O_TMPFILE, a hidden temporary name takes its place. Names are given, never replaced: by
renameat2(RENAME_NOREPLACE), which Python does not have, through ctypes.
"""
import ctypes
import errno
import itertools
import os

_MODE = 0o640  # the worker's own, and its group may read

_RENAME_NOREPLACE = 1

_libc = ctypes.CDLL(None, use_errno=True)

_temporary = itertools.count()


def create_whole(directory, name, write):
    """Creates `name` in the open `directory` with what `write(descriptor)` writes; durable when it returns.

    False if something else has the name.
    """
    try:
        file = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, _MODE, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
        is_created = create_by_name(directory, name, write)
    else:
        with os.fdopen(file, "wb", closefd=True):
            write(file)
            os.fsync(file)
            is_created = _link_unnamed(file, directory, name)
    if is_created:
        os.fsync(directory)
    return is_created


def create_by_name(directory, name, write):
    """As `create_whole`, without O_TMPFILE."""
    temporary = f".celeriac-twin-{os.getpid()}-{next(_temporary)}.tmp"
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(temporary, flags, _MODE, dir_fd=directory)
    try:
        with os.fdopen(file, "wb", closefd=True):
            write(file)
            os.fsync(file)
        is_renamed = rename(directory, temporary, directory, name)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    if not is_renamed:
        os.unlink(temporary, dir_fd=directory)
    return is_renamed


def rename(from_directory, old, to_directory, new):
    """Gives an entry another name, perhaps in another directory of the file system. False if something has that name.

    Raises OSError; EXDEV for another file system.
    """
    error = _renameat2(from_directory, old, to_directory, new)
    if error in (errno.EINVAL, errno.ENOSYS):
        # A kernel or file system without the flag: two names for a moment, then one.
        return _link_and_unlink(from_directory, old, to_directory, new)
    if error not in (0, errno.EEXIST):
        raise OSError(error, os.strerror(error), os.fsdecode(old))
    return error == 0


def _renameat2(from_directory, old, to_directory, new):
    """0, or the error's number."""
    if not hasattr(_libc, "renameat2"):
        return errno.ENOSYS
    paths = (from_directory, os.fsencode(old), to_directory, os.fsencode(new))
    return ctypes.get_errno() if _libc.renameat2(*paths, _RENAME_NOREPLACE) else 0


def _link_and_unlink(from_directory, old, to_directory, new):
    try:
        os.link(old, new, src_dir_fd=from_directory, dst_dir_fd=to_directory, follow_symlinks=False)
    except FileExistsError:
        return False
    os.unlink(old, dir_fd=from_directory)
    return True


def _link_unnamed(file, directory, name):
    try:
        os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        return False
    return True
