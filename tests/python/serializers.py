"""Python's client against our worker: every serializer, every compression, and values that JSON has no word for."""
import math
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from celery import chain, signature

from proj import app

TIMEOUT = 20
ODD = [math.inf, -math.inf, 2**64, -10**40, 'half \ud83d', {'\udc00': [2**70]}, {'\x00celeriac': 'NaN'}, 'größe']
AT = datetime(2026, 11, 23, 17, 43, 36, 694319, tzinfo=timezone.utc)
TYPED = (AT, date(2026, 11, 23), math.inf, 2**100, Decimal('1.50'), uuid.UUID(int=7), b'\xff\x00')


def send(name, *args, **options):
    return app.send_task(name, args=args, **options)


def test_what_json_has_no_word_for_comes_back_even_from_a_retry():
    assert send('proj.echo', *ODD).get(timeout=TIMEOUT)['args'] == ODD
    assert send('proj.echo_again', *ODD).get(timeout=TIMEOUT) == ODD
    [nan] = send('proj.echo_again', math.nan).get(timeout=TIMEOUT)
    assert math.isnan(nan)


def test_a_chain_and_a_callback_hand_it_on():
    first = signature('proj.echo_again', args=ODD, app=app)
    second = signature('proj.echo', app=app)
    result = chain(first, second).apply_async()
    assert result.get(timeout=TIMEOUT)['args'] == [ODD]


def test_typed_parameters_and_results_keep_their_types():
    result = send('proj.typed', *TYPED).get(timeout=TIMEOUT)
    at, day, ratio, large, amount, ident, data = TYPED
    assert result == {'at': at, 'day': day, 'ratio': ratio, 'large': large, 'amount': amount, 'id': ident, 'data': data}
    assert str(result['amount']) == '1.50'


def test_what_a_parameter_cannot_take_is_a_type_error():
    for place, value in [(3, 2**200), (2, 'half \ud83d'), (0, Decimal('1')), (4, AT)]:
        args = list(TYPED)
        args[place] = value
        with pytest.raises(TypeError):
            send('proj.typed', *args).get(timeout=TIMEOUT)


@pytest.mark.parametrize('compression', [None, 'gzip', 'bzip2', 'zstd', 'brotli'])
@pytest.mark.parametrize('serializer', ['json', 'msgpack', 'yaml'])
def test_every_serializer_and_compression_is_read(serializer, compression):
    args = [1, -2.5, 'größe \U0001f600', None, True, {'k': [[]]}, 'text ' * 500, b'\xff']
    result = send('proj.echo', *args, serializer=serializer, compression=compression)
    assert result.get(timeout=TIMEOUT)['args'] == args
    again = send('proj.echo_again', *args, serializer=serializer, compression=compression)
    assert again.get(timeout=TIMEOUT) == args


def test_an_old_message_is_run_and_its_retry_too():
    old = app.__class__('old', broker=app.conf.broker_url, backend=app.conf.result_backend, task_protocol=1)
    result = old.send_task('proj.echo_again', args=[1, 'x'], countdown=0.1)
    assert app.AsyncResult(result.id).get(timeout=TIMEOUT) == [1, 'x']
