"""Tables of what Python's and Celery's own functions give; they need no broker."""
import base64
import unicodedata
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError
from celery import states
from celery.exceptions import (
    ChordError, Ignore, InvalidTaskError, MaxRetriesExceededError, NotRegistered, Reject, TaskRevokedError,
)
from celery.utils.saferepr import saferepr
from celery.utils.time import maybe_iso8601
from kombu import serialization
from kombu.exceptions import ContentDisallowed
from kombu.utils.json import dumps

from .app import Failures, app

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


# What JSON has no word for outside of Python, and what kombu has tags for.
PYTHON_VALUES = [
    float('nan'), float('inf'), -float('inf'), 2**64, -2**63 - 1, 10**40, [1, float('nan'), {'a': 2**70}],
    '\ud83d', 'half \udc00 "quoted" it\'s é', {'\ud83d': 1}, [[['\ud83d']]], {'\x00celeriac': 'NaN'}, {'\x00\x00celeriac': {}},
    datetime(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-5.5))), datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    date(2026, 1, 2), time(3, 4), time(3, 4, 5, 6), time(23, 59, 59), Decimal('1.50'), Decimal('-1E+30'), Decimal('NaN'),
    uuid.UUID(int=7), b'bytes', b"it's", b'"both\' \\\n\x00', b'\xff\x00', 'größe'.encode(), [b'', {'at': date(2026, 1, 2)}],
    [[[date(2026, 1, 2)]]], [Decimal('1' * 1100), 2], [b'x' * 1100, 2], ['x' * 1000, datetime(2026, 1, 2, 3, 4, 5), 3],
]

# What each serializer can write.
SERIALIZED = {
    'msgpack': VALUES + [
        float('nan'), [float('inf'), -float('inf')], b'bytes', b'\xff', [b'', {'k': b'\x00'}], 2**32, -2**31 - 1, 1 / 3,
        {'\x00celeriac': 'NaN'}, list(range(70)), 'ä' * 140,
    ],
    'yaml': VALUES + [
        float('nan'), [float('inf'), -float('inf')], b'bytes', b'\xff' * 100, 10**40, datetime(2026, 1, 2, 3, 4, 5),
        datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=timezone.utc), datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=-5.5))),
        date(2026, 1, 2), [VALUES[-1]] * 3, {'yes': 'no', '1': '1.5', '~': 'null', '=': '<<', '2026-01-02': '1:30', 'a: b': '- c'},
        {1: 'a', 1.5: 'b', True: 'c', None: 'd'}, 'multi\nline\n\n text ', ' lead', 'trail ', '# no comment', '%', '@', '`', '!x', '&a',
        '*a', '|', '>', '[', '{', '? x', '-', '---', '...', 'key: |\n  x', {'\x00celeriac': 'NaN'}, {'k' * 200: [1], 'l': {'m' * 130: {}}},
    ],
}


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


def without_halves(text):
    """Half a surrogate pair as Python's repr shows it: no other program could read the file."""
    return text.encode('utf-8', 'backslashreplace').decode()


def python_value(value):
    return {
        'text': dumps(value),
        'repr': repr(value),
        'saferepr': without_halves(saferepr(value, 1024)),
        'argsrepr': without_halves(saferepr((value,), 1024)),
    }


def serialized(serializer, value):
    content_type, content_encoding, payload = serialization.dumps(value, serializer)
    payload = payload.encode(content_encoding) if isinstance(payload, str) else payload
    read = serialization.loads(payload, content_type, content_encoding, force=True)
    return {
        'content_type': content_type,
        'content_encoding': content_encoding,
        'payload': base64.b64encode(payload).decode(),
        'text': dumps(read),
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


def golden_files():
    """The lines of the tables by the name of their file."""
    utc = [maybe_iso8601(text) for text in TIMES]
    utc = [(time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc) for time in utc]
    return {
        'json': [{'value': value, 'text': dumps(value)} for value in VALUES],
        'repr': [shown(value) for value in VALUES],
        'python_values': [python_value(value) for value in PYTHON_VALUES],
        'serialized': [serialized(name, value) for name, values in SERIALIZED.items() for value in values],
        'exceptions': [
            {'stored': dumps(app.backend.prepare_exception(exc, 'json')), 'repr': repr(exc), 'str': str(exc)}
            for exc in exceptions()
        ],
        'timestamps': [{'text': text, 'utc': time.isoformat()} for text, time in zip(TIMES, utc)],
        'printable': [{'unicode': unicodedata.unidata_version, 'ranges': list(printable_ranges())}],
        'states': [{
            'all': sorted(states.ALL_STATES | {states.REJECTED, states.IGNORED}),
            'ready': sorted(states.READY_STATES),
            'exception': sorted(states.EXCEPTION_STATES),
            'propagate': sorted(states.PROPAGATE_STATES),
        }],
    }
