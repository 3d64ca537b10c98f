"""Other task queues, each as its manual tells to run it, and ours, behind one face.

A peer is told to add jobs, and in a process of its own to work them off.  The effect
of a job is eight bytes at the end of a file, without fsync: the moment at which it
ran.  That costs each of them alike, nearly nothing.  Ours writes an effect in the
database besides, in the transaction of its job.
"""
import asyncio
import os
import signal
import struct
import threading
import time
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import transaction
from BTrees.LOBTree import LOBTree
from ZODB.FileStorage import FileStorage

from lovely.remotetask import clock
from lovely.remotetask.clerk import Clerk
from lovely.remotetask.cli import databases
from lovely.remotetask.processor import MultiProcessor, SimpleProcessor
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import context, task
from lovely.remotetask.tests import servers

PAUSE = 0.02   # seconds that a job of the third question sleeps
SPREAD = 64    # trees of effects, so that tasks do not meet in them
STAMPS = "REMOTETASK_STAMPS"  # the file of the effects


# -- what the jobs do


def stamp():
    """Note the moment: all there is to do for a job."""
    moment = struct.pack("<d", time.perf_counter())
    handle = os.open(os.environ[STAMPS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, moment)
    finally:
        os.close(handle)


def pause():
    """Wait for something outside, and note the moment after it."""
    time.sleep(PAUSE)
    stamp()


def stamps(path):
    """The moments that have been noted, in order."""
    data = Path(path).read_bytes()
    return sorted(each for each, in struct.iter_unpack("<d", data[:len(data) // 8 * 8]))


class RedisServer(servers.Server):
    """A Redis that has each command on disk before it answers."""

    name = "redis"

    @property
    def uri(self):
        return f"redis://{servers.HOST}:{self.port}/0"

    def prepare(self):
        servers.binary("redis", "redis-server")
        super().prepare()

    def command(self):
        return [servers.binary("redis", "redis-server"), "--port", str(self.port),
                "--bind", servers.HOST, "--dir", str(self.directory), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always"]


# -- the peers


class Peer:
    """What can be added to, and worked off by `work` in a process of its own.

    where: a URI, or the path of a directory.
    """

    title = ""       # as in the table
    modules = ()     # what must be installed
    server = None    # the kind of server it needs, by name
    backlog = 1.0    # of the backlog of others: the slow ones get less
    own_process = True

    def __init__(self, where):
        self.where = where

    @classmethod
    def missing(cls):
        """The name of a package that it lacks, or None."""
        return next((name for name in cls.modules if find_spec(name) is None), None)

    def fill(self, count, kind):
        """Add so many jobs of a kind (stamp, pause), each durable by itself."""
        raise NotImplementedError

    def work(self, slots):
        """Work, with so many slots, until the process is ended."""
        raise NotImplementedError

    def close(self):
        """Let go of the storage."""


class Huey(Peer):

    modules = ("huey",)

    def __init__(self, where):
        super().__init__(where)
        self.huey = self.open()
        self.kinds = {"stamp": self.huey.task(name="stamp")(stamp),
                      "pause": self.huey.task(name="pause")(pause)}

    def fill(self, count, kind):
        for _ in range(count):
            self.kinds[kind]()

    def work(self, slots):
        self.huey.create_consumer(workers=slots, periodic=False).run()


class HueySqlite(Huey):

    title = "huey, SQLite with full sync"

    def open(self):
        from huey import SqliteHuey
        return SqliteHuey("bench", filename=str(Path(self.where) / "huey.db"),
                          fsync=True)


class HueyRedis(Huey):

    title, server = "huey, Redis", "redis"
    modules = ("huey", "redis")

    def open(self):
        from huey import RedisHuey
        return RedisHuey("bench", url=self.where)


class Rq(Peer):
    """Its worker forks for each job; slots are workers."""

    title, server, modules, backlog = "RQ", "redis", ("rq", "redis"), 0.1

    def __init__(self, where):
        super().__init__(where)
        from redis import Redis
        from rq import Queue
        self.queue = Queue("bench", connection=Redis.from_url(where))
        self.kinds = {"stamp": stamp, "pause": pause}

    def fill(self, count, kind):
        for _ in range(count):
            self.queue.enqueue(self.kinds[kind], result_ttl=0)

    def work(self, slots):
        from rq import Worker
        for _ in range(slots - 1):
            if not os.fork():
                break
        # Of its own: a connection does not go through a fork.
        Worker(["bench"], connection=type(self)(self.where).queue.connection).work(
            logging_level="WARNING")


class Celery(Peer):

    title, server, modules, backlog = "Celery, Redis", "redis", ("celery", "redis"), 0.5

    def __init__(self, where):
        super().__init__(where)
        import celery
        self.app = celery.Celery("bench", broker=where)
        self.app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False,
                             worker_max_tasks_per_child=None)
        self.kinds = {"stamp": self.app.task(stamp, name="stamp"),
                      "pause": self.app.task(pause, name="pause")}

    def fill(self, count, kind):
        for _ in range(count):
            self.kinds[kind].delay()

    def work(self, slots):
        os.environ["C_FORCE_ROOT"] = "1"
        self.app.worker_main(["--quiet", "worker", f"--concurrency={slots}",
                              "--loglevel=ERROR", "--without-gossip",
                              "--without-mingle", "--without-heartbeat"])


class Dramatiq(Peer):

    title, server, modules = "Dramatiq, Redis", "redis", ("dramatiq", "redis")

    def __init__(self, where):
        super().__init__(where)
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker
        self.broker = RedisBroker(url=where)
        dramatiq.set_broker(self.broker)
        self.kinds = {"stamp": dramatiq.actor(stamp, broker=self.broker),
                      "pause": dramatiq.actor(pause, broker=self.broker)}

    def fill(self, count, kind):
        for _ in range(count):
            self.kinds[kind].send()

    def work(self, slots):
        from dramatiq import Worker
        Worker(self.broker, worker_threads=slots).start()
        threading.Event().wait()


class Procrastinate(Peer):

    title, server, backlog = "Procrastinate, PostgreSQL", "postgresql", 0.25
    modules = ("procrastinate", "psycopg")

    def __init__(self, where):
        super().__init__(where)
        import procrastinate
        self.app = procrastinate.App(
            connector=procrastinate.SyncPsycopgConnector(conninfo=where))
        self.kinds = self.tasks(self.app)
        self.app.open()
        with self.app.connector.pool.connection() as connection:
            cursor = connection.execute("SELECT to_regclass('procrastinate_jobs')")
            made = cursor.fetchone()[0]
        if made is None:
            self.app.schema_manager.apply_schema()

    def tasks(self, app):
        return {"stamp": app.task(stamp, name="stamp"),
                "pause": app.task(pause, name="pause")}

    def fill(self, count, kind):
        for _ in range(count):
            self.kinds[kind].defer()

    def work(self, slots):
        import procrastinate
        self.close()
        app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=self.where))
        self.tasks(app)
        asyncio.run(self._work(app, slots))

    async def _work(self, app, slots):
        async with app.open_async():
            await app.run_worker_async(concurrency=slots)

    def close(self):
        self.app.close()


# -- ours


def _effect(input):
    found = context()
    effects = found.service._p_jar.root()["effects"]
    effects[found.jobid % SPREAD][found.jobid] = 1
    transaction.get().addAfterCommitHook(lambda done: done and stamp())


@task("benchmarks.peers.stamp")
def our_stamp(input):
    """Note the moment of the start: for the latency."""
    stamp()


@task("benchmarks.peers.effect")
def our_effect(input):
    """Write an effect; the moment is that after the commit."""
    _effect(input)


@task("benchmarks.peers.grouped", group=50)
def our_grouped(input):
    """The same, with others in one transaction."""
    _effect(input)


@task("benchmarks.peers.pause")
def our_pause(input):
    """Wait for something outside."""
    time.sleep(PAUSE)
    transaction.get().addAfterCommitHook(lambda done: done and stamp())


class Ours(Peer):

    server, title = "zeo", "ours, ZEO"

    def __init__(self, where):
        super().__init__(where)
        self.db = None

    def open(self):
        if self.db is not None:
            return
        if self.where.startswith("file://"):
            FileStorage(self.where.removeprefix("file://")).close()
        self.db = databases.find(self.where).open()
        self.manager = transaction.TransactionManager()
        self.connection = self.db.open(self.manager)
        self.root = self.connection.root()
        if "tasks" not in self.root:
            self.root["tasks"] = TaskService()
            self.root["effects"] = [LOBTree() for _ in range(SPREAD)]
            self.manager.commit()

    def fill(self, count, kind):
        self.open()
        name = f"benchmarks.peers.{kind}"
        for number in range(count):
            self.manager.begin()
            self.root["tasks"].add(name, {"number": number})
            self.manager.commit()

    def settle(self):
        """Have the books know what has been added: that is a part of adding."""
        while any(len(shard.queue.inbox) for shard in self.root["tasks"].shards):
            self.manager.begin()
            with Clerk(self.root["tasks"], clock.micros()) as books:
                books.empty_inbox(10_000)
            self.manager.commit()

    def processor(self, slots):
        if slots == 1:
            return SimpleProcessor(self.db, ["tasks"])
        return MultiProcessor(self.db, ["tasks"], maxThreads=slots)

    def work(self, slots):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in all threads
        self.db = databases.find(self.where).open()
        with closing(self.db), self.working(slots):
            signal.sigwait({signal.SIGTERM})
        self.db = None

    @contextmanager
    def working(self, slots):
        """Work in a thread meanwhile."""
        runner = self.processor(slots)
        thread = threading.Thread(target=runner, daemon=True)
        thread.start()
        try:
            yield
        finally:
            runner.stop(grace=5.0)
            thread.join(30)

    def close(self):
        if self.db is not None:
            self.manager.abort()
            self.connection.close()
            self.db.close()
            self.db = None


class OursFile(Ours):
    """A FileStorage has one process: the worker is a thread of who adds."""

    server, title, own_process = "file", "ours, FileStorage", False


class OursSqlite(Ours):

    server, title = "sqlite", "ours, SQLite"


class OursPostgres(Ours):

    server, title = "postgresql", "ours, PostgreSQL"


PEERS = {
    "ours-file": OursFile, "ours-zeo": Ours, "ours-postgresql": OursPostgres,
    "ours-sqlite": OursSqlite, "huey-sqlite": HueySqlite, "huey-redis": HueyRedis,
    "dramatiq": Dramatiq, "celery": Celery, "rq": Rq, "procrastinate": Procrastinate,
}
