"""Announces every complete `*.csv` file of the watch directory to Kafka.

    cd python_interop && python kafka_producer.py [--once]

Which names, and when a file is complete: docs/ingest-rules.md, "The record". The directory is polled; a file is complete
when its size and time of change have stayed the same for the settle time. Guarantee F3: a file is written to the journal
only after Kafka's word, and is announced (again) as long as it does not stand there.
"""
import argparse
import fcntl
import json
import logging
import os
import signal
import stat
import sys
import time
from urllib.parse import quote_from_bytes

from confluent_kafka import KafkaException, Producer

import failpoints
import settings
from scripts.paths import absolute, printable
from worker.file_event import Version, compose

logger = logging.getLogger("kafka_producer")

JOURNAL = ".celeriac-twin-journal"  # not the Rust producer's, whose lines are others

# Outdated lines of the journal that are put up with before it is rewritten.
COMPACT_AFTER_LINES = 10_000

EXIT_UNAVAILABLE = 69


def main():
    parser = argparse.ArgumentParser(description="Announce every new *.csv file of WATCH_DIR to Kafka.")
    parser.add_argument("--once", action="store_true", help="announce what is there, and exit")
    parser.add_argument("--timeout", type=float, default=60, help="with --once: give up after so many seconds [60]")
    parser.add_argument("--settle-ms", type=int, default=2000, help="complete after so long without a change [2000]")
    parser.add_argument("--rescan-ms", type=int, default=1000, help="look at the directory this often [1000]")
    parser.add_argument("--journal", help=f"what Kafka has acknowledged [{JOURNAL} in the watch directory]")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s: %(levelname)s/%(name)s] %(message)s")
    config = settings.load()
    if not os.path.isdir(config.watch_dir):
        sys.exit(f"the watch directory {config.watch_dir!r} is not there; make it, or name another one in WATCH_DIR")
    journal = Journal(options.journal or os.path.join(config.watch_dir, JOURNAL))
    announcer = Announcer(config, options.settle_ms / 1000, journal)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, announcer.stop)
    logger.info("Watching %r, announcing to topic %s at %s", config.watch_dir, config.topic, config.bootstrap_servers)
    return announcer.run(options.rescan_ms / 1000, options.timeout if options.once else None)


