"""Records the golden wire files of crates/protocol from real Celery.

    python3 -m venv .celeriac/fixtures-venv
    .celeriac/fixtures-venv/bin/pip install -r python_interop/requirements.txt
    .celeriac/fixtures-venv/bin/python python_interop/record_fixtures.py [FILE ...]

Starts a private redis-server on a free port, sends every kind of message, runs a prefork worker over them, and writes
down what Redis saw (MONITOR), byte for byte. Paths and the name of the recording machine are replaced. With names of
files (`control`, `canvas/apply`), only those are written; those of canvas alone need no server.

    fixtures/messages.jsonl    what lies in queues; with `call` where the message was sent from here by that call
    fixtures/broadcasts.jsonl  what is published: events
    fixtures/control.jsonl     what remote control is asked, and what it answers
    fixtures/results.jsonl     what lies under celery-task-meta-*
    fixtures/bindings.jsonl    binding keys and members
    fixtures/json.jsonl        json.dumps of values
    fixtures/python_values.jsonl  what JSON has no word for elsewhere: json.dumps, repr, saferepr
    fixtures/serialized.jsonl  msgpack and YAML of values, and json.dumps of what is read of them
    fixtures/repr.jsonl        repr, str and Celery's saferepr of values
    fixtures/timestamps.jsonl  texts of times and what they mean
    fixtures/exceptions.jsonl  exceptions as stored, their repr and str
    fixtures/printable.jsonl   ranges of characters that str.isprintable accepts
    fixtures/states.jsonl      celery.states
    fixtures/canvas/*.jsonl    what becomes of signatures, and of tasks that end, fail or replace themselves
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / 'fixtures'


def write(golden_files):
    for name, lines in golden_files.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        path = FIXTURES / f'{name}.jsonl'
        path.parent.mkdir(exist_ok=True)
        path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
        print(f'{path.relative_to(HERE.parent)}: {len(lines)} lines')


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
def worker(app, extended=False):
    env = dict(os.environ, PYTHONPATH=str(HERE), RECORD_EXTENDED='1' if extended else '')
    process = subprocess.Popen(
        [sys.executable, '-m', 'celery', '-A', 'recorder.app', 'worker', '-c', '2', '-n', 'w1@host', '-E',
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


@contextmanager
def private_redis():
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ['redis-server', '--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
             '--dir', folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for_port(port)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def record_with_redis():
    with private_redis() as port:
        # The app reads it when it is imported, here and in the worker.
        os.environ['RECORD_URL'] = f'redis://127.0.0.1:{port}/0'
        from recorder import monitor, scenarios, tables
        from recorder.app import app

        recorder = monitor.Recorder(port)
        scenarios.record_sent(recorder)
        app.control.purge()
        with worker(app):
            scenarios.record_worked(recorder)
            scenarios.record_control(recorder)
        with worker(app, extended=True):
            scenarios.record_extended(recorder)
        recorder.mark('end-of-recording')
        write(tables.golden_files() | monitor.golden_files(recorder))


def main():
    from recorder import canvas

    write(canvas.golden_files())
    wanted = sys.argv[1:]
    if not wanted or any(not name.startswith('canvas/') for name in wanted):
        record_with_redis()


if __name__ == '__main__':
    main()
    sys.stdout.flush()
    # Celery keeps results that it would unsubscribe at exit, from a server that is gone by now.
    os._exit(0)
