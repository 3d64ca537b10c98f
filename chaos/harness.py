"""What the commands share: an arena, processes in it, and the verdict at the end.

    with Arena(options) as arena:      a database on one storage, with a service
        arena.worker()                 `remotetask work`, a process of its own
        arena.ask("add", ...)          a request, answered after its commit
        arena.finish()                 until every job has come to its end
        report.judge(arena.verdict())  what was lost, doubled, left over

A FileStorage admits one process: there requests go through the socket of the
worker that has it, as those of the command line do.
"""
import argparse
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import transaction
import ZODB.POSException
from transaction.interfaces import TransientError

from chaos import tasks
from lovely.remotetask import lifecycle
from lovely.remotetask.cli import databases
from lovely.remotetask.cli.problems import Problem
from lovely.remotetask.cli.socket import connect, path_for
from lovely.remotetask.cli.verbs import perform
from lovely.remotetask.errors import RemoteTaskError
from lovely.remotetask.processor import MultiProcessor
from lovely.remotetask.runtime import engine
from lovely.remotetask.service import TaskService
from lovely.remotetask.tests import servers

ROOT = Path(__file__).parents[1]
BOUND = 120.0    # seconds that anything may take
GLANCE = 0.05    # seconds between two looks
RAN_OUT = 77     # exit code of a command that cannot run here


def arguments(text, storages=servers.NAMES, default="file", choices=(), **numbers):
    """The options of a command; numbers: name=(value, in short, help); choices:
    {name: words}, None by default."""
    found = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--storage", choices=storages, default=default)
    found.add_argument("--seed", type=int, default=7)
    found.add_argument("--brief", action="store_true", help="a short form")
    found.add_argument("--json", action="store_true", help="the figures for a program")
    found.add_argument("--keep", metavar="DIRECTORY", help="leave all files there")
    for name, (_, _, help) in numbers.items():
        found.add_argument(f"--{name}", type=int, help=help)
    for name, words in dict(choices).items():
        found.add_argument(f"--{name}", choices=words)
    options = found.parse_args()
    for name, (value, brief, _) in numbers.items():
        if getattr(options, name) is None:
            setattr(options, name, brief if options.brief else value)
    options.chance = random.Random(options.seed)
    return options


def command(main):
    """Run *main* as the program: its code, or why it cannot run here."""
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = main()
    except unittest.SkipTest as error:
        print(f"not run: {error}")
        code = RAN_OUT
    sys.exit(code)


