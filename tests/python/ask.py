"""Asks workers with Celery's own remote control, and results with its AsyncResult.

    python ask.py '[["broadcast", "ping", {}, ["w1@host"], 1], ["result", "<task id>"], …]'

Each call has a line of JSON as its answer: of a broadcast the replies, merged; of a result `[state, repr]`; of a
signature that is stamped and sent (`["stamped", "<task>", [args], {stamps}, {options}]`) its id.
"""
import json
import sys

from proj import app

for kind, *call in json.loads(sys.argv[1]):
    if kind == "broadcast":
        method, arguments, destination, limit = call
        # With a shorter patience kombu's client misses replies: its last wait on the connection goes on.
        replies = app.control.broadcast(
            method, arguments=arguments, destination=destination, reply=True, limit=limit, timeout=5)
        answer = {node: value for reply in replies for node, value in reply.items()}
    elif kind == "result":
        result = app.AsyncResult(call[0])
        answer = [result.state, repr(result.result)]
    elif kind == "stamped":
        task, args, stamps, options = call
        signature = app.signature(task, args=args)
        signature.stamp(**stamps)
        answer = signature.apply_async(**options).id
    print(json.dumps(answer))
