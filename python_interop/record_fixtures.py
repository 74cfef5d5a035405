"""Records the golden wire files of crates/protocol from real Celery.

    python3 -m venv .celeriac/fixtures-venv
    .celeriac/fixtures-venv/bin/pip install -r python_interop/requirements.txt
    .celeriac/fixtures-venv/bin/python python_interop/record_fixtures.py

Starts a private redis-server on a free port, sends every kind of message, runs a prefork worker over them, and writes
down what Redis saw (MONITOR), byte for byte. Paths and the name of the recording machine are replaced.

    fixtures/messages.jsonl    what lies in queues; with `call` where the message was sent from here by that call
    fixtures/broadcasts.jsonl  what is published: events
    fixtures/results.jsonl     what lies under celery-task-meta-*
    fixtures/bindings.jsonl    binding keys and members
    fixtures/json.jsonl        json.dumps of values
    fixtures/repr.jsonl        repr, str and Celery's saferepr of values
    fixtures/timestamps.jsonl  texts of times and what they mean
    fixtures/exceptions.jsonl  exceptions as stored, their repr and str
    fixtures/printable.jsonl   ranges of characters that str.isprintable accepts

The module is also the app that the worker loads: `celery -A record_fixtures worker`.
"""
import ast
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from celery import Celery, chain, chord, group, states
from celery.exceptions import (
    ChordError, Ignore, InvalidTaskError, MaxRetriesExceededError, NotRegistered, Reject, TaskRevokedError,
)
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_iso8601
from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError
from kombu import Connection, Queue
from kombu.exceptions import ContentDisallowed
from kombu.utils.json import dumps

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / 'fixtures'
URL = os.environ.get('RECORD_URL', 'redis://127.0.0.1:1/0')

app = Celery('worker.tasks', broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_track_started=True,
    worker_send_task_events=True,
    task_send_sent_event=False,
    result_extended=bool(os.environ.get('RECORD_EXTENDED')),
    worker_hijack_root_logger=False,
)


class Failures:
    """A class around a class: exc_type is its qualified name."""

    class Nested(Exception):
        pass


@app.task(name='worker.tasks.process_file_task')
def process_file_task(file_path):
    return {'status': 'loaded', 'rows': 3, 'file': file_path}


@app.task(name='worker.tasks.add')
def add(x, y):
    return x + y


@app.task(name='worker.tasks.tsum')
def tsum(numbers):
    return sum(numbers)


@app.task(name='worker.tasks.echo')
def echo(*args, **kwargs):
    return [args, kwargs]


@app.task(name='worker.tasks.constant')
def constant():
    return 1.5e-07


@app.task(name='worker.tasks.fail')
def fail(kind):
    raise {
        'value': lambda: ValueError('bang'),
        'unicode': lambda: ValueError('größer als 5 €\n\U0001f600'),
        'key': lambda: KeyError('nope'),
        'os': lambda: FileNotFoundError(2, 'No such file or directory', 'data/x.csv'),
        'empty': lambda: RuntimeError(),
        'two': lambda: RuntimeError('a', 2),
        'nested': lambda: Failures.Nested('inner'),
        'unserializable': lambda: ValueError(complex(1, 2)),
        'reject': lambda: Reject('bad', requeue=False),
        'ignore': lambda: Ignore(),
    }[kind]()


@app.task(bind=True, name='worker.tasks.flaky', max_retries=1, default_retry_delay=0.1)
def flaky(self, n, **kwargs):
    try:
        raise KeyError('nope')
    except KeyError as exc:
        raise self.retry(exc=exc)


@app.task(bind=True, name='worker.tasks.give_up', max_retries=0)
def give_up(self):
    raise self.retry()


@app.task(bind=True, name='worker.tasks.retry_later')
def retry_later(self):
    raise self.retry(exc=ValueError('later'), countdown=3600)


@app.task(bind=True, name='worker.tasks.progress')
def progress(self):
    self.update_state(state='PROGRESS', meta={'done': 1, 'of': 2})
    return None


@app.task(name='worker.tasks.sleep')
def sleep(seconds):
    time.sleep(seconds)


