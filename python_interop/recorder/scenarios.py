"""Everything that is sent while Redis is watched."""
import json
import sys
import time
import uuid
from datetime import date, datetime, time as time_of_day, timedelta, timezone
from decimal import Decimal

from celery import Celery, chain, chord, group
from kombu import Connection, Queue
from kombu.utils.json import dumps

from .app import (
    URL, add, app, constant, die, echo, fail, flaky, give_up, ignored, process_file_task, progress, retry_later,
    sends_another, sleep, tsum,
)

LATER = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LATER_MICRO = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def calls():
    """Name, task, args, kwargs and options of the messages that the compose test makes again."""
    big = ['word ' * 300, 'x' * 1200, list(range(600))]
    return [
        ('delay', process_file_task, ['data/split_1.csv'], {}, {}),
        ('keyword_argument', process_file_task, [], {'file_path': 'data/split_1.csv'}, {}),
        ('no_arguments', constant, [], {}, {}),
        ('two_arguments', add, [1, -2], {}, {}),
        ('unicode', echo, ['größe', '日本語', '\U0001f600', 'e\u0301'], {'ключ': 'значение'}, {}),
        ('escapes', echo, ['it\'s', '"quoted"', 'both \' and "', 'back\\slash', 'tab\tnew\nline\r', '\x00\x1f\x7f\x80'],
         {}, {}),
        ('floats', echo, [0.0, -0.0, 1.0, 0.1, 1e-05, 1e+16, 123456789012345680.0, 5e-324, 1.7976931348623157e+308,
                          1 / 3, 1e22, 9999999999999998.0, 0.0001], {}, {}),
        ('integers', echo, [0, -1, 2**31, 2**53 + 1, 2**63 - 1, -2**63, 2**64 - 1], {}, {}),
        ('nested', echo, [[1, [2, [3, [4]]]], {'a': {'b': {'c': {'d': 1}}}}, [], {}, None, True, False],
         {'k': [None, {'x': [1]}]}, {}),
        ('long_text', echo, [big[0]], {}, {}),
        ('long_word', echo, [big[1], 'after'], {}, {}),
        ('long_list', echo, [big[2], 'after'], {'k': big[2]}, {}),
        ('long_everything', echo, big, {'a' * 1100: 1, 'b': 2}, {}),
        ('eta', add, [1, 2], {}, {'eta': LATER}),
        ('eta_micro', add, [1, 2], {}, {'eta': LATER_MICRO}),
        ('countdown', add, [1, 2], {}, {'countdown': 10}),
        ('expires', add, [1, 2], {}, {'expires': 3600}),
        ('expires_at', add, [1, 2], {}, {'expires': LATER}),
        ('priority', add, [1, 2], {}, {'priority': 5}),
        ('queue', add, [1, 2], {}, {'queue': 'other'}),
        ('headers', add, [1, 2], {}, {'headers': {'traceparent': '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
                                                 'tenant': {'id': 7}}}),
        ('ignore_result', add, [1, 2], {}, {'ignore_result': True}),
        ('time_limits', add, [1, 2], {}, {'time_limit': 20, 'soft_time_limit': 10.5}),
        ('shadow', add, [1, 2], {}, {'shadow': 'shown.as'}),
        ('argsrepr', echo, [1, 2], {'secret': 'x'}, {'argsrepr': '(<hidden>)', 'kwargsrepr': '{}'}),
        ('root_and_parent', add, [1, 2], {}, {'root_id': 'the-root', 'parent_id': 'the-parent'}),
        ('transient', add, [1, 2], {}, {'delivery_mode': 1}),
        ('stamped', add, [1, 2], {}, {'stamped_headers': ['batch'], 'batch': 'b-7'}),
        ('link', add, [1, 2], {}, {'link': add.s(10)}),
        ('links', add, [1, 2], {}, {'link': [add.s(10), echo.si('x', k=1).set(queue='other', countdown=3)]}),
        ('link_error', fail, ['value'], {}, {'link_error': echo.s()}),
    ]


def jsonable_options(options):
    return json.loads(dumps({
        key: value.isoformat() if isinstance(value, datetime) else value for key, value in options.items()
    }))


