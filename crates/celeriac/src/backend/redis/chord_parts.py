"""Python's backend, which counts parts of a chord for the tests. A line in is [task id, index, value], or ["start", 0, size];
a line out is the list of what lies in the body's queue then, the arguments of each."""
import base64
import json
import sys
from types import SimpleNamespace

from celery import Celery

broker, backend, prefix, settings = sys.argv[1:]
group = "g"
app = Celery("chord_parts", broker=broker, backend=backend)
app.conf.update(json.loads(settings))
body = app.signature("body", task_id=group + "-body", queue=prefix)


def sent():
    with app.connection_for_read() as connection:
        messages = connection.default_channel.client.lrange(prefix, 0, -1)[::-1]
    return [json.loads(base64.b64decode(json.loads(message)["body"]))[0] for message in messages]


for line in sys.stdin:
    task_id, index, value = json.loads(line)
    if task_id == "start":
        app.backend.set_chord_size(group, value)
    else:
        request = SimpleNamespace(id=task_id, group=group, group_index=index, chord=dict(body))
        app.backend.on_chord_part_return(request, "SUCCESS", value)
    print(json.dumps(sent()), flush=True)