@app.task(name='worker.tasks.die', acks_late=False)
def die():
    os.kill(os.getpid(), 9)


@app.task(name='worker.tasks.sends_another')
def sends_another():
    add.delay(1, 2)


@app.task(name='worker.tasks.ignored', ignore_result=True)
def ignored():
    return 1


# --- what is sent -----------------------------------------------------------------------------------------------------

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
    for name, task, args, kwargs, options in calls():
        with recorder.scenario(name) as scenario:
            task.apply_async(tuple(args), kwargs, **options)
        scenario['call'] = {
            'task': task.name, 'args': args, 'kwargs': kwargs, 'options': jsonable_options(options),
        }
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
    with recorder.scenario('protocol_1'):
        old = Celery('old', broker=URL, backend=URL, task_protocol=1)
        old.send_task('worker.tasks.add', args=[2, 2], kwargs={})
        old.send_task('worker.tasks.add', args=['a', 'b'], kwargs={'k': 1}, retries=2, eta=LATER, time_limit=7,
                      link=add.s(1), link_error=[echo.s()])
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


# --- how it is recorded -----------------------------------------------------------------------------------------------

class Recorder:
    """Follows MONITOR on a raw connection: client libraries decode what they show."""

    QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')

    def __init__(self, port):
        self.port = port
        self.commands = []
        self.lock = threading.Condition()
        self.socket = socket.create_connection(('127.0.0.1', port))
        self.socket.sendall(b'MONITOR\r\n')
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        for line in self.socket.makefile('rb'):
            quoted = self.QUOTED.findall(line.split(b'] ', 1)[-1])
            # Redis escapes as a Python bytes literal does.
            parts = [ast.literal_eval('b' + part.decode('latin-1')) for part in quoted]
            if parts:
                with self.lock:
                    self.commands.append(parts)
                    self.lock.notify_all()

    def _mark(self, text):
        with socket.create_connection(('127.0.0.1', self.port)) as connection:
            connection.sendall(f'ECHO {text}\r\n'.encode())
            connection.recv(100)
        mark = [b'ECHO', text.encode()]
        with self.lock:
            if not self.lock.wait_for(lambda: mark in self.commands, 10):
                raise RuntimeError('MONITOR has fallen silent')

    def scenario(self, name):
        return Scenario(self, name)

    def scenarios(self):
        """Pairs of a scenario's name and one command that was seen during it."""
        name = None
        for parts in self.commands:
            if parts[0].upper() == b'ECHO':
                name = parts[1].decode() if not parts[1].startswith(b'end-') else None
            elif name:
                yield name, parts


class Scenario(dict):
    def __init__(self, recorder, name):
        super().__init__()
        self.recorder, self.name = recorder, name
        recorder_scenarios[name] = self

    def __enter__(self):
        self.recorder._mark(self.name)
        return self

    def __exit__(self, *exc_info):
        self.recorder._mark('end-' + self.name)


recorder_scenarios = {}

PATHS = re.compile(r'(?:/[^/\\" ]+)+/(?=(?:celery|kombu|billiard|redis)/|record_fixtures\.py|concurrent/|threading\.py)')


def without_machine(text):
    """Every recording looks as if made on the same machine."""
    return PATHS.sub('', text).replace(f'@{socket.gethostname()}', '@host')


def as_envelope(raw):
    try:
        message = json.loads(raw)
    except ValueError:
        return False
    return isinstance(message, dict) and 'properties' in message


