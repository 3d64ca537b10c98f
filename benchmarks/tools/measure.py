"""Databases to measure on, rounds that take turns, and tables.

A figure of one machine on one day says little, a ratio says more: each script
measures bare ZODB commits in the same run, and takes turns with them, so that
whatever slows the machine slows both.  What is shown is the median.
"""
import argparse
import json
import logging
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import transaction
from BTrees.LOBTree import LOBTree
from persistent import Persistent
from ZODB import DB
from ZODB.FileStorage import FileStorage

from lovely.remotetask import clock, processor
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import task

CACHE = 5_000  # objects a connection keeps, as an application sets it


class Thing(Persistent):
    """As much as a job of a bare loop needs to say."""

    def __init__(self, number):
        self.number = number
        self.task = "benchmarks.nothing"
        self.input = {"number": number}
        self.status = "queued"
        self.created = time.time_ns() // 1000


class Store:
    """A FileStorage in a directory of its own, removed at the end."""

    def __init__(self, directory=None, **options):
        self.directory = Path(directory or tempfile.mkdtemp(prefix="remotetask-bench-"))
        self.own = directory is None
        self.storage = FileStorage(str(self.directory / "Data.fs"), **options)
        self.db = DB(self.storage, cache_size=CACHE)
        # Of its own: a connection is told of every transaction of its manager.
        self.manager = transaction.TransactionManager()
        self.connection = self.db.open(self.manager)
        self.root = self.connection.root()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        processor.stop_all(self.db, grace=5.0)
        self.manager.abort()
        self.connection.close()
        self.db.close()
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def bytes(self):
        return self.storage.getSize()

    @property
    def commits(self):
        """How many transactions have been written since `mark`."""
        return sum(1 for _ in self.storage.iterator(self._after()))

    def mark(self):
        self._tid = self.storage.lastTransaction()

    def _after(self):
        return (int.from_bytes(self._tid, "big") + 1).to_bytes(8, "big")

    def largest_commit(self):
        """Bytes of the largest transaction written since `mark`."""
        return max((each._tend - each._tpos
                    for each in self.storage.iterator(self._after())), default=0)


class Bare(Store):
    """What is compared with: one object and one entry of a BTree per commit."""

    def __init__(self):
        super().__init__()
        self.root["things"] = LOBTree()
        self.manager.commit()
        self.number = 0

    def add(self, count, per_commit=1):
        """So many objects; how many a second."""
        things = self.root["things"]
        begun = time.perf_counter()
        for first in range(0, count, per_commit):
            self.manager.begin()
            for _ in range(first, min(first + per_commit, count)):
                self.number += 1
                things[self.number] = Thing(self.number)
            self.manager.commit()
        return count / (time.perf_counter() - begun)


class Desk(Store):
    """A stored service, in the root of a database."""

    def __init__(self, directory=None, **options):
        super().__init__(directory, **options)
        if "tasks" not in self.root:
            self.root["tasks"] = TaskService()
            self.manager.commit()
        self.service = self.root["tasks"]

    def add(self, count, name="benchmarks.nothing"):
        """So many jobs, each in a transaction of its own; how many a second."""
        service = self.service
        begun = time.perf_counter()
        for number in range(count):
            self.manager.begin()
            service.add(name, {"number": number})
            self.manager.commit()
        return count / (time.perf_counter() - begun)

    def add_bulk(self, count, per_commit=1_000, name="benchmarks.nothing"):
        """So many jobs, many in one transaction; how many a second."""
        service = self.service
        begun = time.perf_counter()
        for first in range(0, count, per_commit):
            self.manager.begin()
            last = min(first + per_commit, count)
            service.addMany(name, [{"number": n} for n in range(first, last)])
            self.manager.commit()
        return count / (time.perf_counter() - begun)

    def fill(self, count, finished=None):
        """So many jobs that wait, or that finished at a moment (microseconds).

        The books are kept; a thousand jobs a transaction.
        """
        for first in range(0, count, 1_000):
            self.manager.begin()
            number = min(1_000, count - first)
            ids = self.service.addMany(
                "benchmarks.nothing", [{"number": n} for n in range(number)])
            for id in ids if finished is not None else ():
                job = self.service.jobs[id]
                job.start(finished)
                job.complete(None, finished)
            with Clerk(self.service, clock.micros()) as books:
                books.empty_inbox(number)
            self.manager.commit()

    def drain(self, count, kind=processor.SimpleProcessor, **options):
        """Work off *count* jobs of 'benchmarks.counted'; how many a second.

        The time goes from the start of the thread to the last job's commit.
        """
        countdown.start(count)
        self.manager.begin()
        runner = kind(self.db, ["tasks"], **options)
        thread = threading.Thread(target=runner, daemon=True)
        begun = time.perf_counter()
        thread.start()
        if not countdown.over.wait(600):
            raise SystemExit("the backlog is not worked off after ten minutes")
        taken = time.perf_counter() - begun
        self.conflicts = runner.dispatcher.conflicts
        runner.stop(grace=5.0)
        thread.join(30)
        self.manager.begin()
        return count / taken

    def settle(self):
        """Have the books agree with what has been added."""
        while len(self.service.shards[0].queue.inbox):
            self.manager.begin()
            with Clerk(self.service, clock.micros()) as books:
                books.empty_inbox(10_000)
            self.manager.commit()


