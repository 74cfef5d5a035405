"""How a task comes again: what lies in a real Redis then."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

HERE = Path(__file__).parents[1]

# As in a worker that runs the task, in a process of its own, because the app reads the environment once.
PROGRAM = """if True:
    import sys
    from worker.tasks import come_again, process_file_task, resent
    for case in sys.argv[1:]:
        kind, retries = case.split()
        process_file_task.push_request(
            id=case, retries=int(retries), called_directly=False, args=["data/a.csv"], kwargs={},
            delivery_info={"exchange": "", "routing_key": "celery"},
        )
        try:
            if kind == "outage":
                error = come_again(process_file_task, 25, OSError("away"))
            else:
                error = resent(process_file_task, RuntimeError("a defect"))
        except RuntimeError as raised:
            error = raised
        print(case, type(error).__name__, getattr(error, "requeue", ""))
"""


def ends_of_runs(url, *cases):
    environment = {**os.environ, "CELERY_BROKER_URL": url, "PYTHONPATH": str(HERE)}
    run = subprocess.run([sys.executable, "-c", PROGRAM, *cases], env=environment, stdout=subprocess.PIPE, text=True)
    return [line.strip() for line in run.stdout.splitlines()]


def test_an_outage_uses_up_no_retry_and_a_defect_does():
    if "CELERY_BROKER_URL" not in os.environ:
        pytest.fail('no CELERY_BROKER_URL: run `make test`, or `make up` and then eval "$(tests/services/services env)"')
    # A database that nobody else uses.
    url = os.environ["CELERY_BROKER_URL"].rpartition("/")[0] + "/15"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        ends = ends_of_runs(url, "outage 0", "outage 5", "defect 0", "defect 4", "defect 5")
        messages = [json.loads(text)["headers"] for text in reversed(client.lrange("celery", 0, -1))]
        client.flushdb()
    assert ends == [*[f"{case} Retry" for case in ("outage 0", "outage 5", "defect 0", "defect 4")], "defect 5 RuntimeError"]
    retries = [(message["id"], message["retries"], message["eta"] is not None) for message in messages]
    assert retries == [("outage 0", 0, True), ("outage 5", 5, True), ("defect 0", 1, True), ("defect 4", 5, True)]


def test_a_retry_that_redis_does_not_take_leaves_the_message_where_it_is():
    assert ends_of_runs("redis://127.0.0.1:1/0", "outage 0") == ["outage 0 Reject True"]
