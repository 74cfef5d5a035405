"""Python's client against whatever worker consumes: every call must return or raise as with a Python worker."""
import time

import pytest
from celery import exceptions, signature

from proj import add, app, boom, nap_late, process_file_task

TIMEOUT = 20


def send(name, *args, **options):
    return app.send_task(name, args=args, **options)


def test_positional_and_keyword_arguments():
    assert add.delay(1, 2).get(timeout=TIMEOUT) == 3
    assert add.delay(x=1, y=5).get(timeout=TIMEOUT) == 6


def test_the_exception_that_the_task_names_is_raised():
    with pytest.raises(ValueError, match="bang"):
        boom.delay("ValueError", "bang").get(timeout=TIMEOUT)
    with pytest.raises(LookupError):
        boom.delay("LookupError", "x").get(timeout=TIMEOUT)


@pytest.mark.parametrize("args, kwargs, text", [
    ([1], {}, r"^add\(\) missing 1 required positional argument: 'y'$"),
    ([], {}, r"^add\(\) missing 2 required positional arguments: 'x' and 'y'$"),
    ([1, 2, 3], {}, r"^add\(\) takes 2 positional arguments but 3 were given$"),
    ([1], {"z": 3}, r"^add\(\) got an unexpected keyword argument 'z'$"),
    ([1], {"x": 3}, r"^add\(\) got multiple values for argument 'x'$"),
])
def test_wrong_arguments_are_pythons_type_error(args, kwargs, text):
    with pytest.raises(TypeError, match=text):
        app.send_task("proj.add", args=args, kwargs=kwargs).get(timeout=TIMEOUT)


def test_a_retry_keeps_the_id_and_counts():
    result = send("proj.flaky", 2, 5)
    assert result.get(timeout=TIMEOUT) == 2


def test_used_up_retries_raise_the_cause():
    result = send("proj.flaky", 9, 1)
    with pytest.raises(KeyError, match="nope"):
        result.get(timeout=TIMEOUT)
    assert result.state == "FAILURE"


def test_a_panic_and_a_rejection_are_failures():
    with pytest.raises(RuntimeError, match="on purpose"):
        send("proj.panics").get(timeout=TIMEOUT)
    with pytest.raises(exceptions.Reject):
        send("proj.refuses").get(timeout=TIMEOUT)
    assert add.delay(1, 1).get(timeout=TIMEOUT) == 2


def test_headers_and_text_arrive_unchanged():
    text = "é 温度 🌡 \"quoted\" \\ \n"
    got = app.send_task("proj.echo", args=[text, 1.5, None], kwargs={"k": [True]}, headers={"traceparent": "00-1"})
    assert got.get(timeout=TIMEOUT) == {"args": [text, 1.5, None], "kwargs": {"k": [True]}, "headers": {"traceparent": "00-1"}}


def single(result):
    assert result.get(timeout=TIMEOUT) == 3
    return result.children


def test_links_run_with_the_result_and_become_children():
    result = add.apply_async((1, 2), link=[add.s(10), add.si(100, 1)])
    assert result.get(timeout=TIMEOUT) == 3
    [group] = result.children
    assert sorted(group.get(timeout=TIMEOUT)) == [13, 101]
    [child] = single(add.apply_async((1, 2), link=add.s(10)))
    assert child.get(timeout=TIMEOUT) == 13


def test_an_errback_gets_the_failed_tasks_id():
    caught = app.signature("proj.echo", options={"task_id": "errback-of-boom"})
    failed = boom.apply_async(("ValueError", "x"), link_error=caught)
    with pytest.raises(ValueError):
        failed.get(timeout=TIMEOUT)
    assert app.AsyncResult("errback-of-boom").get(timeout=TIMEOUT)["args"] == [failed.id]


def test_a_chain_hands_the_result_on():
    chain = add.s(1, 2) | add.s(10) | add.s(100)
    assert chain.apply_async().get(timeout=TIMEOUT) == 113


def test_a_failure_in_a_chain_is_raised_at_its_end():
    last = (add.s(1, 2) | boom.si("LookupError", "x") | add.s(10) | add.s(100)).apply_async()
    with pytest.raises(LookupError):
        last.get(timeout=TIMEOUT)
    # It raises as soon as any task before it has failed; the ones between may be written a moment later.
    last.parent.get(timeout=TIMEOUT, propagate=False)
    assert (last.parent.state, last.parent.parent.state, last.parent.parent.parent.state) == ("FAILURE", "FAILURE", "SUCCESS")


def test_a_task_sent_from_a_task_is_its_child():
    result = send("proj.parent")
    child = result.get(timeout=TIMEOUT)
    assert [r.id for r in result.children] == [child]
    assert app.AsyncResult(child).get(timeout=TIMEOUT) == 4


def test_an_eta_is_waited_for():
    started = time.monotonic()
    assert add.apply_async((1, 2), countdown=1).get(timeout=TIMEOUT) == 3
    assert time.monotonic() - started >= 0.9


def test_an_expired_task_is_revoked():
    with pytest.raises(exceptions.TaskRevokedError, match="expired"):
        add.apply_async((1, 2), expires=-1).get(timeout=TIMEOUT)


def test_an_ignored_result_is_not_stored():
    result = add.apply_async((1, 2), ignore_result=True)
    assert add.delay(2, 2).get(timeout=TIMEOUT) == 4
    assert app.backend.get(app.backend.get_key_for_task(result.id)) is None


def test_priorities_are_taken_lowest_number_first():
    blockers = [nap_late.delay(0.5) for _ in range(2)]
    for blocker in blockers:
        while blocker.state == "PENDING" and app.connection_for_read().channel().client.llen("celery"):
            time.sleep(0.01)
    late = [add.apply_async((n, 0), priority=9) for n in range(20)]
    soon = [add.apply_async((n, 0), priority=0) for n in range(20)]
    done = lambda r: (r.get(timeout=TIMEOUT), r.date_done)[1]  # noqa: E731
    assert sorted(map(done, soon))[0] < sorted(map(done, late))[-1]
