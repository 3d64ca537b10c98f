"""The bell between those who bring work and those who wait."""
import logging
import threading
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from persistent import Persistent
from ZODB.DB import DB
from zope.interface import implementer

from lovely.remotetask.interfaces import IWakeup
from lovely.remotetask.runtime import engine, watch

log = logging.getLogger(__name__)


@implementer(IWakeup)
class Bell:
    """See IWakeup.

    Read `rings`, look for work, then wait with what you read: a ring while you
    looked ends the wait at once, so none is missed.
    """

    def __init__(self) -> None:
        self.rings = 0
        self._condition = threading.Condition()

    def ring(self) -> None:
        """See IWakeup"""
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float | None) -> bool:
        """See IWakeup; True if it has rung."""
        with self._condition:
            return self._condition.wait_for(lambda: self.rings != seen, seconds)


# database -> {oid of a service: bells of those who wait for its work}
_waiting: WeakKeyDictionary[DB, dict[bytes, WeakSet[Bell]]] = WeakKeyDictionary()
_lock = threading.Lock()


def listen(db: DB, oid: bytes, bell: Bell) -> None:
    """Have *bell* rung when work for that service is committed in this process."""
    with _lock:
        _waiting.setdefault(db, {}).setdefault(oid, WeakSet()).add(bell)


def ring(db: DB, oid: bytes) -> None:
    with _lock:
        bells = tuple(_waiting.get(db, {}).get(oid, ()))
    for bell in bells:
        bell.ring()


def ring_after_commit(service: Persistent) -> None:
    """Ring for *service* once the present transaction is committed."""
    jar = service._p_jar
    if jar is None:
        return
    present = jar.transaction_manager.get()
    try:
        present.data(service)
    except KeyError:
        present.set_data(service, True)
        engine.mend(jar.db())
        present.addAfterCommitHook(_after_commit, (jar.db(), service._p_oid))


def _after_commit(committed: bool, db: DB, oid: bytes) -> None:
    if committed:
        ring(db, oid)
        watch.tell(db, watch.WORK)


class InvalidationListener:
    """Rings when another process changes a watched object: ZEO tells its clients so,
    and RelStorage is watched.

    It stands among the instances of ZODB's MVCC adapter, whose names are private:
    where they are not as known, `attach` answers False and polling goes on.  The
    methods are called under locks and in ZEO's own thread: they only ring.

    results: whether it is to hear also of the commits in which jobs end.
    """

    results = False

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.watched: frozenset[bytes] = frozenset()
        self._adapter: Any = None
        self._watched_db: DB | None = None

    def attach(self, db: DB, oids: Iterable[bytes]) -> bool:
        from ZODB.mvccadapter import MVCCAdapter

        self.watched = frozenset(oids)
        adapter = getattr(db, "_mvcc_storage", None)
        if not isinstance(adapter, MVCCAdapter):
            if not watch.attach(db, self):
                return False
            self._watched_db = db
            return True
        try:
            with adapter._lock:
                adapter._instances.add(self)
        except (AttributeError, TypeError):
            log.debug("the storage cannot tell of changes, polling instead")
            return False
        self._adapter = adapter
        return True

    def detach(self) -> None:
        db, self._watched_db = self._watched_db, None
        if db is not None:
            watch.detach(db, self)
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            with adapter._lock:
                getattr(adapter, "_instances", set()).discard(self)

    def _invalidate(self, tid: bytes, oids: Iterable[bytes]) -> None:
        if not self.watched.isdisjoint(oids):
            self.bell.ring()

    def _invalidateCache(self) -> None:
        self.bell.ring()

    release = close = detach

