"""Prints each event as a line of JSON, as Celery's own receiver hands it out, until it is killed."""
import json

from proj import app

with app.connection_for_read() as connection:
    receiver = app.events.Receiver(connection, handlers={"*": lambda event: print(json.dumps(event), flush=True)})
    # It does not ask for heartbeats: the test sees those that come by themselves.
    receiver.capture(limit=None, timeout=None, wakeup=False)