def record_sent(recorder):
    """What a program sends."""
    for name, task, args, kwargs, options in calls():
        call = {'task': task.name, 'args': args, 'kwargs': kwargs, 'options': jsonable_options(options)}
        with recorder.scenario(name, call):
            task.apply_async(tuple(args), kwargs, **options)
    with recorder.scenario('send_task_of_a_name'):
        app.send_task('other.task', args=[1])
    with recorder.scenario('chain'):
        chain(add.s(1, 2), add.s(4), echo.s('end', k=2)).apply_async()
    with recorder.scenario('group'):
        group(add.s(i, i) for i in range(2)).apply_async()
    with recorder.scenario('chord'):
        chord([add.s(1, 1), add.s(2, 2)], tsum.s()).apply_async()
    with recorder.scenario('chain_with_chord'):
        chain(add.s(1, 2), group(add.s(3), add.s(4)), tsum.s(), echo.s()).apply_async()
    with recorder.scenario('group_as_callback'):
        add.apply_async((1, 2), link=group(add.s(1), add.s(2)), link_error=[echo.s(), echo.si()])
    with recorder.scenario('xmap_and_chunks'):
        add.starmap([(1, 2), (3, 4)]).apply_async()
        add.chunks([(1, 2), (3, 4)], 1).apply_async()
    with recorder.scenario('kombu_types'):
        echo.delay(datetime(2026, 1, 2, 3, 4, 5), b'bytes', LATER.date())
        echo.delay(LATER_MICRO, datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-5.5))), time_of_day(1, 2, 3, 4),
                   Decimal('1.50'), uuid.UUID(int=7), b'\xff\x00', at=date(2026, 1, 2))
    with recorder.scenario('no_json_elsewhere'):
        echo.delay(float('nan'), [float('inf')], {'k': -float('inf')}, 2**64, -2**63 - 1, 10**40, 'half \ud83d', **{'\udc00': 1})
        add.apply_async((float('nan'), 10**30), link=echo.s(float('inf'), 2**70), headers={'ratio': float('nan'), 'big': 2**65})
    for serializer in ('msgpack', 'yaml'):
        with recorder.scenario(f'serializer_{serializer}'):
            echo.apply_async((1, -2.5, 'größe \U0001f600', None, True, [1, [2]], float('nan'), 2**64 - 1, b'\xff', 'yes'),
                             {'k': {'a': [{}]}}, serializer=serializer)
    with recorder.scenario('serializer_msgpack_link'):
        add.apply_async((1, 2), serializer='msgpack', link=add.s(1))
    with recorder.scenario('serializer_yaml_types'):
        shared = [1, 2]
        echo.apply_async((LATER_MICRO, datetime(2026, 1, 2, 3, 4, 5), date(2026, 1, 2), 10**30, 1e-05, shared, shared),
                         serializer='yaml')
    with recorder.scenario('serializer_pickle'):
        echo.apply_async((1,), serializer='pickle')
    for compression in ('gzip', 'bzip2', 'zstd', 'brotli'):
        with recorder.scenario(f'compression_{compression}'):
            echo.apply_async(('text ' * 100, list(range(50))), {'k': 'v'}, compression=compression)
    with recorder.scenario('serialized_and_compressed'):
        echo.apply_async(('text ' * 100,), serializer='msgpack', compression='zstd')
    with recorder.scenario('protocol_1'):
        old = Celery('old', broker=URL, backend=URL, task_protocol=1)
        old.send_task('worker.tasks.add', args=[2, 2], kwargs={})
        old.send_task('worker.tasks.add', args=['a', 'b'], kwargs={'k': 1}, retries=2, eta=LATER, time_limit=7,
                      link=add.s(1), link_error=[echo.s()])
        local = datetime(2030, 1, 2, 3, 4, 5)
        old.conf.update(enable_utc=False, timezone='Asia/Kolkata')
        old.send_task('worker.tasks.add', args=[1, 2], eta=local, expires=local, group_id='a-group')
        old.send_task('worker.tasks.add', args=[1, 2], countdown=10, serializer='msgpack', compression='zlib')
        old.close()
    with recorder.scenario('plain_body'):
        with Connection(URL, transport_options={'body_encoding': None}) as connection:
            connection.default_channel.body_encoding = None
            with app.amqp.Producer(connection, auto_declare=False) as producer:
                add.apply_async((1, 2), producer=producer)
    with recorder.scenario('given_back'):
        app.send_task('worker.tasks.add', args=[1, 2], queue='held')
        with app.connection_for_read() as connection:
            queue = Queue('held', channel=connection.default_channel)
            queue.get().requeue()