def write_recorded(recorder):
    messages, broadcasts, results, bindings = [], [], {}, set()
    for name, parts in recorder.scenarios():
        command, args = parts[0].upper(), parts[1:]
        if command in (b'LPUSH', b'RPUSH') and as_envelope(args[-1]):
            line = {'name': name, 'queue': args[0].decode(), 'message': without_machine(args[-1].decode())}
            if 'call' in recorder_scenarios[name]:
                line['call'] = recorder_scenarios[name]['call']
            messages.append(line)
        elif command == b'PUBLISH' and as_envelope(args[-1]):
            broadcasts.append({'name': name, 'channel': args[0].decode(), 'message': without_machine(args[-1].decode())})
        elif command in (b'SETEX', b'SET') and args[0].startswith(b'celery-task-meta-'):
            results[name, args[-1] if command == b'SETEX' else args[1]] = None
        elif command == b'SADD' and args[0].startswith(b'_kombu.binding'):
            bindings.add((args[0].decode(), args[1].decode()))
    # One broadcast of each kind shows its form.
    kinds = {}
    for line in broadcasts:
        kinds.setdefault(line['channel'], line)
    write('messages', messages)
    write('broadcasts', kinds.values())
    write('results', ({'name': name, 'meta': without_machine(meta.decode())} for name, meta in results))
    write('bindings', ({'key': key, 'member': member} for key, member in sorted(bindings)))


# --- tables that need no broker ---------------------------------------------------------------------------------------

VALUES = [
    None, True, False, 0, -1, 2**63 - 1, -2**63, 2**64 - 1,
    0.0, -0.0, 1.0, 5.0, 0.1, 100.0, 1e15, 1e16, 1.5e16, 123456789.125, 1e-04, 1e-05, 1.5e-07, 5e-324, 2.5e+300,
    9007199254740993.0, 9999999999999998.0, 1 / 3, -2.5,
    '', 'plain', "it's", '"quoted"', 'both \' and "', 'back\\slash', 'tab\tnew\nline\rback\bfeed\f', '\x00\x1f\x7f',
    '\x80\x9f\xa0\xad', 'größe', '日本語', '\U0001f600', 'e\u0301', '\u0301', '\u200b\u2028\u2029\ufeff', '\ue000', '\u3000',
    '\U000e0001', '\U0010ffff', '/slash/', '\u0378', "\\'",
    [], [1], [1, [2, [3, [4, [5]]]]], {}, {'a': 1}, {'a': {'b': {'c': {'d': {}}}}}, [[], {}, [[]], [[[]]], [[[[]]]]],
    {"it's": "it's"}, {'größe': [None, True, 1.5, 'x']},
    'word ' * 300, 'x' * 1023, 'x' * 1024, 'x' * 1025, 'ä' * 1100, ['x' * 1000, 'y' * 50, 'z'], ['x' * 1021, 1, 2],
    ['x' * 1020, [1, 2], 3], ['x' * 1020, [[1], 2], {'a': 1}], list(range(1000)), {str(i): i for i in range(300)},
    {'k': 'x' * 1100, 'l': 1}, {'k' * 1100: 1, 'l': 1}, [['x' * 1017]], [['x' * 1016]], [['x' * 1015], 7], [{'a': 'x' * 1013}],
    [list(range(200)), list(range(200)), list(range(200))], ["'" * 600], ["a b'" * 400, 'b'],
    ['x' * 1016, 123456789], ['x' * 1018, [], 5], ['x' * 1018, {}],
]


def exceptions():
    yield from (
        ValueError('bang'), ValueError(), ValueError('a', 1), ValueError("it's"), ValueError(''), ValueError([1, 'x']),
        ValueError(None), ValueError({'a': 1}), KeyError('nope'), KeyError(7), KeyError(), KeyError('a', 'b'),
        OSError(2, 'No such file or directory'), FileNotFoundError(2, 'No such file or directory'), OSError('plain'),
        PermissionError(13, 'Permission denied'), ConnectionRefusedError(111, 'Connection refused'),
        ZeroDivisionError('division by zero'), Failures.Nested('inner'), LookupError('x'), IndexError('list index out of range'),
        TypeError("process_file_task() missing 1 required positional argument: 'file_path'"),
        NotRegistered('worker.tasks.missing'), TaskRevokedError('revoked'), TaskRevokedError('expired'),
        MaxRetriesExceededError("Can't retry worker.tasks.add[id] args:[1, 2] kwargs:{}"), Reject('bad', False), Reject(None, True),
        Ignore(), InvalidTaskError('bad message'), ChordError("Dependency 1 raised ValueError('x')"),
        WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: 3.'), TimeLimitExceeded(1), TimeLimitExceeded(1.5),
        SoftTimeLimitExceeded(), SoftTimeLimitExceeded(1.0), Terminated(15),
        ContentDisallowed('Refusing to deserialize untrusted content of type pickle (application/x-python-serialize)'),
    )