def wait_until(look, what, seconds=BOUND):
    """Look again and again until it says yes; what it says."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(GLANCE)
    return found


class Line(list):
    """The words of a line that a process has said, and when it was heard."""

    def __init__(self, text):
        super().__init__(text.split())
        self.moment = time.monotonic()


class Process:
    """A process of ours, whose lines are read as they come."""

    def __init__(self, words, environment, log):
        self.lines: list[Line] = []
        self.ended = 0.0     # when, in seconds since 1970
        self.killed_at = None
        self._said = threading.Condition()
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *words], stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=errors, cwd=ROOT, start_new_session=True,
                env={**os.environ, **environment,
                     "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])})
        self.pid = self.process.pid
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._said:
                self.lines.append(Line(line))
                self._said.notify_all()
        self.process.wait()
        with self._said:
            self.ended = time.time()
            self._said.notify_all()
        self.process.stdout.close()

    def said(self, word):
        """The lines so far that begin with a word."""
        with self._said:
            return [line for line in self.lines if line[:1] == [word]]

    def wait_said(self, word, number=1, seconds=BOUND):
        """The line that is the so-manieth of that word; None if the process has ended."""
        def count():
            return sum(line[:1] == [word] for line in self.lines) >= number
        with self._said:
            if not self._said.wait_for(lambda: self.ended or count(), seconds):
                raise AssertionError(f"process {self.pid} has not said {word!r}")
        found = self.said(word)
        return found[number - 1] if len(found) >= number else None

    @property
    def alive(self):
        return self.process.poll() is None

    def signal(self, number=signal.SIGKILL):
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self):
        self.signal()
        return self.end()

    def end(self, seconds=BOUND):
        """Wait for the end; the exit code."""
        code = self.process.wait(seconds)
        with self._said:
            self._said.wait_for(lambda: self.ended, BOUND)
        return code


class Arena:
    """A database with a service and a ledger, in a directory of its own."""

    threads = 3

    def __init__(self, options, zeo_options=(), settings=()):
        self.storage, self.chance = options.storage, options.chance
        self.own = options.keep is None
        self.directory = Path(options.keep or tempfile.mkdtemp(prefix="chaos-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        kind = servers.KINDS[self.storage]
        extra = {"options": zeo_options} if self.storage == "zeo" else {}
        self.server = kind(self.directory / self.storage, **extra)
        self.settings = dict(settings)
        self.shared = self.storage != "file"
        self.processes: list[Process] = []
        self.acknowledged: set[int] = set()
        self.unknown = 0         # requests whose answer was lost
        self._stack = ExitStack()
        self._db = None

    def __enter__(self):
        try:
            self.server.start()
            self._stack.callback(self.server.stop)
            self.make_service()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.kill()
        self.close_database()
        self._stack.close()
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def uri(self):
        return self.server.uri

    @property
    def data(self):
        """The Data.fs of a FileStorage or a ZEO server."""
        return self.server.directory / "Data.fs"

    def make_service(self):
        if self.storage == "file":
            from ZODB.FileStorage import FileStorage
            FileStorage(str(self.data)).close()  # only found where it is
        with self.desk() as desk:
            root = desk.root
            if "tasks" not in root:
                root["tasks"] = service = TaskService()
                service.processorFactory = MultiProcessor
                service.processorArguments = {"waitTime": 1.0, "maxThreads": self.threads}
                service.configure(retain_count=0, **self.settings)
                tasks.make_ledger(root)

    # -- the database in this process

    def database(self):
        """The database, open here.  On a FileStorage no worker may live."""
        if self._db is None:
            self._db = databases.find(self.uri).open()
            engine.mend(self._db)
        return self._db

    def close_database(self):
        if self._db is not None:
            with suppress(Exception):
                self._db.close()
            self._db = None

    @contextmanager
    def desk(self):
        """A connection; what is done there is committed.  On a FileStorage the
        database is closed afterwards."""
        manager = transaction.TransactionManager()
        connection = self.database().open(manager)
        try:
            manager.begin()
            yield Desk(connection)
            manager.commit()
        finally:
            manager.abort()
            connection.close()
            if not self.shared:
                self.close_database()

    # -- requests

    def ask(self, verb, **arguments):
        """A verb, in a transaction of its own; its answer.  Raises OSError or a
        storage's error when the answer was lost, and Problem when it was refused."""
        if not self.shared and any(each.alive for each in self.processes):
            client = connect(path_for(self.data))
            if client is None:
                raise ConnectionError("no process takes requests")
            try:
                return client.ask(verb, None, arguments)
            finally:
                client.close()
        try:
            return perform(self.database(), verb, None, arguments)
        finally:
            if not self.shared:
                self.close_database()

    def add(self, task="chaos.transfer", input=None, **options):
        """Ask for one job; its number, or None when no answer came."""
        try:
            found = self.ask("add", task=task, input=input, **options)["id"]
        except TROUBLE:
            self.unknown += 1
            return None
        self.acknowledged.add(found)
        return found

    def add_many(self, number, seconds=0.02, task="chaos.transfer", input=None,
                 **options):
        """Add so many in one transaction, made here; their numbers."""
        inputs = [self.transfer(seconds) if input is None else input
                  for _ in range(number)]

        def attempt():
            with self.desk() as desk:
                return desk.service.addMany(task, inputs, **options)
        found = again(attempt)
        self.acknowledged.update(found)
        return found

    def transfer(self, seconds=0.02):
        """Input of a transfer; *seconds* of rest in the mean."""
        giver, taker = self.chance.sample(range(tasks.ACCOUNTS), 2)
        return {"from": giver, "to": taker, "amount": self.chance.randrange(1, 100),
                "seconds": self.chance.uniform(0, 2 * seconds)}

    def counts(self):
        """{status: number}, or None when nobody answers."""
        return self._look(lambda service: service.counts(), lambda status: status["counts"])

    def held(self):
        """How many jobs are on leases, of the living and of the dead; or None."""
        return self._look(
            lambda service: sum(len(each["holds"]) for each in service.workers()),
            lambda status: sum(each["holds"] for each in status["workers"]))

    def _look(self, here, there):
        try:
            if self.shared:
                with self.desk() as desk:
                    return here(desk.service)
            return there(self.ask("status")[0])
        except TROUBLE:
            return None

    # -- processes

    def worker(self, grace=None, through=None, **environment):
        """Start a worker process; it says `At work` when it is.

        through: a proxy; the rest is for its environment, see worker.py.
        """
        uri = self.uri
        if through is not None:
            uri = uri.replace(f":{self.server.port}", f":{through.port}")
        words = ["-m", "chaos.worker", "work", "--db", uri, "--import", "chaos.tasks"]
        if grace is not None:
            words += ["--grace", grace]
        return self.start(words, environment)

    def start(self, words, environment=()):
        log = self.directory / f"process-{len(self.processes)}.log"
        process = Process(words, dict(environment), log)
        process.log = log
        self.processes.append(process)
        return process

    def ready(self, **environment):
        """A worker process that is at work."""
        worker = self.worker(**environment)
        if worker.wait_said("At") is None:
            raise AssertionError(f"a worker has not started: {worker.log.read_text()[-3000:]}")
        return worker

    def stop_workers(self, number=signal.SIGTERM):
        """Ask all to end, and wait; those with a code other than 0."""
        living = [each for each in self.processes if each.alive]
        for each in living:
            each.signal(signal.SIGCONT)
            each.signal(number)
        return [each for each in living if each.end() != 0]

    def finish(self, workers=2, seconds=BOUND):
        """Work until every job has come to its end and no lease is left, then stop;
        seconds taken."""
        begun = time.monotonic()
        while sum(each.alive for each in self.processes) < (workers if self.shared else 1):
            self.ready()
        def done():
            counts = self.counts()
            return counts is not None and not any(counts[word] for word in (
                lifecycle.QUEUED, lifecycle.PROCESSING, lifecycle.DELAYED)) \
                and self.held() == 0
        try:
            wait_until(done, "the jobs to end", seconds)
        except AssertionError as error:
            print(f"{error}: {self.counts()}", file=sys.stderr)
        self.stop_workers()
        return time.monotonic() - begun

    # -- the end

    def verdict(self):
        """Look at every job, effect and account, and at the books."""
        with self.desk() as desk:
            return Verdict.of(desk, self.acknowledged)

    def jobs(self):
        """{number: facts} of all jobs; to be asked when no worker lives."""
        with self.desk() as desk:
            return {id: Facts.of(desk.service.jobs[id]) for id in desk.service.jobs}


