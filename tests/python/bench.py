"""Python's side of tests/bench: the tasks that bench-worker has."""
import os
import time

import redis
from celery import Celery

app = Celery("bench", broker=os.environ["BROKER_URL"], backend=os.environ.get("RESULT_URL") or None)
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=os.environ.get("IGNORE_RESULT") == "1",
                task_acks_late=os.environ.get("ACKS_LATE") == "1",
                worker_prefetch_multiplier=int(os.environ.get("PREFETCH_MULT", "4")))
traces = redis.Redis.from_url(os.environ["COUNTER_URL"])


@app.task(name="bench.noop")
def noop():
    pass


@app.task(name="bench.add")
def add(x, y):
    return x + y


@app.task(name="bench.mark")
def mark():
    traces.rpush("bench:mark", f"{time.time():.6f}")


@app.task(name="bench.stamp")
def stamp(t0):
    traces.rpush("bench:lat", f"{time.time() - t0:.6f}")
