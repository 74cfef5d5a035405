"""Python's client reads what our worker has stored: extended results under a prefix, and the exception of a task."""
import pytest
from celery import exceptions

from documents import ProjError, add, app, custom, parent, progress

TIMEOUT = 20


def test_a_value_comes_with_all_that_is_known_of_the_task():
    result = add.delay(1, y=2)
    assert result.get(timeout=TIMEOUT) == 3
    assert (result.name, result.args, result.kwargs) == ("proj.add", [1], {"y": 2})
    assert (result.retries, result.queue, result.worker.split("@")[0]) == (0, "celery", "celery")
    assert result.exists() and result.date_done


def test_the_exception_has_its_type_and_its_arguments():
    # Python finds the class where the module of that name is imported: in a client that has it.
    with pytest.raises(ProjError) as raised:
        custom.delay().get(timeout=TIMEOUT)
    assert raised.value.args == ("bad", 7)


def test_a_panic_says_where():
    result = app.send_task("proj.panics")
    with pytest.raises(RuntimeError, match="on purpose"):
        result.get(timeout=TIMEOUT)
    assert result.traceback.startswith("Traceback (most recent call last):\n  File \"")
    assert "tests/worker/tasks.rs\", line " in result.traceback


def test_the_causes_of_an_error_are_in_the_traceback():
    result = app.send_task("proj.caused")
    with pytest.raises(OSError):
        result.get(timeout=TIMEOUT)
    causes = [line for line in result.traceback.splitlines() if line and "direct cause" not in line]
    assert causes == ["no such disk", "cannot read the header", "OSError: cannot load a.csv"]


def test_children_and_forgetting():
    result = parent.delay()
    child = result.get(timeout=TIMEOUT)
    assert [one.id for one in result.children] == [child]
    result.forget()
    assert not result.exists()


def test_a_last_state_follows_a_state_of_the_tasks_own():
    assert progress.delay().get(timeout=TIMEOUT) is None


def test_a_revoked_task_is_told_from_a_failed_one():
    with pytest.raises(exceptions.TaskRevokedError, match="expired"):
        add.apply_async((1, 2), expires=-1).get(timeout=TIMEOUT)
