"""How long a job waits in a service that has nothing else to do.

One job at a time is added and committed, in the process that works; then there is
silence.  Measured are the time from the commit's return to the first line of the
task, and to the moment at which another connection sees the job completed.  For
comparison the same service looks for work by polling, as release 0.5 did.

With --storage the worker is a process of its own, on ZEO or RelStorage; the one who
adds waits for the result by `waitFor`.
"""
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import transaction  # noqa: E402
from tools import measure  # noqa: E402

from lovely.remotetask.cli import databases  # noqa: E402
from lovely.remotetask.processor import SimpleProcessor  # noqa: E402
from lovely.remotetask.runtime import wakeup  # noqa: E402
from lovely.remotetask.service import TaskService  # noqa: E402
from lovely.remotetask.task import task  # noqa: E402
from lovely.remotetask.tests import servers  # noqa: E402

AIM = 1.0            # milliseconds, median
AIM_ZEO = 3.0        # the same from one process to another, over ZEO
SILENCE = 0.02       # seconds between a result and the next add
POLL = 0.1           # seconds between two looks of the service that polls


class Moments:
    """When the task started, and that its commit is through."""

    def __init__(self):
        self.started = 0.0
        self.through = threading.Event()


moments = Moments()


@task("benchmarks.stamp")
def stamp(input):
    moments.started = time.perf_counter()
    transaction.get().addAfterCommitHook(lambda committed: moments.through.set())
    return input


@task("benchmarks.moment")
def moment(input):
    """The moment of the start; processes of one host share that clock."""
    return time.perf_counter()


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--storage", choices=servers.NAMES, default="file",
                        help="where jobs are; file, in one process, by default")
    parser.add_argument("--work", help=measure.argparse.SUPPRESS)
    options = parser.parse_args()
    measure.quiet()
    if options.work:
        return work(options.work)
    measure.end_tidily()
    if options.storage != "file":
        return between_processes(options)
    number, polled = (100, 10) if options.brief else (2_000, 100)
    with measure.Desk() as desk:
        starts, results, bare = awaited(desk, number)
    with measure.Desk() as desk:
        slow, _, _ = awaited(desk, polled, polling=True)
    report = measure.Report("Latency of one job in an idle service", options)
    unit = measure.median(bare)
    middle = measure.median(starts)
    report.add("add returns -> task starts, median", middle, "ms", middle / unit,
               "1 ms", middle <= AIM)
    for percent in (10, 90, 99):
        figure = measure.percentile(starts, percent)
        report.add(f"  {percent} % are below", figure, "ms", figure / unit)
    report.add("  mean", statistics.mean(starts), "ms")
    report.add("  longest", max(starts), "ms")
    for name, figure in (("median", measure.median(results)),
                         ("99 % are below", measure.percentile(results, 99))):
        report.add(f"add returns -> result seen by another connection, {name}",
                   figure, "ms", figure / unit)
    report.add("bare commit in the same silence, median", unit, "ms", 1.0)
    report.add(f"polling each {POLL * 1000:.0f} ms: add returns -> task starts, median",
               measure.median(slow), "ms", measure.median(slow) / unit)
    report.show()
    if not options.json:
        draw(starts)


def between_processes(options):
    """Who adds is one process, who works another."""
    number = 30 if options.brief else 500
    with tempfile.TemporaryDirectory(prefix="remotetask-bench-") as directory, \
            servers.storages(directory)[options.storage] as server, \
            closing(Client(server.uri)) as desk:
        starts, results, bare = [], [], []
        with closing(Worker(server.uri)):
            for _ in range(5):
                across(desk)
            for _ in range(number):
                started, seen = across(desk)
                starts.append(started * 1000)
                results.append(seen * 1000)
                time.sleep(SILENCE)
                bare.append(commit(desk) * 1000)
                time.sleep(SILENCE)
    report = measure.Report(f"Latency between two processes, {options.storage}", options)
    unit, middle = measure.median(bare), measure.median(starts)
    aim = AIM_ZEO if options.storage == "zeo" else None
    report.add("add returns -> task starts, median", middle, "ms", middle / unit,
               aim and f"{aim:.0f} ms", aim and middle <= aim)
    for percent in (10, 90, 99):
        report.add(f"  {percent} % are below", measure.percentile(starts, percent), "ms")
    report.add("add returns -> waitFor has the result, median", measure.median(results),
               "ms", measure.median(results) / unit)
    report.add("  99 % are below", measure.percentile(results, 99), "ms")
    report.add("bare commit in the same silence, median", unit, "ms", 1.0)
    report.show()


