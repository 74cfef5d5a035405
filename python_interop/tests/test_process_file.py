"""`process_file` against a real PostgreSQL: crash points, outages, files that change, and what PostgreSQL refuses."""
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psycopg
import pytest

import settings
from db.config import sqlstate_meaning
from db.query import Database
from errors import DeploymentError, FileChanged, Outage
from worker import process_file as processing
from worker.process_file import process_file
from worker.run import Run

HERE = Path(__file__).parents[1]
HEADER = "ts,device,co,humidity,light,lpg,motion,smoke,temp\n"
GOOD = HEADER + "".join(f"{1594512094 + n},b8:27,0.005,51.0,false,0.0077,false,0.02,22.7\n" for n in range(20))
BAD = GOOD + "1594512200,b8:27,0.005,51.0,false,0.0077,false,0.02,hot\n"


@pytest.fixture(scope="module")
def database():
    """The URL of a database of these tests' own."""
    if "DATABASE_URL" not in os.environ:
        pytest.fail('no DATABASE_URL: run `make test`, or `make up` and then eval "$(tests/services/services env)"')
    server, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    name = f"twin_{os.getpid()}_{secrets.token_hex(4)}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"create database {name}")
        yield f"{server}/{name}"
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def world(database, tmp_path, monkeypatch):
    """A working directory with `data/`, and the tables of migrations/, empty."""
    monkeypatch.setenv("DATABASE_URL", database)
    for variable in ("WATCH_DIR", "QUARANTINE_DIR", "LOG_DIR"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop schema public cascade; create schema public")
        for migration in sorted((HERE.parent / "migrations").glob("*.sql")):
            connection.execute(migration.read_text())
        # What `celeriac db migrate` notes down, as far as it is asked for.
        connection.execute("create table _sqlx_migrations (version bigint, success bool)")
        connection.execute("insert into _sqlx_migrations values (3, true)")
        yield connection


def process(path="data/a.csv", task_id="a-task"):
    config = settings.load()
    with Database(config.database_url) as database:
        return process_file(Run(config, database, path, task_id, _waits=[0.01, 0.01]))


def process_until(failpoint):
    """A run in a process of its own, which dies when it gets there; its exit code and output."""
    environment = {**os.environ, "CELERIAC_FAILPOINT": failpoint, "PYTHONPATH": str(HERE)}
    program = """if True:
        import settings
        from db.query import Database
        from worker.process_file import process_file
        from worker.run import Run
        config = settings.load()
        with Database(config.database_url) as database:
            print(process_file(Run(config, database, "data/a.csv", "a-task"))["status"])
    """
    run = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE)
    return run.returncode, run.stdout.decode().strip()


def rows(world, sql):
    return world.execute(sql).fetchall()


def left(world):
    """All that is visible of files: rows, contents, ledger, and the directories."""
    counts = [world.execute(f"select count(*) from {table}").fetchone()[0]
              for table in ("raw_sensor_data", "ingest_content", "aggregated_metrics")]  # fmt: skip
    ledger = rows(world, "select path, state, quarantine_path, moved_at is not null from ingest_files")
    return counts, ledger, sorted(os.listdir("data")), sorted(os.listdir("quarantine") if os.path.isdir("quarantine") else [])


LOADED = ([20, 1, 5], [("data/a.csv", "loaded", None, False)], ["a.csv"], [])
QUARANTINED = ([0, 0, 0], [("data/a.csv", "quarantined", "quarantine/a.csv", True)], [], ["a.csv", "a.csv.error.json"])


@pytest.mark.parametrize("failpoint, text", [
    *[(name, GOOD) for name in ("before_copy", "after_copy", "before_commit", "after_commit", "before_ack")],
    *[(name, BAD) for name in ("before_move", "after_move", "before_sidecar", "after_sidecar", "before_ack")],
])  # fmt: skip
def test_a_run_that_dies_anywhere_is_completed_by_the_next(world, failpoint, text):
    Path("data/a.csv").write_text(text)
    assert process_until(failpoint) == (-signal.SIGKILL, "")
    assert process()["status"] == ("loaded" if text == GOOD else "quarantined")
    assert left(world) == (LOADED if text == GOOD else QUARANTINED)
    if text == BAD:
        lines = Path("logs/errors.log").read_text().splitlines()
        assert lines and len(set(lines)) == 1, "the same line, with the same time"


def test_a_bad_file_that_was_copied_and_not_yet_removed_is_not_copied_again(world):
    Path("data/a.csv").write_text(BAD)
    process_until("before_move")
    # As a run leaves it that dies between the copy to another file system and the removal.
    Path("quarantine/a.csv").write_text(BAD)
    assert process()["quarantine_path"] == "quarantine/a.csv"
    assert left(world) == QUARANTINED


def test_what_has_come_under_the_name_meanwhile_is_no_copy(world):
    Path("data/a.csv").write_text(BAD)
    process_until("before_move")
    Path("quarantine/a.csv").write_text("another's")
    result = process()
    assert result["quarantine_path"] == f"quarantine/a~{result['sha256'][:8]}.csv"
    assert Path("quarantine/a.csv").read_text() == "another's"
    assert rows(world, "select count(*) from ingest_files") == [(1,)]


