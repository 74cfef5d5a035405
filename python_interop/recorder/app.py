"""The app that is recorded: the worker loads it, and the scenarios call its tasks."""
import os
import time

from celery import Celery
from celery.exceptions import Ignore, Reject

URL = os.environ['RECORD_URL']

app = Celery('worker.tasks', broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_track_started=True,
    worker_send_task_events=True,
    task_send_sent_event=False,
    result_extended=bool(os.environ.get('RECORD_EXTENDED')),
    worker_hijack_root_logger=False,
    accept_content=['json', 'msgpack', 'yaml'],
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
