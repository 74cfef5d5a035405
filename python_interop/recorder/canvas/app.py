"""An app that sends nothing: what it would send, store and count is noted down, in the order of the calls."""
import json
import logging
import warnings
from contextlib import contextmanager
from unittest import mock

from celery import Celery
from celery.backends.base import BaseBackend
from celery.exceptions import CPendingDeprecationWarning
from celery.result import GroupResult
from kombu.utils.json import dumps

# What a call is given to work with, and what does not reach the message.
NOT_RECORDED = {'producer', 'publisher', 'connection', 'router', 'result_cls', 'task_type'}


def plain(value):
    """As JSON has it, with the names of stamps sorted: Celery gives them in the order of a set."""
    return sorted_stamps(json.loads(dumps(value)))


def sorted_stamps(value):
    if isinstance(value, list):
        return [sorted_stamps(item) for item in value]
    if isinstance(value, dict):
        return {
            key: sorted(item) if key == 'stamped_headers' and isinstance(item, list) else sorted_stamps(item)
            for key, item in value.items()
        }
    return value


class Notes:
    """The operations and the ids of one case."""

    def __init__(self):
        self.begin()

    def begin(self, prefix='U'):
        """Forgets what was noted; the ids drawn from here on are `U0, U1, …`."""
        self.ops, self.states, self.prefix, self.drawn = [], {}, prefix, 0

    def note(self, op, **fields):
        self.ops.append({'op': op, **plain(fields)})

    def draw(self):
        self.drawn += 1
        return f'{self.prefix}{self.drawn - 1}'


notes = Notes()


def outcome(value):
    """A result or an exception as the operations show it."""
    if isinstance(value, Exception):
        return {'type': type(value).__name__, 'message': list(value.args)}
    return {'result': value}


class Backend(BaseBackend):
    """Notes what the Redis backend would be told; knows the states of what was stored."""

    def store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        notes.states[task_id] = state
        notes.note('store', id=task_id, state=state, **outcome(result), children=self.current_task_children(request))
        return result

    def get_state(self, task_id):
        return notes.states.get(task_id, 'PENDING')

    def set_chord_size(self, group_id, chord_size):
        notes.note('size', group=group_id, size=chord_size)

    def apply_chord(self, header_result_args, body, **kwargs):
        header = self.app.GroupResult(*header_result_args)
        if any(isinstance(result, GroupResult) for result in header.results):
            notes.note('save', group=header.id, document=header.as_tuple())

    def on_chord_part_return(self, request, state, result, **kwargs):
        notes.note(
            'part', id=request.id, group=request.group, index=request.group_index, state=state, **outcome(result))

    def add_to_chord(self, chord_id, result):
        notes.note('add', group=chord_id)


class Control:
    def __init__(self, app):
        pass

    def revoke(self, ids, **kwargs):
        notes.note('revoke', ids=ids)


class App(Celery):
    thread_oid = 'OID'

    def _get_backend(self):
        return Backend(app=self)

    @contextmanager
    def producer_or_acquire(self, producer=None):
        yield producer

    def send_task(self, name, args=None, kwargs=None, **options):
        task_id = options.get('task_id') or notes.draw()
        notes.note(
            'send', id=task_id, task=name, args=args or (), kwargs=kwargs or {},
            options={key: value for key, value in options.items() if key not in NOT_RECORDED},
        )
        result = self.AsyncResult(task_id)
        parent = self.current_worker_task
        if parent and options.get('add_to_parent', True):
            parent.add_trail(result)
        return result


app = App('t', control=Control)


def from_json(value):
    """A signature as a worker has it: read from JSON."""
    return app.signature(json.loads(json.dumps(value)))


def attempt(function):
    """What the function returns, and the name of the type of what it raises instead."""
    try:
        return function(), None
    except Exception as exc:
        return None, type(exc).__name__


def frozen(sig, **arguments):
    """The signature as a client leaves it in a message; its ids are `F0, F1, …`."""
    notes.begin('F')
    attempt(lambda: sig.freeze(**arguments))
    return sig


@contextmanager
def recording():
    """The ids of everything that Celery makes are counted instead of random."""
    app.set_current()
    # Celery warns of what is tried on purpose, and logs what the cases raise.
    logging.getLogger('celery').setLevel(logging.CRITICAL + 1)
    warnings.simplefilter('ignore', CPendingDeprecationWarning)
    with mock.patch('celery.canvas.uuid', notes.draw), mock.patch('kombu.utils.uuid.uuid', notes.draw):
        yield


@contextmanager
def settings(conf):
    """The app with these settings."""
    before = {name: app.conf[name] for name in conf}
    app.conf.update(conf)
    try:
        yield
    finally:
        app.conf.update(before)
