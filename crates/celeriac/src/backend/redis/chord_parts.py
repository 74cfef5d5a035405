"""Python's backend, which counts parts of chords for the tests: a line in is [task id, index, value], a line out is what lies
in the queue of the body then, each as the arguments of the body."""
import base64
import json
import sys
from types import SimpleNamespace

from celery import Celery

broker, backend, prefix, group = sys.argv[1:]
app = Celery("chord_parts", broker=broker, backend=backend)
app.conf.result_backend_transport_options = {"global_keyprefix": prefix}
body = app.signature("body", task_id=group + "-body", queue=prefix)


def sent():
    with app.connection_for_read() as connection:
        messages = connection.default_channel.client.lrange(prefix, 0, -1)
    return [json.loads(base64.b64decode(json.loads(message)["body"]))[0] for message in messages]


for line in sys.stdin:
    task_id, index, value = json.loads(line)
    if task_id == "start":
        app.backend.set_chord_size(group, value)
    else:
        request = SimpleNamespace(id=task_id, group=group, group_index=index, chord=dict(body))
        app.backend.on_chord_part_return(request, "SUCCESS", value)
    print(json.dumps(sent()), flush=True)
