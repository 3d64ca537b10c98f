"""Hears of the commits of other processes where the storage does not tell: RelStorage.

    PostgreSQL   whoever brings work sends NOTIFY after the commit, all others LISTEN
    SQLite       the number of its state (data_version), looked at every 10 ms
    others       a look at what has changed, every 20 ms, every 250 ms when all is quiet

One thread per database and process, as long as anybody listens.  When there is a
hint, it asks for the changed objects and tells the listeners, as ZODB's MVCC adapter
does for other storages.
"""
import logging
import os
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from ZODB.DB import DB
from ZODB.utils import p64

from lovely.remotetask.failure import in_log

log = logging.getLogger(__name__)

CHANNEL = "remotetask"
WORK, RESULTS = "work", "results"  # what can be told
VERSION_SECONDS = 0.01  # 0.9 % of a processor, half of it as latency; 5 ms: 1.1 %
POLL_SECONDS = 0.02     # after a change ...
QUIET_SECONDS = 0.25    # ... and when there was none for long
SLOWER = 1.1            # each quiet look comes so much later than the one before
RETRY_SECONDS = 1.0     # after an error
WAKE_SECONDS = 5.0      # looks whether anybody listens still
DEPTH = 10              # wrappers around one storage


class Listener(Protocol):
    """What ZODB's MVCC adapter calls as well.  results: also hears of results."""

    results: bool

    def _invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None: ...

    def _invalidateCache(self) -> None: ...


def attach(db: DB, listener: Listener) -> bool:
    """Tell *listener* of changes; False where the storage is none of ours."""
    adapter = adapter_of(db)
    if adapter is None:
        return False
    with _lock:
        watch = _watches.get(db)
        if watch is None or not watch.add(listener):
            watch = _watches[db] = Watch(adapter)
            watch.add(listener)
            watch.thread.start()
    return True


def detach(db: DB, listener: Listener) -> None:
    with _lock:
        watch = _watches.get(db)
    if watch is not None:
        watch.discard(listener)


def tell(db: DB, what: str) -> None:
    """Tell other processes that work or results were committed just now.

    Does nothing where they find out without.  Never raises: what was committed is,
    and others look now and then anyway.
    """
    adapter = adapter_of(db)
    if adapter is None or not speaks_postgresql(adapter):
        return
    with _lock:
        teller = _tellers.get(db)
        if teller is None:
            teller = _tellers[db] = Teller(adapter._dsn)
    teller.tell(what)


def adapter_of(db: DB) -> Any:
    """RelStorage's adapter, whatever wraps the storage; None for other storages."""
    storage = getattr(db, "storage", None)
    for _ in range(DEPTH):
        if type(storage).__module__.partition(".")[0] == "relstorage":
            return getattr(storage, "_adapter", None)
        storage = getattr(storage, "base", None)
    return None


def speaks_postgresql(adapter: Any) -> bool:
    return type(adapter).__name__ == "PostgreSQLAdapter" and \
        getattr(adapter.driver, "MODULE_NAME", "") == "psycopg2"