class Countdown:
    """Tells when the commits of so many jobs are through."""

    def start(self, count):
        self.left = count
        self.lock = threading.Lock()
        self.over = threading.Event()

    def __call__(self, committed):
        if committed:
            with self.lock:
                self.left -= 1
                if not self.left:
                    self.over.set()


countdown = Countdown()


@task("benchmarks.nothing")
def nothing(input):
    """Do nothing."""


@task("benchmarks.counted")
def counted(input):
    """Do nothing, and have it counted once it is committed."""
    transaction.get().addAfterCommitHook(countdown)


# -- rounds


def rounds(cases, number):
    """{name: [figure of each round]}: the cases take turns, *number* times."""
    found = {name: [] for name in cases}
    for _ in range(number):
        for name, measure in cases.items():
            found[name].append(measure())
    return found


def ratio(figures, base):
    """Median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(figures, base))


median = statistics.median


def percentile(figures, percent):
    figures = sorted(figures)
    return figures[min(len(figures) - 1, int(len(figures) * percent / 100))]


# -- the script


def arguments(doc):
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brief", action="store_true",
                        help="a look of less than twenty seconds: does it still run?")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    return parser


def quiet():
    """Log as an application in production does: warnings."""
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("lovely.remotetask").setLevel(logging.WARNING)


def end_tidily():
    """Have SIGTERM end the script as Ctrl-C does: its servers and workers are stopped."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


class Report:
    """Rows of what was asked, what came out, and what was aimed at."""

    def __init__(self, title, options):
        self.title, self.options = title, options
        self.rows, self.grids = [], []

    def grid(self, title, columns, lines):
        """A table of figures over columns: lines of (what, {column: figure}, ratio)."""
        self.grids.append(dict(title=title, columns=columns, lines=lines))

    def add(self, what, figure, unit, ratio=None, aim=None, met=None):
        self.rows.append(dict(what=what, figure=figure, unit=unit, ratio=ratio,
                              aim=aim, met=met))
        if sys.stderr.isatty():  # a long run tells how far it is
            print(f"{what}: {_number(figure)} {unit}", file=sys.stderr)

    def show(self):
        if self.options.json:
            print(json.dumps(dict(title=self.title, brief=self.options.brief,
                                  python=sys.version.split()[0], rows=self.rows,
                                  grids=self.grids)))
            return
        width = max(len(row["what"]) for row in self.rows)
        print(f"{self.title}{'  (brief: the figures are rough)' if self.options.brief else ''}\n")
        for grid in self.grids:
            self._show(**grid)
        print(f"{'':{width}}  {'':>12}  {'':9}  {'ratio':>6}  aim")
        for row in self.rows:
            print(f"{row['what']:{width}}  {_number(row['figure']):>12}  {row['unit']:9}  "
                  f"{'' if row['ratio'] is None else format(row['ratio'], '.2f'):>6}  "
                  f"{row['aim'] or ''}{'' if row['met'] in (None, True) else '  MISSED'}")


    def _show(self, title, columns, lines):
        width = max(len(what) for what, _, _ in lines)
        heads = "".join(f"{column:>12,}" for column in columns)
        print(f"{title:{width}}{heads}   ratio")
        for what, figures, ratio in lines:
            print(f"{what:{width}}"
                  + "".join(f"{_number(figures[column]):>12}" for column in columns)
                  + f"{ratio:8.2f}")
        print()


def _number(figure):
    if figure >= 1_000:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.3f}"