TIMES = [
    '2026-11-23T17:43:36.694319+00:00', '2026-11-23T17:43:36+00:00', '2026-11-23T17:43:36.694319', '2026-11-23T17:43:36',
    '2026-11-23T17:43:36Z', '2026-11-23T17:43:36.694Z', '2026-11-23T17:43:36.694319+02:00', '2026-11-23T17:43:36-05:30',
    '2026-11-23T17:43:36+0530', '2026-11-23T17:43:36+02', '2026-11-23T17:43', '2026-11-23', '20261123T174336Z',
    '2026-11-23 17:43:36', '2026-11-23T17:43:36,5', '2024-02-29T23:59:59.999999+00:00', '2026-11-23T00:00:00.000001-23:59',
]


def shown(value):
    return {
        'value': value,
        'repr': repr(value),
        'str': str(value),
        'saferepr': saferepr(value, 1024),
        'argsrepr': saferepr(tuple(value), 1024) if isinstance(value, list) else saferepr((value,), 1024),
    }


def printable_ranges():
    start = None
    for code in range(0x110001):
        printable = code < 0x110000 and chr(code).isprintable()
        if printable and start is None:
            start = code
        elif not printable and start is not None:
            yield [start, code - 1]
            start = None


def write_tables():
    write('json', ({'value': value, 'text': dumps(value)} for value in VALUES))
    write('repr', (shown(value) for value in VALUES))
    write('exceptions', (
        {'stored': dumps(app.backend.prepare_exception(exc, 'json')), 'repr': repr(exc), 'str': str(exc)}
        for exc in exceptions()
    ))
    utc = [maybe_iso8601(text) for text in TIMES]
    utc = [(time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc) for time in utc]
    write('timestamps', ({'text': text, 'utc': time.isoformat()} for text, time in zip(TIMES, utc)))
    write('printable', [{'unicode': unicodedata.unidata_version, 'ranges': list(printable_ranges())}])
    write('states', [{
        'all': sorted(states.ALL_STATES | {states.REJECTED, states.IGNORED}), 'ready': sorted(states.READY_STATES),
        'exception': sorted(states.EXCEPTION_STATES), 'propagate': sorted(states.PROPAGATE_STATES),
    }])


def write(name, lines):
    FIXTURES.mkdir(exist_ok=True)
    path = FIXTURES / f'{name}.jsonl'
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    print(f'{path.relative_to(HERE.parent)}: {len(path.read_text().splitlines())} lines')


# --- running it -------------------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def wait_for_port(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(('127.0.0.1', port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def worker(url, extended=False):
    env = dict(os.environ, RECORD_URL=url, PYTHONPATH=str(HERE), RECORD_EXTENDED='1' if extended else '')
    process = subprocess.Popen(
        [sys.executable, '-m', 'celery', '-A', 'record_fixtures', 'worker', '-c', '2', '-n', 'w1@host', '-E',
         '--without-gossip', '--without-mingle', '-l', 'error'],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not app.control.ping(timeout=0.5):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError('the worker does not answer')
        yield
    finally:
        process.terminate()
        process.wait(30)


def main():
    port = free_port()
    url = f'redis://127.0.0.1:{port}/0'
    app.conf.update(broker_url=url, result_backend=url)
    globals()['URL'] = url
    write_tables()
    with tempfile.TemporaryDirectory() as folder:
        redis = subprocess.Popen(
            ['redis-server', '--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for_port(port)
            recorder = Recorder(port)
            record_sent(recorder)
            app.control.purge()
            with worker(url):
                record_worked(recorder)
            with worker(url, extended=True), recorder.scenario('extended'):
                process_file_task.delay('data/split_1.csv').get(timeout=10)
                add.apply_async((1, 2), stamped_headers=['batch'], batch='b-7').get(timeout=10)
            recorder._mark('end-of-recording')
            write_recorded(recorder)
        finally:
            redis.terminate()
            redis.wait(10)


if __name__ == '__main__':
    main()