class Announcer:
    def __init__(self, config, settle_s, journal):
        self._config = config
        self._watch_dir = os.fsencode(config.watch_dir)
        self._working_dir = os.fsencode(os.getcwd())
        self._settle_s = settle_s
        self._journal = journal
        self._waiting = {}  # name: (version, since when it looks like this)
        self._ignored = set()
        self._is_stopping = False
        self._producer = Producer(
            {
                "bootstrap.servers": config.bootstrap_servers,
                "client.id": "celeriac-twin",
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,  # never give up
            }
        )

    def stop(self, *_):
        self._is_stopping = True

    def run(self, rescan_s, once_timeout_s):
        """Announces until told to stop; with a timeout until nothing waits. The exit code."""
        deadline = time.monotonic() + (once_timeout_s or float("inf"))
        while not self._is_stopping:
            self._announce(self._complete(), deadline)
            if once_timeout_s and not self._waiting:
                return 0
            if time.monotonic() > deadline:
                logger.error("%d files are not announced after %s s; is Kafka up?", len(self._waiting), once_timeout_s)
                return EXIT_UNAVAILABLE
            time.sleep(min(rescan_s, self._settle_s) or 0.01)
        return 0

    def _complete(self):
        """What is to be announced now: `(name, version)`."""
        seen, now = self._look(), time.monotonic()
        for name in self._journal.announced.keys() - seen.keys():
            # Should it come back, it is announced again: it may have been put back after a rule has changed.
            self._journal.gone(name)
        self._waiting = {
            name: self._waiting[name] if self._waiting.get(name, (None,))[0] == version else (version, now)
            for name, version in seen.items()
            if self._journal.announced.get(name) != version
        }
        return [(name, version) for name, (version, since) in self._waiting.items() if now - since >= self._settle_s]

    def _look(self):
        """The versions of the regular files that concern us, by name."""
        seen = {}
        for name in os.listdir(self._watch_dir):
            if name.startswith(b".") or name[-4:].lower() != b".csv":
                continue
            try:
                status = os.lstat(os.path.join(self._watch_dir, name))
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                seen[name] = Version.of(status)
            elif name not in self._ignored:
                self._ignored.add(name)
                logger.warning("Ignoring %r, which is no regular file", printable(name))
        return seen

    def _announce(self, files, deadline):
        """Sends the records, and writes down each one that Kafka has acknowledged."""
        acknowledged, answered = [], []
        for name, version in files:

            def report(error, _message, file=(name, version)):
                answered.append(file)
                if error is None:
                    acknowledged.append(file)
                else:
                    logger.error("Kafka refused %r, which is announced again: %s", printable(file[0]), error.str())

            file_path, file_name = self._named(name)
            value = compose(file_path, file_name, version)
            try:
                self._producer.produce(self._config.topic, key=file_path, value=value, on_delivery=report)
            except (BufferError, KafkaException) as error:
                answered.append(name)
                logger.error("Cannot send %r, which is announced again: %s", printable(name), error)
        said = time.monotonic()
        while len(answered) < len(files) and not self._is_stopping and time.monotonic() <= deadline:
            self._producer.poll(0.1)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                logger.warning("Kafka has not acknowledged %d records: new files wait", len(files) - len(answered))
        if acknowledged:
            failpoints.reach("before_journal")
            self._journal.append(acknowledged)
            failpoints.reach("after_journal")
            for name, version in acknowledged:
                self._waiting.pop(name, None)
                logger.info("Announced %r", printable(name))

    def _named(self, name):
        """How a record names a file: its path and its name. A name that is not UTF-8 is written as a URL."""
        path = os.path.join(self._watch_dir, name)
        try:
            return path.decode(), name.decode()
        except UnicodeDecodeError:
            url = quote_from_bytes(absolute(self._working_dir, path), safe="/")
            return f"file://{url}", printable(name)


class Journal:
    """What Kafka has acknowledged, by file name (bytes): one JSON object a line, on disk before `append` returns.

    A torn last line, or one that makes no sense, costs a second announcement, which the ledger makes harmless. One
    producer for each journal: the lock ends with the process.
    """

    def __init__(self, path):
        self._path = path
        self._file = open(path, "a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another producer is at work on this directory (it holds {path!r}); there can be only one")
        self.announced = {}
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        for line in lines:
            self._read(line)
        if lines[-1]:
            # A torn end must not swallow the next line.
            self._file.write(b"\n")
        if len(lines) > COMPACT_AFTER_LINES + 2 * len(self.announced):
            self._compact()

    def append(self, files):
        self._write([_line(name, **vars(version)) for name, version in files])
        self.announced.update(files)

    def gone(self, name):
        self._write([_line(name, gone=True)])
        del self.announced[name]

    def _read(self, line):
        try:
            entry = json.loads(line)
            name = os.fsencode(entry.pop("name"))
            if entry == {"gone": True}:
                self.announced.pop(name, None)
            else:
                self.announced[name] = Version(**entry)
        except (ValueError, TypeError, KeyError, AttributeError):
            if line:
                logger.warning("A line of the journal %r is damaged; its file is announced again", self._path)

    def _write(self, lines):
        self._file.write(b"".join(lines))
        os.fsync(self._file)

    def _compact(self):
        """Writes the file anew within the same inode, which holds the lock. A crash here costs second announcements."""
        self._file.truncate(0)
        self._write([_line(name, **vars(version)) for name, version in self.announced.items()])


def _line(name, **entry):
    return json.dumps({"name": os.fsdecode(name), **entry}).encode() + b"\n"


if __name__ == "__main__":
    sys.exit(main())