def test_a_file_brought_back_from_quarantine_is_judged_afresh(world):
    Path("data/a.csv").write_text(BAD)
    first = process()
    assert process(task_id="another") == first, "a path where nothing lies gives what is known"
    os.rename("quarantine/a.csv", "data/a.csv")
    second = process()
    assert (second["status"], second["quarantine_path"]) == ("quarantined", f"quarantine/a~{first['sha256'][:8]}.csv")
    Path("data/a.csv").write_text(GOOD)
    assert process()["status"] == "loaded"
    Path("data/b.csv").write_text(GOOD)
    assert process("data/b.csv")["duplicate_of"] == "a.csv"
    assert process("data/a.csv")["status"] == "loaded", "no duplicate of itself"
    assert process("data/nowhere.csv") == process("data/nowhere.csv") == {"status": "missing", "file_path": "data/nowhere.csv"}
    states = rows(world, "select state, count(*) from ingest_files group by 1 order by 1")
    assert states == [("duplicate", 1), ("loaded", 1), ("missing", 1), ("quarantined", 2)]


def test_what_postgresql_refuses_by_a_rule_of_its_own_is_quarantined(world):
    Path("data/a.csv").write_text(GOOD)
    world.execute("alter table raw_sensor_data add check (temp < 20)")
    result = process()
    assert (result["status"], result["reasons"]) == ("quarantined", {"refused_by_database": 1})
    assert "raw_sensor_data_temp_check" in result["reason"] and "[23514]" in result["reason"]
    assert left(world)[0] == [0, 0, 0]


def test_missing_tables_and_rights_are_waited_for(world):
    Path("data/a.csv").write_text(GOOD)
    world.execute("alter table raw_sensor_data rename to elsewhere")
    with pytest.raises(DeploymentError, match="celeriac db migrate"):
        process()
    world.execute("alter table elsewhere rename to raw_sensor_data")
    world.execute("update _sqlx_migrations set version = 2")
    with pytest.raises(DeploymentError, match="at version 2, this worker needs 3"):
        process()
    world.execute("update _sqlx_migrations set version = 3")
    assert process()["status"] == "loaded" and left(world) == LOADED


def test_a_server_that_is_away_is_an_outage_and_shows_no_password(world, monkeypatch):
    Path("data/a.csv").write_text(GOOD)
    for url, kind in {"postgres://u:geheim@127.0.0.1:1/db": Outage, "mysql://u:geheim@h/db": DeploymentError,
                      "postgres://u:geheim@h:notaport/db": Outage}.items():  # fmt: skip
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(kind) as caught:
            process()
        assert "geheim" not in str(caught.value)


def test_an_answer_that_does_not_come_is_an_outage(world):
    with Database(os.environ["DATABASE_URL"]) as database:
        with pytest.raises(Outage):
            database.execute("cannot wait", "select pg_sleep(60)", timeout_s=0.2)
        assert database.execute("cannot ask", "select 1 as one")[0].one == 1, "by a new connection"


def test_a_session_that_postgresql_ends_is_an_outage(world):
    with Database(os.environ["DATABASE_URL"]) as database:
        with pytest.raises(Outage, match="57P01"):
            database.execute("cannot go on", "select pg_terminate_backend(pg_backend_pid())")


def test_a_quarantine_on_another_file_system_gets_a_copy(world, monkeypatch):
    Path("data/a.csv").write_text(BAD)
    if os.stat("/dev/shm").st_dev == os.stat(".").st_dev:
        pytest.skip("/dev/shm is no other file system here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        monkeypatch.setenv("QUARANTINE_DIR", elsewhere)
        assert process()["quarantine_path"] == f"{elsewhere}/a.csv"
        assert sorted(os.listdir(elsewhere)) == ["a.csv", "a.csv.error.json"]
        assert Path(elsewhere, "a.csv").read_text() == BAD and not os.listdir("data")


def test_a_disk_that_does_not_take_it_is_an_outage_and_the_file_stays(world):
    Path("data/a.csv").write_text(BAD)
    Path("quarantine").write_text("in the way")
    with pytest.raises(Outage, match="quarantine"):
        process()
    assert os.listdir("data") == ["a.csv"]
    os.remove("quarantine")
    assert process()["status"] == "quarantined" and left(world) == QUARANTINED


def test_a_file_that_changes_while_it_is_read_is_rolled_back_and_read_again(world, monkeypatch):
    Path("data/a.csv").write_text(GOOD)
    changes = iter(range(10))
    validate = processing.validate_and_transform_data

    def validate_then_change(file):
        checked = validate(file)
        with open("data/a.csv", "a") as writer:
            writer.write(f"{1594513000 + next(changes)},b8:27,0.005,51.0,false,0.0077,false,0.02,22.7\n")
        return checked

    monkeypatch.setattr(processing, "validate_and_transform_data", validate_then_change)
    with pytest.raises(FileChanged):
        process()
    assert next(changes) == 4, "three times at once, and then it is handed back"
    assert left(world)[:2] == ([0, 0, 0], [])


def test_two_workers_with_the_same_content_load_it_once(world):
    for name in "ab":
        Path(f"data/{name}.csv").write_text(GOOD)
    results = []
    threads = [threading.Thread(target=lambda n=n: results.append(process(f"data/{n}.csv")["status"])) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["duplicate", "loaded"] and left(world)[0] == [20, 1, 5]


@pytest.mark.parametrize("meaning, states", [
    ("outage", "08006 57P01 57P03 53300 53100 40001 40P01 25006 55P03 55006 57014 58030 XX000"),
    ("deployment", "42P01 42501 42703 28P01 3D000 3F000 55000"),
    ("rows", "23514 22003"),
    ("defect", "25P02 0A000"),
])  # fmt: skip
def test_what_an_sqlstate_means(meaning, states):
    assert {sqlstate_meaning(state) for state in states.split()} == {meaning}