def record_worked(recorder):
    """What a worker sends and stores; each call is awaited, so that scenarios do not mix."""
    def finish(name, send, wait=0.0):
        with recorder.scenario(name):
            result = send()
            try:
                result.get(timeout=10, propagate=False)
            except Exception as exc:  # what cannot be fetched was still recorded
                print(f'{name}: {exc!r}', file=sys.stderr)
            time.sleep(wait)

    finish('success', lambda: process_file_task.delay('data/split_1.csv'))
    finish('success_unicode', lambda: echo.delay('größe', k='\U0001f600'))
    finish('success_float', lambda: constant.delay())
    finish('progress', lambda: progress.delay())
    for kind in ('value', 'unicode', 'key', 'os', 'empty', 'two', 'nested', 'unserializable'):
        finish(f'failure_{kind}', lambda: fail.delay(kind))
    finish('rejected', lambda: fail.delay('reject'))
    finish('wrong_arguments', lambda: app.send_task('worker.tasks.process_file_task', args=['a', 'b']))
    finish('not_registered', lambda: app.send_task('worker.tasks.missing', args=[1]))
    finish('expired', lambda: add.apply_async((1, 2), expires=datetime.now(timezone.utc) - timedelta(seconds=5)))
    finish('soft_time_limit', lambda: sleep.apply_async((30,), soft_time_limit=0.5))
    finish('time_limit', lambda: sleep.apply_async((30,), time_limit=1))
    finish('worker_lost', lambda: die.delay())
    finish('retried', lambda: flaky.apply_async((1,), {'k': 'v'}, headers={'tenant': 7}, priority=3, expires=3600,
                                                 time_limit=30, link=add.s(1)), 0.5)
    finish('retries_exceeded', lambda: give_up.delay())
    finish('retried_serialized', lambda: flaky.apply_async((1,), serializer='msgpack', compression='zlib', link=add.s(1)), 0.5)
    finish('followed_serialized', lambda: add.apply_async((1, 2), serializer='msgpack', compression='zlib', link=add.s(10)), 1)
    finish('no_json_elsewhere_run', lambda: echo.delay(float('nan'), 2**70, 'half \ud83d', link=add.s(1)), 0.5)
    finish('kombu_types_run', lambda: echo.delay(LATER_MICRO, Decimal('1.5'), b'\xff', uuid.UUID(int=7)))
    finish('followed', lambda: add.apply_async((1, 2), link=add.s(10)), 1)
    finish('followed_by_immutable', lambda: add.apply_async((1, 2), link=echo.si('own', k=1)), 1)
    finish('failure_followed', lambda: fail.apply_async(('value',), link_error=echo.s()), 1)
    finish('chain_run', lambda: chain(add.s(1, 2), add.s(4), echo.s('end', k=2)).apply_async())
    finish('group_run', lambda: group(add.s(i, i) for i in range(2)).apply_async())
    finish('chord_run', lambda: chord([add.s(1, 1), add.s(2, 2)], tsum.s()).apply_async())
    finish('chord_failed', lambda: chord([add.s(1, 1), fail.s('value')], tsum.s()).apply_async())
    finish('parent', lambda: sends_another.delay(), 0.5)
    with recorder.scenario('retry_later'):
        retry_later.delay()
        time.sleep(1)
    with recorder.scenario('result_ignored'):
        ignored.delay()
        fail.delay('ignore')
        time.sleep(1)


def record_control(recorder):
    """What remote control is asked, and what the worker answers."""
    def ask(method, **fields):
        with recorder.scenario(f'control_{method}'):
            app.control.broadcast(method, reply=True, limit=1, timeout=5, **fields)

    ask('ping')
    ask('registered', arguments={'taskinfoitems': ['acks_late']}, destination=['w1@host'])
    ask('clock', pattern='w1@*', matcher='glob')
    ask('revoked')
    ask('revoke', arguments={'task_id': ['größe'], 'terminate': False, 'signal': 'SIGTERM'})
    ask('no_such_method')
    with recorder.scenario('control_enable_events'):
        app.control.enable_events()
        time.sleep(0.5)


def record_extended(recorder):
    """What a worker with `result_extended` stores."""
    with recorder.scenario('extended'):
        process_file_task.delay('data/split_1.csv').get(timeout=10)
        add.apply_async((1, 2), stamped_headers=['batch'], batch='b-7').get(timeout=10)
