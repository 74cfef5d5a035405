"""The Celery app, and `worker.tasks.process_file_task(file_path)`.

    cd python_interop && celery -A worker.tasks worker --loglevel=info

Guarantee F4: an outage uses up no retries and is tried again without end; `max_retries` is for the unexpected. A file's
fate, whatever it is, is a SUCCESS. Deliberate difference from the seed: late acks, so that a killed worker loses no file.
"""
from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue

import settings
from db.query import Database
from errors import DeploymentError, FileChanged, Outage
from worker.process_file import process_file
from worker.run import Run, jitter

SETTINGS = settings.load()

# Waits before the task comes again, in seconds.
OUTAGE_S = 25
DEPLOYMENT_S = 45  # for somebody to run the migrations or to grant a right
CHANGED_S = 5  # for a writer to end

app = Celery("worker.tasks", broker=SETTINGS.broker_url, backend=SETTINGS.result_backend)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": SETTINGS.visibility_timeout,
        # How often messages of dead workers are looked for (by default every 100 s), and how long nobody looks when a
        # worker has died just while it did.
        "unacked_restore_interval": min(10, SETTINGS.visibility_timeout / 2),
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": max(1, int(min(300, SETTINGS.visibility_timeout))),
        "socket_connect_timeout": 5,
        "socket_timeout": 30,
    },
    # `reports` is for tasks that only Python has: a Rust worker consumes `celery` alone and never sees them.
    task_queues=[Queue(name, Exchange(name, type="direct"), routing_key=name) for name in ("celery", "reports")],
    task_default_queue="celery",
    task_routes={"reports.*": {"queue": "reports"}},
    imports=["reports"],
)


@app.task(
    name="worker.tasks.process_file_task",
    bind=True,
    acks_late=True,
    reject_on_worker_lost=True,
    max_retries=5,
    default_retry_delay=10,
)
def process_file_task(self, file_path):
    """Brings the file at `file_path` to its fate (docs/ingest-rules.md, "Result")."""
    if not isinstance(file_path, str):
        raise TypeError(f"file_path must be a string, not {type(file_path).__name__}")
    try:
        with Database(SETTINGS.database_url) as database:
            return process_file(Run(SETTINGS, database, file_path, self.request.id))
    except DeploymentError as error:
        raise come_again(self, DEPLOYMENT_S, RuntimeError(str(error))) from error
    except Outage as error:
        raise come_again(self, OUTAGE_S, OSError(str(error))) from error
    except FileChanged as error:
        raise come_again(self, CHANGED_S, OSError(f"{file_path} changed while it was read")) from error
    except Exception as error:
        raise resent(self, RuntimeError(str(error))) from error


def come_again(task, seconds, cause):
    """A retry that is not counted: the message keeps its number of retries."""
    task.request.retries -= 1
    return resent(task, cause, countdown=jitter(seconds))


def resent(task, cause, **options):
    """The exception that says that the task is sent again; `cause` itself once its retries are used up."""
    try:
        return task.retry(exc=cause, throw=False, **options)
    except Reject as reject:
        # The broker did not take it, and Celery would drop the message then.
        return Reject(reject.reason, requeue=True)
