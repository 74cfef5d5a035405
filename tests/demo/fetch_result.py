"""Fetches a task's result as any Python program would: real Celery, the same Redis, the task's id.

usage: fetch_result.py TASK_ID        (addresses in CELERY_BROKER_URL and CELERY_RESULT_BACKEND)
"""

import json
import os
import sys

import celery

TIMEOUT_SECONDS = 30

app = celery.Celery(broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
result = app.AsyncResult(sys.argv[1])
value = result.get(timeout=TIMEOUT_SECONDS)
print(f"Python {sys.version.split()[0]}, Celery {celery.__version__}")
print(f">>> AsyncResult({result.id!r}).get()")
print(json.dumps(value, indent=4))
if (result.state, value["status"]) != ("SUCCESS", "loaded"):
    sys.exit(f"expected a loaded file, state SUCCESS; got state {result.state}")
