"""The app of the interop tests: the tasks that Python's worker runs, and the names of those that ours runs."""
import builtins
import json
import os
import time

from celery import Celery
from celery.exceptions import Reject

app = Celery("proj", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True)
app.conf.accept_content = ["json", "msgpack", "yaml"]
if "VISIBILITY_TIMEOUT" in os.environ:
    app.conf.broker_transport_options = {"visibility_timeout": float(os.environ["VISIBILITY_TIMEOUT"])}
if "BROKER_OPTIONS" in os.environ:
    app.conf.broker_transport_options = json.loads(os.environ["BROKER_OPTIONS"])
if "BACKEND_OPTIONS" in os.environ:
    app.conf.result_backend_transport_options = json.loads(os.environ["BACKEND_OPTIONS"])


@app.task(name="proj.add")
def add(x, y):
    return x + y


@app.task(name="proj.total")
def total(values):
    return sum(values)


@app.task(name="proj.identity")
def identity(value):
    return value


@app.task(name="proj.boom")
def boom(exc_type, text):
    raise getattr(builtins, exc_type)(text)


@app.task(name="proj.nap")
def nap(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="proj.nap_late", acks_late=True)
def nap_late(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="proj.flaky", bind=True)
def flaky(self, times, max_retries):
    if self.request.retries >= times:
        return self.request.retries
    raise self.retry(countdown=0.5, max_retries=max_retries, exc=KeyError("nope"))


@app.task(name="proj.refuses")
def refuses():
    raise Reject("bad", requeue=False)


@app.task(name="proj.refuses_once", bind=True, acks_late=True)
def refuses_once(self):
    if self.request.delivery_info.get("redelivered"):
        return "taken"
    raise Reject("later", requeue=True)


@app.task(name="proj.python_only")
def python_only(value):
    return value


@app.task(name="proj.python_nap")
def python_nap(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="worker.tasks.process_file_task")
def process_file_task(file_path):
    return {"status": "loaded", "file_path": file_path}