def again(attempt, tries=50):
    """Call it until it meets no conflict."""
    for left in range(tries, 0, -1):
        try:
            return attempt()
        except TransientError:
            if left == 1:
                raise


class Facts(NamedTuple):
    status: str
    reason: str | None
    started: int
    failures: int
    crashes: int
    handbacks: int

    @classmethod
    def of(cls, job):
        return cls(job.status, job.reason, job.startedCount, job.failures, job.crashes,
                   job.handbacks)


class Desk:
    """A service and a ledger on one connection."""

    def __init__(self, connection):
        self.connection = connection
        self.root = connection.root()

    @property
    def service(self):
        return self.root["tasks"]

    @property
    def ledger(self):
        return self.root["ledger"]

    @property
    def effects(self):
        return {id: number for shard in self.ledger["effects"]
                for id, number in shard.items()}


class Verdict(NamedTuple):
    """What has become of all jobs.  A plain run has nought but in the first four."""

    acknowledged: int   # adds that were answered
    present: int        # jobs in the service
    completed: int
    recovered: int      # present, though no answer to the add came
    lost: int           # acknowledged and gone, or not at an end
    duplicated: int     # effects more often than once
    missing: int        # completed without effect
    unearned: int       # effects of jobs that are there and not completed
    false_errors: int   # jobs in error
    charged: int        # jobs with a failed attempt on their account, but for those
    conflicted: int     # that have met one another too often
    orphaned: int       # what `check` finds, and leases that nobody has
    unbalanced: int     # accounts off, moves off, counter off
    texts: tuple

    @classmethod
    def of(cls, desk, acknowledged):
        service, effects = desk.service, desk.effects
        jobs = {id: service.jobs[id] for id in service.jobs}
        status = {id: job.status for id, job in jobs.items()}
        done = {id for id, word in status.items() if word == lifecycle.COMPLETED}
        faults = service.check()
        faults += [f"job {id} is left {word}" for id, word in status.items()
                   if word not in lifecycle.FINISHED]
        left = [worker for worker in service.workers() if worker["holds"]]
        faults += [f"process {each['pid']} holds {len(each['holds'])} jobs" for each in left]
        accounts = desk.ledger["accounts"].values()
        transfers = sum(effects.get(id, 0) for id, job in jobs.items()
                        if job.task == "chaos.transfer")
        counted = sum(effects.get(id, 0) for id, job in jobs.items()
                      if job.task == "chaos.count")
        errors = [f"job {id}: {job.reason}: {job.error}" for id, job in jobs.items()
                  if status[id] == lifecycle.ERROR]
        errors += [f"job {id} took effect {number} times, it is {status.get(id)}, started "
                   f"{jobs[id].startedCount if id in jobs else 0} times"
                   for id, number in effects.items() if number > 1]
        blamed = [id for id, job in jobs.items() if job.failures and not all(
            each.kind.endswith("ConflictError") for each in job.attempts)]
        charges = [f"job {id} was charged: {each.kind}: {each.error}\n{each.traceback}"
                   for id in blamed for each in jobs[id].attempts]
        return cls(
            acknowledged=len(acknowledged), present=len(jobs), completed=len(done),
            recovered=len(jobs.keys() - acknowledged),
            lost=len([id for id in acknowledged
                      if status.get(id) not in lifecycle.FINISHED]),
            duplicated=sum(number - 1 for number in effects.values() if number > 1),
            missing=len([id for id in done if not effects.get(id)]),
            unearned=len([id for id in effects if id in jobs and id not in done]),
            false_errors=len(errors),
            charged=len(blamed),
            conflicted=sum(bool(job.failures) for job in jobs.values()) - len(blamed),
            orphaned=len(faults),
            unbalanced=(sum(each["balance"] for each in accounts) != 0)
            + (sum(each["moves"] for each in accounts) != 2 * transfers)
            + (desk.ledger["counter"]["value"] != counted),
            texts=tuple((faults + errors + charges)[:10]))


