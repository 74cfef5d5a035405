"""What a worker writes about tasks of every kind: run as a program, it sends them under fixed ids to whatever worker
consumes, and prints what was published of each, without what differs from run to run. As `-A documents`, it is the app of
Python's worker. RESULTS is the settings of the results, as JSON.
"""
import json
import os
import re
import sys
import time

from celery import chain, group

from proj import add, app

app.conf.update(task_track_started=True, **json.loads(os.environ.get("RESULTS", "{}")))

PATIENCE = 30
UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ProjError(Exception):
    pass


@app.task(name="proj.custom")
def custom():
    raise ProjError("bad", 7)


@app.task(name="proj.flaky", bind=True)
def flaky(self, times, max_retries):
    if self.request.retries >= times:
        return self.request.retries
    raise self.retry(exc=KeyError("nope"), countdown=0.1, max_retries=max_retries)


@app.task(name="proj.parent")
def parent():
    return add.delay(2, 2).id


@app.task(name="proj.progress", bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
    return None


def send():
    """Sends one of each; returns the ids of which a last state is expected."""
    boom = app.signature("proj.boom", ("ValueError", "größer\n€"))
    add.apply_async((1, 2), task_id="success")
    add.apply_async((), {"x": 15, "y": -2}, task_id="success-kwargs")
    app.send_task("proj.add", (1,), task_id="wrong-arguments")
    boom.apply_async(task_id="failure")
    custom.apply_async(task_id="failure-custom")
    flaky.apply_async((1, 3), task_id="retried")
    flaky.apply_async((9, 0), task_id="given-up")
    add.apply_async((1, 2), expires=-1, task_id="expired")
    parent.apply_async(task_id="parent")
    progress.apply_async(task_id="progress")
    add.apply_async((1, 2), task_id="stamped", headers={"stamps": {"day": "mon"}, "stamped_headers": ["day"]})
    group([add.s(1, n).set(task_id=f"member-{n}") for n in range(2)]).apply_async()
    chain(add.s(1, 1).set(task_id="first"), add.s(2).set(task_id="second")).apply_async()
    chain(boom.set(task_id="broken"), add.si(1, 1).set(task_id="never")).apply_async()
    return {
        "success", "success-kwargs", "wrong-arguments", "failure", "failure-custom", "retried", "given-up", "expired",
        "parent", "progress", "stamped", "member-0", "member-1", "first", "second", "broken", "never",
    }


def comparable(raw):
    """The document without times, process ids, node names, random ids and tracebacks; the rest byte for byte."""
    document = app.backend.decode(raw)
    text = raw.decode()
    if document["status"] == "STARTED":
        text = text.replace(json.dumps(document["result"]), '"<pid and hostname>"')
        assert list(document["result"]) == ["pid", "hostname"], document
    for key in "date_done", "traceback", "worker":
        if document.get(key) is not None:
            text = text.replace(json.dumps(document[key]), f'"<{key}>"')
    return document, UUID.sub("<uuid>", text)


def main():
    pubsub = app.backend.client.pubsub(ignore_subscribe_messages=True)
    prefix = app.backend.task_keyprefix.decode()
    pubsub.psubscribe(prefix + "*")
    waiting, seen = send(), {}
    deadline = time.monotonic() + PATIENCE
    while waiting:
        if time.monotonic() > deadline:
            sys.exit(f"not ready: {waiting}")
        message = pubsub.get_message(timeout=1)
        if message:
            task_id = message["channel"].decode().removeprefix(prefix)
            document, text = comparable(message["data"])
            documents = seen.setdefault(UUID.sub("<uuid>", task_id), [])
            # Python says some things twice.
            if documents[-1:] != [text]:
                documents.append(text)
            if document["status"] in app.backend.READY_STATES:
                waiting.discard(task_id)
    for task_id, documents in sorted(seen.items()):
        if task_id != "<uuid>":
            print(task_id, *documents, sep="\n    ")


if __name__ == "__main__":
    main()
