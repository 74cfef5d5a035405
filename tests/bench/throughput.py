"""Tasks in a row, beside Python's prefork worker in one run: rate, CPU, memory, and how far Redis itself is from it.

    tests/bench/run throughput [--rounds N] [--tasks N] [--million] [--only early-8,late-64-results]

For each way to acknowledge (early, late), each number of messages in hand (8: Celery's default at `-c 2`; 64), without and
with results: rates and CPU of both workers, as medians of the ratios of runs that follow each other; every task must have
run and every result must be there. Then the memory, the start, the floor (one script that takes so many at once, and their
acks, with nobody else), and our share of it. One line of JSON for each. Needs `make workers`; starts a Redis of its own.
"""
import argparse
import itertools
import json
import os
import pathlib
import socket
import statistics
import sys
import tempfile
import time

from idle import Server, Worker, await_, envelope, report

QUEUE = "celery"
RESULTS = 2
PAGE = os.sysconf("SC_PAGE_SIZE")

# What Redis must do at the least: as many claims as messages, written before the pop.
TAKE = """
local waiting = redis.call('LRANGE', KEYS[1], -ARGV[1], -1)
local records, scores, clock = {}, {}, redis.call('TIME')
for j = #waiting, 1, -1 do
  local claim = ARGV[2] .. j
  scores[#scores + 1] = clock[1] .. '.' .. clock[2]
  scores[#scores + 1] = claim
  records[#records + 1] = claim
  records[#records + 1] = '[' .. waiting[j] .. ', "", "celery"]'
end
redis.call('ZADD', 'unacked_index', unpack(scores))
redis.call('HSET', 'unacked', unpack(records))
redis.call('RPOP', KEYS[1], #waiting)
return waiting
"""


def fill(server, task, args, count, has_result, marks=True):
    queue = server.broker.pipeline(transaction=False)
    tasks = [(task, args)] * count
    if marks:
        tasks = [("bench.mark", []), *tasks, ("bench.mark", [])]
    for start in range(0, len(tasks), 1000):
        queue.lpush(QUEUE, *(message(name, args, has_result and name == task) for name, args in tasks[start:start + 1000]))
        queue.execute()


def message(task, args, has_result):
    text = envelope(task, args, QUEUE)
    return text.replace('"ignore_result": true', '"ignore_result": false') if has_result else text