# What a request raises when its answer is lost.
def _trouble():
    found = [OSError, Problem, ZODB.POSException.POSError, TransientError,
             RemoteTaskError, sqlite3.Error]
    with suppress(ImportError):
        import psycopg2
        found.append(psycopg2.Error)
    return tuple(found)


TROUBLE = _trouble()


class Report:
    """The table at the end; the exit code says whether all promises were kept."""

    def __init__(self, title, options):
        self.title, self.options = title, options
        self.rows: list[tuple] = []
        self.notes: list[str] = []
        self.texts: list[str] = []
        self.begun = time.monotonic()

    def add(self, what, figure, aim="", kept=None):
        self.rows.append((what, figure, aim, kept))

    def note(self, what, words):
        """How often each word: a line below the table."""
        tally = ", ".join(f"{word} {number}" for word, number in sorted(
            Counter(words).items()))
        self.notes.append(f"{what}: {tally or 'none'}")

    def judge(self, verdict, errors=0, charged=None):
        """The verdict as rows; errors: so many jobs must be in error, and have no
        effect.  charged: so many may have failed attempts."""
        for name in ("acknowledged", "present", "completed", "recovered"):
            self.add(name, getattr(verdict, name))
        for name in ("lost", "duplicated", "missing", "unearned", "orphaned",
                     "unbalanced"):
            self.add(name, getattr(verdict, name), "0", getattr(verdict, name) == 0)
        self.add("in error", verdict.false_errors, str(errors),
                 verdict.false_errors == errors)
        self.add("charged with an attempt", verdict.charged,
                 "" if charged is None else str(charged),
                 None if charged is None else verdict.charged <= charged)
        if verdict.conflicted:
            self.add("charged after five conflicts", verdict.conflicted)
        if any(kept is False for _, _, _, kept in self.rows):
            self.texts.extend(verdict.texts)

    def times(self, what, seconds, median=None, p99=None, slowest=None):
        """Median, 99th of a hundred and the slowest of some durations.  A short form
        shows them and does not judge: it runs on busy machines."""
        found = sorted(seconds)
        if not found:
            self.add(f"{what}, number", 0, "some", False)
            return
        def at(part):
            return found[min(len(found) - 1, int(part * len(found)))]
        self.add(f"{what}, number", len(found))
        for name, value, aim in (("median", at(0.5), median), ("p99", at(0.99), p99),
                                 ("slowest", found[-1], slowest)):
            self.add(f"{what}, {name}", f"{value:.3f} s", f"{aim} s" if aim else "",
                     None if aim is None or self.options.brief else value <= aim)

    def show(self):
        """Print it; the exit code."""
        broken = [row for row in self.rows if row[3] is False]
        self.add("seconds", f"{time.monotonic() - self.begun:.0f}")
        if self.options.json:
            print(json.dumps({
                "title": self.title, "storage": self.options.storage,
                "seed": self.options.seed, "kept": not broken, "texts": self.texts,
                "rows": {row[0]: row[1] for row in self.rows}}))
            return int(bool(broken))
        print(f"{self.title}; storage {self.options.storage}, seed {self.options.seed}")
        widths = [max(len(str(row[column])) for row in self.rows) for column in (0, 1, 2)]
        for what, figure, aim, kept in self.rows:
            word = {True: "kept", False: "BROKEN", None: ""}[kept]
            print(f"  {what:<{widths[0]}}  {figure!s:>{widths[1]}}  "
                  f"{aim:<{widths[2]}}  {word}".rstrip())
        for text in self.notes:
            print(f"  {text}")
        for text in self.texts:
            print(f"  ! {text}")
        print("BROKEN" if broken else "all kept", flush=True)
        return int(bool(broken))
