"""One thread that looks at a database for all who wait for something in it.

    a commit, anywhere ──> bell ──> one look per service ──> followers ──> lines

It lives while somebody follows, and has one connection.  A thousand waiting clients
cost one look after a commit, at most four a second, and not one thread of the server.
"""
import logging
import math
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.DB import DB

from lovely.remotetask.errors import ServiceGone
from lovely.remotetask.failure import in_log
from lovely.remotetask.runtime.publication import find, path_of
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.25      # between two looks, however many commits there are
NAP_SECONDS = 5.0         # longest rest where commits are heard
GLANCE_SECONDS = 0.5      # where the storage cannot tell of them
SETTLE_SECONDS = 1.0      # a commit that was heard of is to be seen by then
THREAD = "remotetask-watch"


class Follower:
    """Somebody who wants to know what becomes of a service.

    `look` is called in the watch's thread, first at once and then after commits;
    what it returns is whether it goes on.  `line` is an ILine; `until` is when it wants
    to be asked at the latest, by time.monotonic().
    """

    until = math.inf

    def __init__(self, service: Any, line: Any):
        self.db: DB = service._p_jar.db()
        self.path = path_of(service)
        self.line = line

    def look(self, service: Any, shared: dict) -> bool:
        raise NotImplementedError

    def end(self) -> None:
        """It is over, for whatever reason."""
        self.line.close()


class AnyCommit(InvalidationListener):
    """Rings whatever was changed."""

    tid = b""

    def _invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        self.tid = tid
        self.bell.ring()

    def settle(self, db: DB) -> None:
        """Wait until what it rang for can be seen: it rings a moment before that."""
        by = time.monotonic() + SETTLE_SECONDS
        while db.storage.lastTransaction() < self.tid and time.monotonic() < by:
            time.sleep(0.001)


class Watch:
    """The followers of one database, and the thread that looks for them."""

    def __init__(self, db: DB):
        self.db = db
        self.bell = Bell()
        self._lock = threading.Lock()
        self._followers: list[Follower] = []
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        with self._lock:
            return len(self._followers)

    def followers(self) -> list[Follower]:
        with self._lock:
            return list(self._followers)

    def join(self, follower: Follower) -> None:
        with self._lock:
            self._followers.append(follower)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=THREAD, daemon=True)
                self._thread.start()
        self.bell.ring()

    def _leave(self, gone: Iterable[Follower]) -> None:
        gone = set(gone)
        with self._lock:
            self._followers = [each for each in self._followers if each not in gone]
        for follower in gone:
            follower.end()

    def _run(self) -> None:
        while True:
            try:
                self._watch()
            except Exception as error:
                log.warning("the watch over a database has ended: %s: %s",
                            type(error).__name__, in_log(error))
                self._leave(self.followers())
            with self._lock:
                if not self._followers:
                    self._thread = None
                    return

    def _watch(self) -> None:
        """Look until nobody follows any more."""
        manager = TransactionManager()
        connection = self.db.open(manager)
        listener = AnyCommit(self.bell)
        nap = NAP_SECONDS if listener.attach(self.db, ()) else GLANCE_SECONDS
        shared: dict[tuple[str, ...], dict] = {}
        try:
            while followers := self.followers():
                seen, began = self.bell.rings, time.monotonic()
                listener.settle(self.db)
                try:
                    manager.begin()
                    self._look(connection.root(), followers, shared)
                except TransientError:
                    continue
                finally:
                    manager.abort()
                until = min((each.until for each in self.followers()), default=began)
                rest = max(0.0, min(nap, until - time.monotonic()))
                if self.bell.wait(seen, rest):
                    time.sleep(max(0.0, began + PAUSE_SECONDS - time.monotonic()))
        finally:
            listener.detach()
            connection.close()

    def _look(self, root, followers, shared) -> None:
        services: dict[tuple[str, ...], Any] = {}
        gone = []
        for follower in followers:
            path = follower.path
            if path not in services:
                services[path] = _service(root, path)
                shared.setdefault(path, {}).pop("looked", None)
            if services[path] is None or not follower.line.open \
                    or not _looked(follower, services[path], shared[path]):
                gone.append(follower)
        self._leave(gone)


def _service(root, path):
    try:
        return find(root, path)
    except (LookupError, TypeError, AttributeError, ServiceGone):
        return None


def _looked(follower, service, shared) -> bool:
    """Whether it goes on; trouble of one follower is nobody else's."""
    try:
        return follower.look(service, shared)
    except TransientError:
        raise
    except Exception as error:
        log.warning("a stream is closed: %s: %s", type(error).__name__, in_log(error))
        return False


_watches: WeakKeyDictionary[DB, Watch] = WeakKeyDictionary()
_lock = threading.Lock()


def over(db: DB) -> Watch:
    """The watch over a database, of this process."""
    with _lock:
        if db not in _watches:
            _watches[db] = Watch(db)
        return _watches[db]


def watches() -> Iterator[Watch]:
    with _lock:
        yield from tuple(_watches.values())
