"""Crash points for the tests: the process kills itself at a named step of a file's way.

    CELERIAC_FAILPOINT=after_commit            the process that gets there ends with SIGKILL (in a worker: the pool's child)
    CELERIAC_FAILPOINT_ONCE=/tmp/was-killed    only if this file does not exist; it is made just before the kill

The Rust program knows the same two variables. Names: before_journal and after_journal in the producer; before_enqueue,
after_enqueue, before_offset_commit and after_offset_commit in the consumer; before_copy, after_copy, before_commit,
after_commit, before_move, after_move, before_sidecar, after_sidecar and before_ack in the task.
"""
import os
import signal


def reach(name):
    """Ends the process if `name` is the failpoint that the environment asks for."""
    if os.environ.get("CELERIAC_FAILPOINT") != name:
        return
    once = os.environ.get("CELERIAC_FAILPOINT_ONCE")
    if once:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
