"""The smallest client: sends a file's task, waits for the result, handles the failure; a Python task is linked behind.

    cd python_interop && python client.py data/split_1.csv

Rust counterpart: crates/celeriac/examples/client.rs
"""
import os
import sys

from celery import Celery
from celery.exceptions import TimeoutError

app = Celery(broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])


def main(path):
    # Either worker runs the file's task; only Python's has this one, on a queue of its own.
    report = app.signature("reports.summarise", queue="reports")
    summary = report.freeze()  # names its id now, so that its result can be asked for
    sent = app.send_task("worker.tasks.process_file_task", [path], link=report)
    try:
        print(sent.get(timeout=60))
        print(summary.get(timeout=60))
    except TimeoutError:
        return "no result within 60 s: does a worker run?"
    except Exception as error:  # whatever the task has raised, by its own type
        return f"the task has failed: {error!r}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 2 else "usage: client.py PATH")
