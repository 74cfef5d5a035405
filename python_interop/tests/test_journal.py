"""The producer's memory over restarts: nothing forgotten, nothing swallowed, and it stays small."""
import subprocess
import sys
from pathlib import Path

import pytest

import kafka_producer
from kafka_producer import Journal
from worker.file_event import Version

HERE = Path(__file__).parents[1]
VERSION = Version(1, -2, 3)
NAMES = [b"new\nline \xc3\xbc.csv", b"latin1_\xe9.csv", b"a.csv"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal"


def remembered(path):
    """What a producer that is started now would remember."""
    journal = Journal(path)
    journal._file.close()
    return journal.announced


def written(path, names=NAMES):
    journal = Journal(path)
    journal.append([(name, VERSION) for name in names])
    return journal


def test_what_was_announced_is_remembered_until_it_is_gone(path):
    journal = written(path)
    journal.append([(b"a.csv", Version(7, 8, 9))])
    journal.gone(NAMES[0])
    journal._file.close()
    assert remembered(path) == {NAMES[1]: VERSION, b"a.csv": Version(7, 8, 9)}


def test_a_torn_end_costs_one_line_and_does_not_swallow_the_next(path):
    written(path)._file.close()
    whole = path.read_bytes()
    for end in range(whole[:-1].rindex(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:end])
        assert remembered(path).items() >= {name: VERSION for name in NAMES[:2]}.items()
        written(path, [b"next.csv"])._file.close()
        assert remembered(path)[b"next.csv"] == VERSION


def test_a_damaged_line_costs_only_itself(path):
    written(path)._file.close()
    path.write_bytes(path.read_bytes().replace(b'"size": 1', b'"size: 1', 1) + b"[]\n{}\n" + b'{"name": 7}\n\n')
    assert remembered(path) == {name: VERSION for name in NAMES[1:]}


def test_it_is_rewritten_when_most_lines_are_outdated(path, monkeypatch):
    monkeypatch.setattr(kafka_producer, "COMPACT_AFTER_LINES", 10)
    journal = written(path)
    for size in range(20):
        journal.append([(b"a.csv", Version(size, 0, 0))])
    journal._file.close()
    before = remembered(path)
    assert path.read_bytes().count(b"\n") == 3
    assert remembered(path) == before == {NAMES[0]: VERSION, NAMES[1]: VERSION, b"a.csv": Version(19, 0, 0)}


def test_there_is_one_producer_for_a_journal(path):
    journal = written(path)
    program = f"from kafka_producer import Journal; Journal({str(path)!r})"
    second = subprocess.run([sys.executable, "-c", program], cwd=HERE, stderr=subprocess.PIPE, text=True)
    assert second.returncode == 1 and "another producer is at work" in second.stderr
    journal._file.close()
