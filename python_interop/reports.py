"""Tasks that only the Python worker has, on a queue of their own (see `task_routes` in worker/tasks.py)."""
from celery import shared_task


@shared_task(name="reports.summarise")
def summarise(result):
    """One sentence about the result of `process_file_task`; made to be linked behind it."""
    what = {
        "loaded": "{rows} rows loaded",
        "duplicate": "a copy of {duplicate_of}",
        "quarantined": "quarantined, {reason}",
        "missing": "not there",
    }[result["status"]]
    return "{file_path}: ".format(**result) + what.format(**result)
