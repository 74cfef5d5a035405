"""Which file is opened, and how a bad one is moved: nothing outside the root, nothing overwritten, nothing lost."""
import os
import socket
from datetime import datetime, timezone

import pytest

from errors import Outage
from scripts import utils
from scripts.naming import create_by_name, create_whole, rename
from scripts.opening import MAX_FILE_BYTES, Opening
from scripts.paths import BadPath, below_root, on_one_line, printable
from scripts.utils import CHANGED, MOVED, MUST_STAY, NAME_TAKEN, Quarantine, candidates, log_error, quarantine_file


@pytest.mark.parametrize("text, root, expected", [
    ("data/split_1.csv", "data", "split_1.csv"),
    ("/srv/data/a/b.csv", "data", "a/b.csv"),
    ("data/./a/../b.csv", "/srv/data/", "b.csv"),
    ("-rf.csv", ".", "-rf.csv"),
    ("data/$(touch pwned);`x`.csv", "data", "$(touch pwned);`x`.csv"),
    ("data/new\nline.csv", "data", "new\nline.csv"),
    ("file:///srv/data/latin1_%E9%zz.csv", "data", b"latin1_\xe9%zz.csv"),
    *[(text, "data", "outside_root") for text in (
        "../../etc/passwd", "/etc/passwd", "data", "data/", "data/..", "data/../x.csv", "../../../..", "database/x",
        "file:///etc/%70asswd", "file:///srv/data/%2e%2e/x")],
    *[(text, "data", "bad_name") for text in ("", "data/a\0.csv", "data/" + "x/" * 3000, "data/\udce9.csv", "file://")],
])  # fmt: skip
def test_a_path_lies_below_the_root_or_is_refused(text, root, expected):
    try:
        found = b"/".join(below_root(text, b"/srv", root.encode()))
    except BadPath as bad:
        found = bad.violation.reason.encode()
    assert found == (expected.encode() if isinstance(expected, str) else expected)


def test_texts_for_logs_and_tables_hold_neither_nul_nor_broken_bytes():
    assert printable(b"latin1_\xe9\0\n.csv") == "latin1_\\xE9\\x00\n.csv"
    assert on_one_line("a\nb\x7f ü") == "a\\nb\\u{7f} ü"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def verdict(root, name):
    with Opening(os.fsencode(root), os.fsencode(name).split(b"/")) as found:
        return "gone" if found.is_gone else found.violation.reason if found.violation else os.read(found.file, 9)


