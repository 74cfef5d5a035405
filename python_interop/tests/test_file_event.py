"""Records of `file_events`: what is composed, what is refused, and the task's id."""
import pytest

from worker.file_event import MAX_RECORD_BYTES, BadRecord, FileEvent, Version, compose, parse, task_id

VERSION = Version(7, 1_795_455_816_694_319_000, 42)


def parsed(value):
    return parse(value, b"/srv/in", b"data")


def test_a_composed_record_is_read_back():
    value = compose("data/quote'\"$(x);`\\\t🌡.csv", "x", VERSION)
    assert value.startswith(b'{"file_path": "data/quote') and b'", "file_name": "x", "size": 7, "mtime_ns": 17' in value
    assert parsed(value) == FileEvent(
        "data/quote'\"$(x);`\\\t🌡.csv", "/srv/in/data/quote'\"$(x);`\\\t🌡.csv".encode(), VERSION
    )


def test_the_seeds_bare_record_and_unusable_hints_are_accepted():
    event = parsed(b'{"file_path": "./data/split_1.csv", "file_name": "split_1.csv"}')
    assert event == FileEvent("./data/split_1.csv", b"/srv/in/data/split_1.csv", None)
    for hints in [b'"size": "big", "mtime_ns": 1, "inode": 1', b'"size": true, "mtime_ns": 1, "inode": 1',
                  b'"size": -1, "mtime_ns": 1, "inode": 1', b'"size": 1.0, "mtime_ns": 1, "inode": 1']:  # fmt: skip
        assert parsed(b'{"file_path": "data/a.csv", %s}' % hints).version is None


@pytest.mark.parametrize("value, reason", [
    (None, "tombstone"),
    (b" " * (MAX_RECORD_BYTES + 1), "too_large"),
    (b"\xff\xfe", "not_utf8"),
    (b"", "not_json"),
    (b"NaN", "not_json"),
    (b"[" * 50_000, "not_json"),
    (b'{"file_path": "data/latin1_\\udce9.csv"}', "not_json"),
    (b"[]", "not_an_object"),
    (b"{}", "no_file_path"),
    (b'{"file_path": 7}', "file_path_not_text"),
    (b'{"file_path": null}', "file_path_not_text"),
    (b'{"file_path": ""}', "bad_name"),
    (b'{"file_path": "../../etc/passwd"}', "outside_root"),
    (b'{"file_path": "data/.celeriac-journal"}', "hidden_name"),
    (b'{"file_path": "data/.git/x.csv"}', "hidden_name"),
])  # fmt: skip
def test_every_kind_of_bad_record_has_its_class(value, reason):
    with pytest.raises(BadRecord) as caught:
        parsed(value)
    assert caught.value.reason == reason


def test_the_same_file_has_the_same_id_and_another_one_another():
    def id_of(path=b"/srv/in/data/a.csv", version=VERSION, partition=0):
        return task_id(FileEvent("x", path, version), "file_events", partition, 1)

    # As the Rust consumer makes them.
    assert id_of() == "4cb232b3-d4d8-5e3c-aa99-e7b575067e65"
    assert id_of(path=b"/nowhere/a.csv", version=None) == "04b966ce-338d-5498-b65c-53583c8ba2da"
    others = [id_of(path=b"/srv/in/data/b.csv"), id_of(version=Version(8, 1_795_455_816_694_319_000, 42)),
              id_of(version=None), id_of(version=None, partition=1)]  # fmt: skip
    assert len({id_of(), *others}) == 5


def test_a_bare_record_has_the_id_of_the_file_as_it_is(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x")
    announced = FileEvent("a.csv", bytes(path), Version.of(path.stat()))
    bare = FileEvent("a.csv", bytes(path), None)
    assert task_id(announced, "file_events", 0, 1) == task_id(bare, "file_events", 0, 2)
