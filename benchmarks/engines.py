"""What jobs cost on each storage, one by one and in groups, beside a bare loop.

The yardstick is a bare ZODB loop of the same shape: one commit per job, which takes
it off a queue, changes it and writes its effect.  Ours claims and finishes durably,
and its task writes the same effect.  Both take turns on the same storage.
"""
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import transaction  # noqa: E402
from BTrees.LOBTree import LOBTree  # noqa: E402
from tools import measure  # noqa: E402
from ZODB.FileStorage import FileStorage  # noqa: E402

from lovely.remotetask import clock, processor  # noqa: E402
from lovely.remotetask.clerk import Clerk  # noqa: E402
from lovely.remotetask.cli import databases  # noqa: E402
from lovely.remotetask.processor import SimpleProcessor  # noqa: E402
from lovely.remotetask.service import TaskService  # noqa: E402
from lovely.remotetask.task import context, task  # noqa: E402
from lovely.remotetask.tests import servers  # noqa: E402

AIMS = {"one by one": 0.6, "grouped": 3.0, "add": 0.7, "bulk": 6.0}
SPREAD = 64           # trees of effects, where each job writes to another one
GROUPED_ON = ("file", "zeo")  # where grouped runs have an aim


def write(input):
    """Write the effect of the bare loop, and have the commit counted."""
    found = context()
    found.service._p_jar.root()["done"][found.jobid] = input["number"]
    transaction.get().addAfterCommitHook(measure.countdown)


@task("benchmarks.effect")
def effect(input):
    write(input)


@task("benchmarks.grouped", group=50)
def grouped(input):
    """The same, with others in one transaction."""
    write(input)


@task("benchmarks.apart")
def apart(input):
    """Each effect in an object of its own: they do not conflict."""
    scatter(input)


@task("benchmarks.scattered", group=50)
def scattered(input):
    """The same, with others in one transaction."""
    scatter(input)


def scatter(input):
    found = context()
    effects = found.service._p_jar.root()["effects"]
    effects[found.jobid % SPREAD][found.jobid] = input["number"]
    transaction.get().addAfterCommitHook(measure.countdown)


class Bench:
    """A service and a bare loop in one database."""

    def __init__(self, uri):
        if uri.startswith("file://"):
            FileStorage(uri.removeprefix("file://")).close()
        self.db = databases.find(uri).open()
        self.manager = transaction.TransactionManager()
        self.connection = self.db.open(self.manager)
        root = self.connection.root()
        root["tasks"], root["adding"] = TaskService(), TaskService()
        root["effects"] = [LOBTree() for _ in range(SPREAD)]
        root["things"], root["queue"], root["done"] = LOBTree(), LOBTree(), LOBTree()
        self.manager.commit()
        self.root = root
        self.number = 0

    def close(self):
        processor.stop_all(self.db, grace=5.0)
        self.manager.abort()
        self.connection.close()
        self.db.close()

    # -- the bare loop

    def bare_add(self, count, per_commit=1):
        things, queue = self.root["things"], self.root["queue"]
        begun = time.perf_counter()
        for first in range(0, count, per_commit):
            self.manager.begin()
            for _ in range(first, min(first + per_commit, count)):
                self.number += 1
                things[self.number] = queue[self.number] = measure.Thing(self.number)
            self.manager.commit()
        return count / (time.perf_counter() - begun)

    def bare_drain(self, count):
        self.bare_add(count, 1_000)
        with closing(self.db.open(manager := transaction.TransactionManager())) as there:
            root = there.root()
            begun = time.perf_counter()
            for _ in range(count):
                manager.begin()
                queue = root["queue"]
                number = queue.minKey()
                thing = queue.pop(number)
                thing.status = "completed"
                thing.completed = time.time_ns() // 1000
                root["done"][number] = number
                manager.commit()
            taken = time.perf_counter() - begun
            manager.abort()
        return count / taken

    # -- ours

    def add(self, count):
        service = self.root["adding"]
        begun = time.perf_counter()
        for number in range(count):
            self.manager.begin()
            service.add("benchmarks.nothing", {"number": number})
            self.manager.commit()
        return count / (time.perf_counter() - begun)

    def bulk(self, count, name="benchmarks.nothing", service="adding", per_commit=1_000):
        service = self.root[service]
        begun = time.perf_counter()
        for first in range(0, count, per_commit):
            self.manager.begin()
            last = min(first + per_commit, count)
            service.addMany(name, [{"number": n} for n in range(first, last)])
            self.manager.commit()
        return count / (time.perf_counter() - begun)

    def settle(self):
        """Have the books know what has been added: that is a part of adding."""
        service = self.root["tasks"]
        while any(len(shard.queue.inbox) for shard in service.shards):
            self.manager.begin()
            with Clerk(service, clock.micros()) as books:
                books.empty_inbox(10_000)
            self.manager.commit()

    def drain(self, count, name):
        self.bulk(count, name, "tasks")
        self.settle()
        measure.countdown.start(count)
        runner = SimpleProcessor(self.db, ["tasks"])
        thread = threading.Thread(target=runner, daemon=True)
        begun = time.perf_counter()
        thread.start()
        if not measure.countdown.over.wait(600):
            raise SystemExit("the backlog is not worked off after ten minutes")
        taken = time.perf_counter() - begun
        runner.stop(grace=5.0)
        thread.join(30)
        return count / taken


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--storage", choices=servers.NAMES, action="append",
                        help="only these; all by default")
    parser.add_argument("--jobs", type=int, default=1_500, metavar="NUMBER",
                        help="of each drain (1,500): of few, the start takes a part")
    options = parser.parse_args()
    measure.quiet()
    measure.end_tidily()
    number, count = (2, 200) if options.brief else (5, options.jobs)
    report = measure.Report("Storages", options)
    for name in options.storage or servers.NAMES:
        with tempfile.TemporaryDirectory(prefix="remotetask-bench-") as directory, \
                servers.storages(directory)[name] as server, \
                closing(Bench(server.uri)) as bench:
            one(report, name, bench, number, count)
    report.show()


def one(report, storage, bench, number, count):
    cases = {
        "bare loop": lambda: bench.bare_drain(count),
        "one by one": lambda: bench.drain(count, "benchmarks.effect"),
        "grouped": lambda: bench.drain(count, "benchmarks.grouped"),
        "scattered": lambda: bench.drain(count, "benchmarks.scattered"),
        "bare add": lambda: bench.bare_add(count),
        "add": lambda: bench.add(count),
        "bulk": lambda: bench.bulk(count * 4),
    }
    bench.drain(count // 4, "benchmarks.effect")  # warm
    figures = measure.rounds(cases, number)
    for name in cases:
        base = "bare add" if name in ("add", "bulk") else "bare loop"
        aim = AIMS.get(name) if name != "grouped" or storage in GROUPED_ON else None
        found = measure.ratio(figures[name], figures[base])
        report.add(f"{storage}: {name}", measure.median(figures[name]), "a second", found,
                   aim and f"ratio {aim}", None if aim is None else found >= aim)


if __name__ == "__main__":
    main()
