"""Follows what Redis is told, byte for byte, and sorts it into the golden files."""
import ast
import json
import re
import socket
import threading
from contextlib import contextmanager


class Recorder:
    """Follows MONITOR on a raw connection: client libraries decode what they show."""

    QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')

    def __init__(self, port):
        self.port = port
        self.commands = []
        self.calls = {}
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

    def mark(self, text):
        """Puts a mark between the commands, and waits until it has been seen."""
        with socket.create_connection(('127.0.0.1', self.port)) as connection:
            connection.sendall(f'ECHO {text}\r\n'.encode())
            connection.recv(100)
        mark = [b'ECHO', text.encode()]
        with self.lock:
            if not self.lock.wait_for(lambda: mark in self.commands, 10):
                raise RuntimeError('MONITOR has fallen silent')

    @contextmanager
    def scenario(self, name, call=None):
        """What happens inside belongs to this name; `call` is what was asked for."""
        if call:
            self.calls[name] = call
        self.mark(name)
        yield
        self.mark('end-' + name)

    def scenarios(self):
        """Pairs of a scenario's name and one command that was seen during it."""
        name = None
        for parts in self.commands:
            if parts[0].upper() == b'ECHO':
                name = parts[1].decode() if not parts[1].startswith(b'end-') else None
            elif name:
                yield name, parts


PATHS = re.compile(r'(?:/[^/\\" ]+)+/(?=(?:celery|kombu|billiard|redis)/|recorder/|concurrent/|threading\.py)')


def without_machine(text):
    """Every recording looks as if made on the same machine."""
    return PATHS.sub('', text).replace(f'@{socket.gethostname()}', '@host')


def as_envelope(raw):
    try:
        message = json.loads(raw)
    except ValueError:
        return False
    return isinstance(message, dict) and 'properties' in message


def golden_files(recorder):
    """The recorded lines by the name of their file."""
    messages, broadcasts, results, bindings, control = [], [], {}, set(), []
    for name, parts in recorder.scenarios():
        command, args = parts[0].upper(), parts[1:]
        if name.startswith('control_'):
            if command in (b'LPUSH', b'PUBLISH') and b'pidbox' in args[0]:
                control.append({'name': name, 'key': args[0].decode(), 'message': args[-1].decode()})
            continue
        if command in (b'LPUSH', b'RPUSH') and as_envelope(args[-1]):
            line = {'name': name, 'queue': args[0].decode(), 'message': without_machine(args[-1].decode())}
            if name in recorder.calls:
                line['call'] = recorder.calls[name]
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
    return {
        'messages': messages,
        'broadcasts': list(kinds.values()),
        'control': control,
        'results': [{'name': name, 'meta': without_machine(meta.decode())} for name, meta in results],
        'bindings': [{'key': key, 'member': member} for key, member in sorted(bindings)],
    }