class Client:
    """Who adds, in a process without workers."""

    def __init__(self, uri):
        self.db = databases.find(uri).open()
        self.manager = transaction.TransactionManager()
        self.connection = self.db.open(self.manager)
        self.root = self.connection.root()
        self.root["tasks"] = TaskService()
        self.root["things"] = measure.LOBTree()
        self.manager.commit()
        self.service = self.root["tasks"]

    def close(self):
        self.manager.abort()
        self.connection.close()
        self.db.close()


class Worker:
    """A process that works until it is told to end."""

    def __init__(self, uri):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", uri], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if not self.process.stdout.readline():
            raise SystemExit("the worker has died")

    def close(self):
        self.process.communicate(timeout=30)


def work(uri):
    """Work until the input ends."""
    with closing(databases.find(uri).open()) as db:
        runner = SimpleProcessor(db, ["tasks"])
        thread = threading.Thread(target=runner)
        thread.start()
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.read()
        runner.stop(grace=5.0)
        thread.join()


def across(desk):
    """Add a job for another process: (seconds to its start, to its result)."""
    desk.manager.begin()
    id = desk.service.add("benchmarks.moment", {"number": 1})
    desk.manager.commit()
    returned = time.perf_counter()
    started = desk.service.waitFor(id, 60)
    return started - returned, time.perf_counter() - returned


def awaited(desk, number, polling=False):
    """Milliseconds to the start, to the result, and of a bare commit, of each."""
    if polling:
        desk.service.configure(wait_seconds=POLL)
        desk.manager.commit()
        wakeup._after_commit, silent = lambda *args: None, wakeup._after_commit
    runner = SimpleProcessor(desk.db, ["tasks"], waitTime=POLL if polling else 1.0)
    thread = threading.Thread(target=runner, daemon=True)
    thread.start()
    starts, results, bare = [], [], []
    try:
        one(desk)
        for _ in range(number):
            started, seen = one(desk)
            starts.append(started * 1000)
            results.append(seen * 1000)
            time.sleep(SILENCE)
            if not polling:
                bare.append(commit(desk) * 1000)
                time.sleep(SILENCE)
    finally:
        if polling:
            wakeup._after_commit = silent
        runner.stop(5.0)
        thread.join(30)
    return starts, results, bare


def one(desk):
    """Add a job and see it through: (seconds to its start, to its result)."""
    moments.through.clear()
    desk.manager.begin()
    id = desk.service.add("benchmarks.stamp", {"number": 1})
    desk.manager.commit()
    returned = time.perf_counter()
    if not moments.through.wait(60):
        raise SystemExit("the job has not come to its end within a minute")
    desk.manager.begin()
    if desk.service.getStatus(id) != "completed":
        raise SystemExit("the job is done, and its result cannot be seen")
    return moments.started - returned, time.perf_counter() - returned


def commit(desk):
    """Seconds of a bare commit of one object and one entry."""
    begun = time.perf_counter()
    desk.manager.begin()
    things = desk.root.setdefault("things", measure.LOBTree())
    number = len(desk.root) + time.time_ns()
    things[number] = measure.Thing(number)
    desk.manager.commit()
    return time.perf_counter() - begun


def draw(starts):
    """The distribution, a line per class."""
    edges = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, float("inf"))
    low = 0.0
    print()
    for edge in edges:
        share = sum(low <= start < edge for start in starts) / len(starts)
        print(f"  {low:5.1f} to {edge:5.1f} ms  {share:6.1%}  {'#' * round(share * 50)}")
        low = edge


if __name__ == "__main__":
    main()