def test_only_regular_files_are_opened(root):
    (root / "dir.csv").mkdir()
    (root / "dir.csv/inner.csv").write_text("x")
    (root / "file.csv").write_text("x")
    for link, target in {"link.csv": "file.csv", "etc": "/etc", "loop.csv": "loop.csv", "dangling.csv": "none"}.items():
        (root / link).symlink_to(target)
    os.mkfifo(root / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket.csv"))
    with open(root / "sparse.csv", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (root / os.fsdecode(b"latin1_\xe9.csv")).write_text("x")
    expected = {
        "file.csv": b"x", "dir.csv/inner.csv": b"x", "nowhere.csv": "gone", "nowhere/x.csv": "gone",
        "file.csv/x.csv": "gone", "dir.csv": "not_regular", "fifo.csv": "not_regular", "socket.csv": "not_regular",
        "link.csv": "outside_root", "loop.csv": "outside_root", "dangling.csv": "outside_root",
        "etc/passwd": "outside_root", "n" * 300: "bad_name", os.fsdecode(b"latin1_\xe9.csv"): "bad_name",
        "sparse.csv": "too_large",
    }  # fmt: skip
    before = os.listdir("/proc/self/fd")
    assert {name: verdict(root, name) for name in expected} == expected
    assert len(os.listdir("/proc/self/fd")) == len(before), "what was opened is closed"


def test_a_root_that_is_away_makes_no_file_look_deleted(root):
    with pytest.raises(Outage):
        verdict(root / "nowhere", "x.csv")


def drop(root, text, name="a.csv"):
    (root / name).write_text(text)
    return Opening(os.fsencode(root), [os.fsencode(name)])


@pytest.fixture
def quarantine(tmp_path):
    with Quarantine(tmp_path / "made/on demand") as quarantine:
        quarantine.path = tmp_path / "made/on demand"
        yield quarantine


def test_files_of_one_name_are_all_kept(root, quarantine):
    names = []
    for text in ["one", "two", "three"]:
        with drop(root, text) as found:
            name = quarantine.free_name("a.csv", "cafe")
            assert quarantine_file(quarantine, found.place, found.file, name) == MOVED
        quarantine.write_sidecar(name, {"text": text})
        assert (quarantine.path / name).read_text() == text
        assert not os.listdir(root)
        names.append(name)
    assert names == ["a.csv", "a~cafe.csv", "a~cafe~2.csv"]


def test_a_name_taken_in_the_meantime_is_not_overwritten(root, quarantine):
    (quarantine.path / "a.csv").write_text("another's")
    with drop(root, "mine") as found:
        assert quarantine_file(quarantine, found.place, found.file, "a.csv") == NAME_TAKEN
        assert quarantine.copy(found.place, found.file, "a.csv") == NAME_TAKEN
    assert (quarantine.path / "a.csv").read_text() == "another's"
    assert (root / "a.csv").read_text() == "mine"


def test_only_the_file_that_was_judged_is_moved(root, quarantine):
    with drop(root, "judged") as found:
        (root / "a.csv").unlink()
        assert quarantine_file(quarantine, found.place, found.file, "a.csv") == CHANGED
        (root / "a.csv").write_text("another")
        assert quarantine_file(quarantine, found.place, found.file, "a.csv") == CHANGED
        assert quarantine.copy(found.place, found.file, "a.csv") == CHANGED
    assert os.listdir(root) == ["a.csv"] and not quarantine.has("a.csv")


def test_a_file_that_comes_under_the_name_in_the_last_moment_goes_back(root, quarantine, monkeypatch):
    with drop(root, "judged") as found:
        (root / "b.csv").write_text("another")

        def replace_then_rename(*names):
            os.rename(root / "b.csv", root / "a.csv")
            monkeypatch.undo()
            return rename(*names)

        monkeypatch.setattr(utils, "rename", replace_then_rename)
        assert quarantine_file(quarantine, found.place, found.file, "a.csv") == CHANGED
    assert (root / "a.csv").read_text() == "another" and not quarantine.has("a.csv")


def test_across_file_systems_a_whole_copy_comes_before_the_original_goes(root, quarantine):
    with drop(root, "content") as found:
        assert quarantine.copy(found.place, found.file, "a.csv") == MOVED
        assert not os.listdir(root)
        assert quarantine.holds_copy(found.file, "a.csv") and not quarantine.holds_copy(found.file, "b.csv")
    assert os.listdir(quarantine.path) == ["a.csv"] and (quarantine.path / "a.csv").read_text() == "content"


def test_a_file_with_further_names_is_not_unlinked_across_file_systems(root, quarantine):
    with drop(root, "content") as found:
        os.link(root / "a.csv", root / "b.csv")
        assert quarantine.copy(found.place, found.file, "a.csv") == MUST_STAY
        assert quarantine_file(quarantine, found.place, found.file, "a.csv") == MOVED
    assert (root / "b.csv").read_text() == "content"


def test_names_and_their_reports_fit_the_file_system():
    names = candidates("温" * 83 + ".csv", "cafe")
    for name in [next(names), next(names)]:
        assert name.endswith(".csv") and "~cafe" in name and len(f"{name}.error.json".encode()) <= 255
    assert list(candidates("no extension", "cafe"))[:2] == ["no extension", "no extension~cafe"]
    assert list(candidates(".csv", "cafe"))[2] == ".csv~cafe~2"
    assert len(list(candidates("a.csv", "cafe"))) == 1000


@pytest.mark.parametrize("create", [create_whole, create_by_name])
def test_a_file_appears_whole_or_not_at_all(tmp_path, create):
    directory = os.open(tmp_path, os.O_RDONLY)
    assert create(directory, "a", lambda file: os.write(file, b"first"))
    assert not create(directory, "a", lambda file: os.write(file, b"second"))
    with pytest.raises(OSError):
        create(directory, "b", lambda file: os.write(-1, b""))
    os.close(directory)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "first"}


def test_a_line_of_the_log_is_one_line(tmp_path):
    time = datetime(1970, 1, 1, tzinfo=timezone.utc)
    log_error(tmp_path / "logs", time, "Quarantined a\nb.csv: bad")
    log_error(tmp_path / "logs", time, "second")
    begin = "1970-01-01T00:00:00.000000Z"
    assert (tmp_path / "logs/errors.log").read_text() == f"{begin} Quarantined a\\nb.csv: bad\n{begin} second\n"