class Watch:
    """Listeners, and the thread that tells them."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.listeners: WeakSet[Listener] = WeakSet()
        self.lock = threading.Lock()
        self.over = False
        self._hint: Hint | None = None
        self.thread = threading.Thread(
            target=self.run, daemon=True, name="remotetask-watch-storage")

    def add(self, listener: Listener) -> bool:
        """False if the thread has ended: another must be made."""
        with self.lock:
            if self.over:
                return False
            self.listeners.add(listener)
        return True

    def discard(self, listener: Listener) -> None:
        with self.lock:
            self.listeners.discard(listener)
            hint = None if self.listeners else self._hint
        if hint is not None:
            with suppress(OSError):  # it has just been closed
                hint.interrupt()
            self.thread.join(RETRY_SECONDS)  # so that its connections are closed

    def needed(self) -> bool:
        with self.lock:
            self.over = self.over or not self.listeners
            return not self.over

    def run(self) -> None:
        while self.needed():
            try:
                self.session()
            except Exception as error:
                log.debug("changes cannot be heard, trying again: %s", in_log(error))
                time.sleep(RETRY_SECONDS)

    def session(self) -> None:
        """Listen with one connection, until nobody does or it breaks."""
        adapter = self.adapter.new_instance()
        manager, poller = adapter.connmanager, adapter.poller
        hint = hint_for(adapter)
        self._hint = hint
        connection = cursor = None
        try:
            connection, cursor = manager.open_for_load()
            _, tid = poller.poll_invalidations(connection, cursor, None)
            manager.rollback_quietly(connection, cursor)
            self.tell(tid, None)  # what was before may have been missed
            while self.needed():
                told = hint.wait()
                if not any(each in told for each in self.interests()):
                    continue
                manager.restart_load(connection, cursor)
                rows, new = poller.poll_invalidations(connection, cursor, tid)
                # A snapshot that is kept would keep old rows from being removed.
                manager.rollback_quietly(connection, cursor)
                hint.found(new != tid)
                if new != tid:
                    self.tell(new, rows)
                    tid = new
        finally:
            self._hint = None
            hint.close()
            manager.close(connection, cursor)

    def interests(self) -> set[str]:
        results = any(each.results for each in self.all())
        return {WORK, RESULTS} if results else {WORK}

    def all(self) -> list[Listener]:
        with self.lock:
            return list(self.listeners)

    def tell(self, tid: int, rows: Any) -> None:
        """rows: (oid, tid) as numbers; None: anything may have changed."""
        oids = None if rows is None else {p64(row[0]) for row in rows}
        for listener in self.all():
            if oids is None:
                listener._invalidateCache()
            else:
                listener._invalidate(p64(tid), oids)


# -- what tells that it is worth to ask for changes


class Hint:
    """Waits for a sign that something was committed; polls, where there is none."""

    def __init__(self) -> None:
        self.nap = POLL_SECONDS
        self._interrupted = threading.Event()

    def wait(self) -> Iterable[str]:
        """What was told, perhaps nothing."""
        self._interrupted.wait(self.nap)
        return WORK, RESULTS

    def found(self, changes: bool) -> None:
        self.nap = POLL_SECONDS if changes else min(self.nap * SLOWER, QUIET_SECONDS)

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        pass


class Version(Hint):
    """SQLite counts the commits of other connections: 10 µs to look, no lock."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.seen: int | None = None

    def wait(self) -> Iterable[str]:
        for _ in range(round(WAKE_SECONDS / VERSION_SECONDS)):
            if self._interrupted.wait(VERSION_SECONDS):
                break
            before = self.seen
            self.seen = self.connection.execute("PRAGMA data_version").fetchone()[0]
            if self.seen != before:
                return WORK, RESULTS
        return ()

    def close(self) -> None:
        self.connection.close()


class Listen(Hint):
    """PostgreSQL's LISTEN: no query until somebody has told."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.connection = connect(dsn)
        self.connection.cursor().execute(f"LISTEN {CHANNEL}")
        self.ours, self.theirs = socket.socketpair()

    def wait(self) -> Iterable[str]:
        select.select([self.connection, self.ours], [], [], WAKE_SECONDS)
        self.connection.poll()
        told = {each.payload for each in self.connection.notifies}
        self.connection.notifies.clear()
        return told

    def interrupt(self) -> None:
        self.theirs.send(b".")

    def close(self) -> None:
        for each in (self.connection, self.ours, self.theirs):
            each.close()


def hint_for(adapter: Any) -> Hint:
    if speaks_postgresql(adapter):
        return Listen(adapter._dsn)
    if type(adapter).__name__ == "Sqlite3Adapter":
        return Version(os.path.join(adapter.data_dir, "main.sqlite3"))
    return Hint()


def connect(dsn: str) -> Any:
    """A connection of our own, on which each statement is a transaction."""
    import psycopg2
    connection = psycopg2.connect(
        dsn, application_name="remotetask", connect_timeout=10, keepalives_idle=10,
        keepalives_interval=5, keepalives_count=3)
    connection.autocommit = True
    return connection


class Teller:
    """Sends NOTIFY, 0.2 ms each, and has nothing written for it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.lock = threading.Lock()
        self.connection: Any = None
        self.rest_until = 0.0

    def tell(self, what: str) -> None:
        with self.lock:
            if time.monotonic() < self.rest_until:
                return
            while True:
                kept = self.connection is not None  # it may be lost since
                try:
                    return self._send(what)
                except Exception as error:
                    self.connection = None
                    if not kept:
                        log.debug("others cannot be told: %s", in_log(error))
                        self.rest_until = time.monotonic() + RETRY_SECONDS
                        return

    def _send(self, what: str) -> None:
        if self.connection is None:
            self.connection = connect(self.dsn)
            # Its commit has no data that must be on the disk.
            self.connection.cursor().execute("SET synchronous_commit TO off")
        self.connection.cursor().execute(f"NOTIFY {CHANNEL}, '{what}'")


# What watches a database in this process, and what tells others of its commits.
_watches: "WeakKeyDictionary[DB, Watch]" = WeakKeyDictionary()
_tellers: "WeakKeyDictionary[DB, Teller]" = WeakKeyDictionary()
_lock = threading.Lock()