def rss(pid):
    """MB, of this process alone."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20


def started(server, kind, in_hand, is_late, has_results, options=()):
    environment = {"PREFETCH_MULT": str(in_hand // 2), "ACKS_LATE": "1" if is_late else "0",
                   "IGNORE_RESULT": "0" if has_results else "1",
                   "RESULT_URL": f"redis://127.0.0.1:{server.port}/{RESULTS}" if has_results else ""}
    return Worker(server, kind, [QUEUE], environment=environment, options=options)


def marks(server):
    return [float(mark) for mark in server.traces.lrange("bench:mark", 0, -1)]


def run(server, kind, in_hand, is_late, has_results, tasks):
    for database in (0, 1, RESULTS):
        server.database(database).flushdb()
    fill(server, "bench.add" if has_results else "bench.noop", [2, 3] if has_results else [], tasks, has_results)
    worker = started(server, kind, in_hand, is_late, has_results)
    await_(lambda: server.traces.llen("bench:mark") >= 1, f"{kind}: nothing runs")
    cpu, of_redis = worker.cpu(), server.cpu()
    await_(lambda: server.traces.llen("bench:mark") == 2, f"{kind}: not everything has run", 600)
    cpu, of_redis = worker.cpu() - cpu, server.cpu() - of_redis
    first, last = marks(server)
    if has_results:
        results = server.database(RESULTS)
        await_(lambda: results.dbsize() == tasks, f"{kind}: results are missing")
        for key in itertools.islice(results.scan_iter(count=1000), 1000):
            if json.loads(results.get(key))["result"] != 5:
                sys.exit(f"{kind}: a wrong result in {key}")
    await_(lambda: not server.broker.llen(QUEUE) and not server.broker.hlen("unacked"), f"{kind}: messages are left")
    worker.stop()
    return {"rate": tasks / (last - first), "cpu_us": 1e6 * cpu / tasks, "redis_us": 1e6 * of_redis / tasks}


def compare(server, in_hand, is_late, has_results, tasks, rounds):
    runs = {"python": [], "ours": []}
    for number in range(rounds):
        for kind in sorted(runs, reverse=number % 2 == 0):
            count = tasks if kind == "ours" else max(tasks // 8, 2000)
            runs[kind].append(run(server, kind, in_hand, is_late, has_results, count))
    pairs = list(zip(runs["python"], runs["ours"]))
    medians = {kind: {figure: round(statistics.median(one[figure] for one in them), 1) for figure in them[0]}
               for kind, them in runs.items()}
    report(measured="throughput", acks="late" if is_late else "early", in_hand=in_hand, results=has_results, **medians,
           rate_ratio=round(statistics.median(ours["rate"] / python["rate"] for python, ours in pairs), 1),
           cpu_ratio=round(statistics.median(python["cpu_us"] / ours["cpu_us"] for python, ours in pairs), 1))
    return medians["ours"]["rate"]


def command(*parts):
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def floor(server, at_once, tasks=40_000):
    """Messages a second through one script and its acks, with some on the way at any time, and a client that only counts."""
    server.broker.flushdb()
    fill(server, "bench.noop", [], tasks, False, marks=False)
    script = server.broker.script_load(TAKE)
    batches = []
    for number in range(tasks // at_once):
        claim = f"0f8fad5b-d9cb-469f-a165-70867728950e-{number:06d}"
        claims = [f"{claim}{place}" for place in range(1, at_once + 1)]
        batches.append(command("EVALSHA", script, 1, QUEUE, at_once, claim) + command("HDEL", "unacked", *claims)
                       + command("ZREM", "unacked_index", *claims) + command("ECHO", f"end-{number}"))
    cpu, start = server.cpu(), time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        tail = b""
        for number, batch in enumerate([*batches, b"", b""]):
            connection.sendall(batch)
            # The reply of the one before the last: two are always on the way.
            while number >= 2 and f"end-{number - 2}\r\n".encode() not in tail:
                tail = tail[-32:] + connection.recv(1 << 18)
    seconds, cpu = time.monotonic() - start, server.cpu() - cpu
    if server.broker.llen(QUEUE) >= at_once or server.broker.hlen("unacked"):
        sys.exit("the floor was not measured: messages are left")
    rate = len(batches) * at_once / seconds
    report(measured="floor", at_once=at_once, rate=round(rate), redis_us=round(1e6 * cpu / tasks, 1))
    return rate


def memory(server, waiting, is_million):
    for database in (0, 1, RESULTS):
        server.database(database).flushdb()
    fill(server, "bench.noop", [], 0, False)
    start = time.time()
    worker = started(server, "ours", 8, True, False)
    await_(lambda: server.traces.llen("bench:mark") == 2, "nothing runs")
    first_task_ms = 1000 * (marks(server)[0] - start)
    time.sleep(1)
    figures = {"idle": rss(worker.process.pid)}
    fill(server, "bench.noop", [], 10_000, False)
    await_(lambda: server.traces.llen("bench:mark") == 4, "not everything has run", 600)
    figures["after_10000"] = rss(worker.process.pid)
    worker.stop()
    server.broker.flushdb()
    server.traces.flushdb()
    fill(server, "bench.noop", [], waiting, False)
    worker = started(server, "ours", 8, True, False)
    peak = 0
    while server.traces.llen("bench:mark") < 2:
        peak = max(peak, rss(worker.process.pid))
        time.sleep(0.02)
    figures[f"peak_with_{waiting}_waiting"] = peak
    if is_million:
        figures |= million(server, worker)
    worker.stop()
    report(measured="memory", first_task_ms=round(first_task_ms), rss_mb={key: round(mb, 1) for key, mb in figures.items()})


def million(server, worker):
    texts = [envelope("bench.noop", [], QUEUE) for _ in range(1000)]
    before = rss(worker.process.pid)
    for _ in range(1000):
        await_(lambda: server.broker.llen(QUEUE) < 50_000, "the million does not run", 600)
        server.broker.lpush(QUEUE, *texts)
    await_(lambda: server.broker.llen(QUEUE) == 0 and server.broker.hlen("unacked") == 0, "not all have run", 600)
    return {"before_a_million": before, "after_a_million": rss(worker.process.pid)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--waiting", type=int, default=200_000)
    parser.add_argument("--million", action="store_true", help="a million tasks in one worker: its memory then")
    parser.add_argument("--only", default="", help="some of early-8, late-64-results, … and memory, by commas")
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory)
        try:
            rates = {}
            for has_results, in_hand, is_late in itertools.product((False, True), (8, 64), (False, True)):
                name = f"{'late' if is_late else 'early'}-{in_hand}{'-results' if has_results else ''}"
                if not only or name in only:
                    rate = compare(server, in_hand, is_late, has_results, options.tasks, options.rounds)
                    if not has_results:
                        rates.setdefault(in_hand, {})["late" if is_late else "early"] = rate
            for in_hand, of_ours in rates.items():
                rate = floor(server, in_hand)
                report(measured="share of the floor", in_hand=in_hand,
                       **{acks: round(ours / rate, 2) for acks, ours in of_ours.items()})
            if not only or "memory" in only:
                memory(server, options.waiting, options.million)
        finally:
            server.process.terminate()
            server.process.wait()


if __name__ == "__main__":
    main()
