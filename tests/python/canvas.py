"""Python's client starts canvases; every other task of them goes to the queue OTHER_QUEUE, whoever serves that."""
import os

import pytest
from celery import chain, chord, exceptions, group
from celery.result import GroupResult

from proj import add, app, boom, identity, total

TIMEOUT = 20
OTHER = os.environ.get("OTHER_QUEUE", "celery")


def other(signature):
    return signature.set(queue=OTHER)


def each(n):
    return other(add.s(n, n)) if n % 2 else add.s(n, n)


def get(canvas):
    return canvas.apply_async().get(timeout=TIMEOUT)


def test_a_chain():
    assert get(chain(add.s(2, 2), other(add.s(4)), add.s(8))) == 16
    assert get(other(add.s(2, 2)) | add.si(1, 1)) == 2


def test_a_group():
    assert get(group(each(n) for n in range(6))) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("of", [lambda body: body, other])
def test_a_chord(of):
    assert get(chord([each(n) for n in range(6)], of(total.s()))) == 30


def test_all_in_each_other():
    middle = group(add.s(1), other(add.s(2)))
    last = group(add.s(10), other(add.s(20)))
    assert get(add.s(1, 1) | middle | other(total.s()) | last) == [17, 27]
    inner = chord([each(n) for n in range(4)], other(total.s()))
    outer = chord([inner, other(add.s(1, 1)) | add.s(1)], total.s())
    assert get(outer | other(add.s(100))) == 115


def test_a_callback_has_the_id_that_was_fixed():
    callback = other(add.s(100))
    called = callback.freeze()
    assert get(add.s(1, 1).set(link=[callback])) == 2
    assert called.get(timeout=TIMEOUT) == 102


def test_a_chord_with_a_failure_in_its_header():
    errback = other(identity.s())
    told = errback.freeze()
    result = chord([add.s(1, 1), other(boom.s("ValueError", "bad"))], total.s().on_error(errback)).delay()
    assert told.get(timeout=TIMEOUT) == result.id
    with pytest.raises(ValueError, match="bad"):
        result.get(timeout=TIMEOUT)
    with pytest.raises(exceptions.ChordError, match="ValueError"):
        app.AsyncResult(result.id).get(timeout=TIMEOUT)


def test_a_group_with_failures():
    result = group(boom.s("ValueError", "a"), other(boom.s("KeyError", "b")), add.s(1, 1)).delay()
    with pytest.raises((ValueError, KeyError)):
        result.get(timeout=TIMEOUT)
    for one, error in zip(result.results, [ValueError, KeyError]):
        with pytest.raises(error):
            one.get(timeout=TIMEOUT)
    assert result.results[2].get(timeout=TIMEOUT) == 2
    assert result.completed_count() == 1
