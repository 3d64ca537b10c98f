"""What a database should be told better: settings that risk its jobs or its data."""
import ipaddress
import logging
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from ZODB.Connection import Connection
from ZODB.DB import DB

from lovely.remotetask.failure import in_log
from lovely.remotetask.runtime import watch

log = logging.getLogger(__name__)

FULL = 2  # of SQLite's "synchronous": OFF, NORMAL, FULL, EXTRA
UNSAFE = ("off", "local", "0")

SQLITE = ("jobs that were added, and results, can be lost when the power fails: SQLite "
          "is opened with synchronous={}; write 'synchronous FULL' into the <pragmas> of "
          "its <sqlite3>, or open it by sqlite:///")
POSTGRESQL = ("jobs that were added, and results, can be lost when the power fails: "
              "PostgreSQL is set to {} = {}")
ZEO = ("the ZEO server at {} is spoken to without encryption, and whoever can reach it "
       "can read all data and run code here: use <ssl> (docs/cluster.txt)")


def warn(db: DB) -> None:
    """Log what is risky about a database, once in each process; mend what can be."""
    with _lock:
        if db in _warned:
            return
        _warned.add(db)
    try:
        mend(db)
        for text in cautions(db):
            log.warning("%s", text)
    except Exception as error:  # it must not keep anything from working
        log.debug("the settings of the storage cannot be read: %s", in_log(error))


def cautions(db: DB) -> list[str]:
    """What is risky about a database, each in a sentence."""
    adapter = watch.adapter_of(db)
    if adapter is None:
        return list(_of_zeo(db.storage))
    kind = type(adapter).__name__
    if kind == "Sqlite3Adapter":
        level, = _ask(adapter, "PRAGMA synchronous")
        return [] if level >= FULL else [SQLITE.format(("OFF", "NORMAL")[level])]
    if kind == "PostgreSQLAdapter":
        return [POSTGRESQL.format(name, value) for name in ("synchronous_commit", "fsync")
                for value in _ask(adapter, f"SHOW {name}") if value in UNSAFE]
    return []


def mend(db: DB) -> None:
    """Have RelStorage 4.3 forget what was not committed: see decisions.txt.

    For its classes, once in a process: whoever writes to SQLite needs it.
    """
    adapter = watch.adapter_of(db)
    if adapter is None:
        return
    try:
        with _lock:
            _mend_cache()
            if type(adapter).__name__ == "Sqlite3Adapter":
                _mend_sqlite()
    except (ImportError, AttributeError) as error:  # another release than is known here
        _tell_once(in_log(error))


@lru_cache
def _tell_once(text: str) -> None:
    log.warning("RelStorage is not as it was in 4.3, and is left as it is: %s", text)


def forget(connection: Connection) -> None:
    """Forget what RelStorage has cached in this process, and a connection has loaded.

    Between transactions.  Other storages have no cache of their own to doubt.
    """
    for each in tuple(connection.connections.values()):
        if type(each._storage).__module__.startswith("relstorage"):
            try:
                each._storage._cache.clear(load_persistent=False)
                each.cacheMinimize()
            except Exception as error:
                log.debug("the cache cannot be emptied: %s", in_log(error))


def _mend_cache() -> None:
    """After an inconsistency RelStorage starts its index of what has changed anew, and
    keeps the states it has cached: what was changed meanwhile stays old."""
    from relstorage.cache.storage_cache import StorageCache

    reset = StorageCache._reset

    def reset_and_forget(self: Any, message: Any = None) -> None:
        self.cache.flush_all()
        reset(self, message)

    if reset.__name__ != reset_and_forget.__name__:
        StorageCache._reset = reset_and_forget


def _mend_sqlite() -> None:
    """A connection to SQLite keeps what it is to store in a temporary table, until its
    transaction is rolled back.

    RelStorage sees nothing to roll back before the database is locked, when the
    transaction loses against another, and none after a COMMIT has failed (the disk is
    full, or broken), which SQLite undoes by itself.  The next commit on that connection
    would store what was left there, or fail over it.
    """
    import sqlite3

    from relstorage.adapters.sqlite.drivers import Connection as SQLiteConnection

    if hasattr(SQLiteConnection, "has_stored"):
        return
    commit, rollback = SQLiteConnection.commit, SQLiteConnection.rollback
    store = SQLiteConnection.return_to_repeatable_read
    begun = sqlite3.Connection.in_transaction

    def stores(self: Any) -> None:
        self.has_stored = True
        store(self)

    def commits(self: Any) -> None:
        try:
            commit(self)
            self.has_stored = False
        except BaseException:
            try:
                self.rollback()  # which empties the temporary tables
            except BaseException:
                self.close()     # it is replaced by another
            raise

    def rolls_back(self: Any) -> None:
        rollback(self)
        self.has_stored = False

    SQLiteConnection.has_stored = False
    SQLiteConnection.return_to_repeatable_read = stores
    SQLiteConnection.commit, SQLiteConnection.rollback = commits, rolls_back
    # RelStorage asks this before it rolls back.
    SQLiteConnection.in_transaction = property(
        lambda self: self.has_stored or begun.__get__(self))


def _ask(adapter: Any, question: str) -> Any:
    """The first row of an answer, on a connection like those that commit."""
    manager = adapter.connmanager
    connection, cursor = manager.open_for_store()
    try:
        cursor.execute(question)
        return cursor.fetchone()
    finally:
        manager.rollback_and_close(connection, cursor)


def _of_zeo(storage: Any) -> Iterator[str]:
    if type(storage).__module__ != "ZEO.ClientStorage":
        return
    addresses = storage._addr if isinstance(storage._addr, list) else [storage._addr]
    client = getattr(getattr(storage, "_server", None), "client", None)
    if getattr(client, "ssl", None) is None:
        for address in addresses:
            if not is_local(address):
                yield ZEO.format(in_log(address))


def is_local(address: Any) -> bool:
    """Whether an address of a ZEO server is one of this host only.

    address: a path, or a tuple of host and port.
    """
    if isinstance(address, str):
        return True
    host = (address[0] or "0.0.0.0").strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


_warned: "WeakSet[DB]" = WeakSet()
_lock = threading.Lock()
