"""An idle worker, beside Python's in one run: how soon a task starts, what waiting costs, what a fleet costs Redis.

    tests/bench/run idle [--rounds N] [--samples N] [--idle SECONDS]

One line of JSON for each measurement. Ratios of ours to Python's are of medians within this run; the machine's other work
moves the single figures. Needs `make workers`; starts a Redis of its own.
"""
import argparse
import atexit
import base64
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "bench-worker"
# As long as any time to the microsecond.
SOME_TIME = 1111111111.111111
# Seconds in which any worker starts a task.
UNDISTURBED = 0.01


def envelope(task, args, queue):
    task_id = str(uuid.uuid4())
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    headers = {"lang": "py", "task": task, "id": task_id, "shadow": None, "eta": None, "expires": None, "group": None,
               "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": task_id, "parent_id": None,
               "argsrepr": "()", "kwargsrepr": "{}", "origin": "bench", "ignore_result": True,
               "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {}}
    properties = {"correlation_id": task_id, "reply_to": "", "delivery_mode": 2, "priority": 0,
                  "delivery_info": {"exchange": "", "routing_key": queue}, "body_encoding": "base64",
                  "delivery_tag": str(uuid.uuid4())}
    return json.dumps({"body": base64.b64encode(body.encode()).decode(), "content-encoding": "utf-8",
                       "content-type": "application/json", "headers": headers, "properties": properties})


class Server:
    """A Redis of the run's own: broker in database 0, the tasks' traces in database 1."""

    def __init__(self, directory):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL)
        self.broker, self.traces = self.database(0), self.database(1)
        await_(self.answers, "redis does not start")

    def database(self, number):
        return redis.Redis(port=self.port, db=number)

    def answers(self):
        with contextlib.suppress(redis.RedisError):
            return self.broker.ping()

    def cpu(self):
        info = self.broker.info("cpu")
        return info["used_cpu_user"] + info["used_cpu_sys"]

    def commands(self):
        return self.broker.info("stats")["total_commands_processed"]


def await_(condition, complaint, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(complaint)
        time.sleep(0.005)


class Worker:
    def __init__(self, server, kind, queues, name="worker", concurrency=2, environment=None, options=()):
        # The addresses of the caller's environment would win over those of the run.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
        environment = inherited | {"BROKER_URL": f"redis://127.0.0.1:{server.port}/0",
                                   "COUNTER_URL": f"redis://127.0.0.1:{server.port}/1",
                                   "RESULT_URL": "", "IGNORE_RESULT": "1"} | (environment or {})
        options = ["worker", "-l", "warning", "-c", str(concurrency), "-Q", ",".join(queues), "-n", f"{name}@bench",
                   *options]
        command = [str(OURS), *options]
        if kind == "python":
            command = [sys.executable, "-m", "celery", "-A", "bench", *options]
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT / "tests" / "python",
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self.kill)

    def cpu(self):
        """Seconds, of all its processes."""
        ticks = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == self.process.pid:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def kill(self):
        """Nothing outlives a run that has failed: it would take from the processors of the next one."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def send(server, task, args, queue):
    server.broker.lpush(queue, envelope(task, args, queue))


class Stamps:
    """Sends `bench.stamp` with the time at which it is sent: all else of the message is made before."""

    def __init__(self, server):
        self.connection = socket.create_connection(("127.0.0.1", server.port))
        self.traces = server.traces
        self.count = server.traces.llen("bench:lat")

    def send(self, queue):
        message = envelope("bench.stamp", [SOME_TIME], queue).encode()
        text = json.loads(message)["body"].encode()
        body = base64.b64decode(text)
        command = b"*3\r\n$5\r\nLPUSH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(queue), queue.encode(), len(message), message)
        before, after = command.split(text)
        stamped = body.replace(b"%.6f" % SOME_TIME, b"%.6f" % time.time())
        self.connection.sendall(before + base64.b64encode(stamped) + after)
        # Nobody else uses the processors while it is on its way.
        time.sleep(UNDISTURBED)
        self.connection.recv(1024)
        self.count += 1
        await_(lambda: self.traces.llen("bench:lat") == self.count, "a task did not run")


def runs_one(server, queue):
    server.traces.delete("bench:lat")
    Stamps(server).send(queue)


def report(**figures):
    print(json.dumps(figures), flush=True)


def latency(server, kind, queues, samples):
    server.broker.flushall()
    worker = Worker(server, kind, queues)
    runs_one(server, queues[0])
    time.sleep(1)
    server.traces.delete("bench:lat")
    stamps = Stamps(server)
    for number in range(samples):
        time.sleep(0.01 + 0.03 * (number % 7) / 7)
        stamps.send(queues[number % len(queues)])
    worker.stop()
    return sorted(float(seconds) * 1000 for seconds in server.traces.lrange("bench:lat", 0, -1))


def idle(server, queues, seconds):
    server.broker.flushall()
    worker = Worker(server, "ours", queues, concurrency=8)
    runs_one(server, queues[0])
    time.sleep(3)
    connections = len(server.broker.client_list()) - 2
    cpu, commands = worker.cpu(), server.commands()
    time.sleep(seconds)
    cpu, commands = worker.cpu() - cpu, server.commands() - commands - 1
    worker.stop()
    report(measured="idle", queues=len(queues), seconds=seconds, cpu_percent=round(100 * cpu / seconds, 3),
           commands_per_second=round(commands / seconds, 2), connections=connections)


def fleet(server, size, samples):
    """Microseconds of Redis's CPU for one push and its task, with so many idle workers on the queue."""
    server.broker.flushall()
    workers = [Worker(server, "ours", ["celery"], f"w{number}", 1) for number in range(size)]
    await_(lambda: server.broker.hlen("unacked_workers") == size, "the fleet does not start")
    # Everybody has heard of everybody.
    time.sleep(8)
    spent = []
    for is_pushing in (False, True, False, True):
        cpu = server.cpu()
        for _ in range(samples):
            time.sleep(0.02)
            if is_pushing:
                send(server, "bench.noop", [], "celery")
        spent.append(server.cpu() - cpu)
    await_(lambda: server.broker.llen("celery") == 0, "the fleet does not run")
    for worker in workers:
        worker.stop()
    return 1e6 * (spent[1] + spent[3] - spent[0] - spent[2]) / (2 * samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=150)
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--fleet", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory)
        try:
            for count in (1, 8):
                queues = ["celery", *(f"q{number}" for number in range(1, count))]
                taken = {"python": [], "ours": []}
                for _ in range(options.rounds):
                    for kind, milliseconds in taken.items():
                        milliseconds += latency(server, kind, queues, options.samples)
                median = {kind: statistics.median(figures) for kind, figures in taken.items()}
                late = {kind: sorted(figures)[len(figures) * 99 // 100] for kind, figures in taken.items()}
                report(measured="latency", queues=count, samples=len(taken["ours"]),
                       p50_ms={kind: round(value, 3) for kind, value in median.items()},
                       p99_ms={kind: round(value, 3) for kind, value in late.items()},
                       p50_ratio=round(median["ours"] / median["python"], 2),
                       p99_ratio=round(late["ours"] / late["python"], 2))
            alone, together = fleet(server, 1, options.samples), fleet(server, options.fleet, options.samples)
            report(measured="push", workers=[1, options.fleet], redis_us=[round(alone), round(together)],
                   ratio=round(together / alone, 2))
            if options.idle:
                for count in (1, 8):
                    idle(server, ["celery", *(f"q{number}" for number in range(1, count))], options.idle)
        finally:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
