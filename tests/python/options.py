"""Tasks with options, for the comparison with ours: tests/worker/options.rs has the same ones."""
import builtins
import json
import os
import time

from celery import Celery, exceptions

app = Celery("options", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.update(broker_connection_retry_on_startup=True, **json.loads(os.environ.get("CONF", "{}")))


def task(name, **options):
    return app.task(name=f"options.{name}", **options)


def fail(kind):
    raise getattr(builtins, kind)("on purpose")


@task("plain")
def plain(value=None):
    return value


@task("fails")
def fails(kind="ValueError"):
    fail(kind)


@task("tracked", track_started=True)
def tracked():
    return 1


@task("ignored", ignore_result=True)
def ignored(kind=None):
    if kind:
        fail(kind)
    return 1


@task("errors_stored", ignore_result=True, store_errors_even_if_ignored=True)
def errors_stored(kind=None):
    if kind:
        fail(kind)
    return 1


@task("throws", throws=(LookupError,))
def throws(kind):
    fail(kind)


@task("retried", bind=True, max_retries=2, default_retry_delay=0.5)
def retried(self, kind):
    try:
        fail(kind)
    except Exception as error:
        raise self.retry(exc=error)


@task("retried_without_cause", bind=True, max_retries=1)
def retried_without_cause(self, value=None):
    raise self.retry(countdown=0.5)


@task("unlimited", bind=True, max_retries=None, default_retry_delay=0.5)
def unlimited(self, times):
    if self.request.retries < times:
        raise self.retry()
    return self.request.retries


@task("retried_more", bind=True, max_retries=1, default_retry_delay=0.5)
def retried_more(self):
    """What the call says wins over what the task says."""
    raise self.retry(max_retries=2, exc=KeyError("enough"))


@task("automatic", autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), max_retries=1, default_retry_delay=0.5)
def automatic(kind):
    fail(kind)


@task("backoff", autoretry_for=(Exception,), retry_backoff=True, retry_backoff_max=2, retry_jitter=False, max_retries=3)
def backoff():
    fail("ValueError")


@task("retried_with_args", bind=True, max_retries=1)
def retried_with_args(self, foo, bar, label=None):
    if self.request.retries:
        return [foo, bar, label]
    raise self.retry(args=("new", "newer"), countdown=0.5)


@task("retried_with_kwargs", bind=True, max_retries=1)
def retried_with_kwargs(self, foo, bar):
    if self.request.retries:
        return [foo, bar]
    raise self.retry(kwargs={"bar": "new"}, countdown=0.5)


@task("retried_elsewhere", bind=True, max_retries=1)
def retried_elsewhere(self):
    if self.request.retries:
        info = self.request.delivery_info
        return [info["routing_key"], info["priority"], self.request.timelimit, self.request.headers]
    raise self.retry(countdown=0.5, priority=3, time_limit=50, soft_time_limit=40)


@task("hard", time_limit=1)
def hard():
    time.sleep(10)


@task("hard_late", time_limit=1, acks_late=True)
def hard_late():
    time.sleep(10)


@task("hard_again", bind=True, time_limit=1, acks_late=True, acks_on_timeout=False)
def hard_again(self):
    if self.request.delivery_info["redelivered"]:
        return "again"
    time.sleep(10)


@task("soft", soft_time_limit=1)
def soft():
    time.sleep(10)


@task("soft_caught", soft_time_limit=1)
def soft_caught():
    try:
        time.sleep(10)
    except exceptions.SoftTimeLimitExceeded:
        return "cleaned up"


@task("naps")
def naps(seconds):
    time.sleep(seconds)
    return seconds


@task("naps_limited", time_limit=60)
def naps_limited(seconds):
    time.sleep(seconds)
    return seconds


@task("failure_refused", acks_late=True, acks_on_failure=False)
def failure_refused():
    fail("ValueError")


@task("late", acks_late=True)
def late(value):
    return value


@task("rate_limited", rate_limit="2/s")
def rate_limited(value):
    return value


@task("progress", bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    return 2


@task("ignores", bind=True)
def ignores(self):
    raise exceptions.Ignore()


@task("rejects_once", bind=True, acks_late=True)
def rejects_once(self):
    if self.request.delivery_info["redelivered"]:
        return "again"
    raise exceptions.Reject("not now", requeue=True)


@task("rejects", acks_late=True)
def rejects():
    raise exceptions.Reject("for good", requeue=False)


@task("request", bind=True)
def request(self, *args, **kwargs):
    request = self.request
    return {
        "id": request.id, "retries": request.retries, "root_id": request.root_id, "parent_id": request.parent_id,
        "group": request.group, "group_index": request.group_index, "args": list(request.args),
        "kwargs": request.kwargs, "eta": request.eta, "expires": request.expires, "timelimit": request.timelimit,
        "headers": request.headers, "priority": request.delivery_info["priority"],
        "routing_key": request.delivery_info["routing_key"], "redelivered": request.delivery_info["redelivered"],
        "correlation_id": request.correlation_id,
    }
