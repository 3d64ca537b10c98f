"""What a transaction has written, where the storage keeps history.

Nothing is loaded: classes and sizes are read off the stored records, and at most
as many of these as are asked for.
"""
from collections.abc import Callable, Iterator
from time import gmtime
from typing import Any, NamedTuple

from persistent.timestamp import TimeStamp
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import FileIterator
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import get_pickle_metadata, load_current

from lovely.remotetask.errors import NoHistory

# Storages that keep history and cannot undo; all else that keeps it can.
WITHOUT_UNDO = (MappingStorage, DemoStorage)
# Seconds within which the storages of one transaction number it: first as their clocks
# agree, then as they may differ.
NEAR = (2.0, 60.0)


class Record(NamedTuple):
    """One object as a transaction has written it."""

    oid: bytes
    kind: str       # package.module.Class; '' where its making was undone
    size: int       # bytes, pickled
    current: bool   # whether it still stands so


class Writing(NamedTuple):
    """What one transaction has written."""

    tid: bytes
    moment: float                # seconds since 1970
    user: str
    note: str
    packed: bool                 # its older states may be gone
    records: tuple[Record, ...]  # the first ones
    more: bool                   # there are others


def keeps_history(db: DB) -> bool:
    return db.supportsUndo() or isinstance(db.storage, WITHOUT_UNDO)


def writing(db: DB, tid: bytes, oid: bytes, limit: int) -> Writing:
    """What the transaction *tid*, which wrote the object *oid*, has written.

    Raises NoHistory where the storage does not know any more, or never did.
    """
    if not keeps_history(db):
        raise NoHistory("no history", "the storage of this database keeps no history")
    transactions = _transactions(db.storage, tid, oid)
    try:
        for transaction in transactions:
            if transaction.tid == tid:
                return _read(db, transaction, limit)
    finally:
        _close(transactions)
    raise NoHistory("packed", "the history of that time was packed away")


def kinds(db: DB, tid: bytes, oid: bytes) -> Iterator[tuple[bytes, str]]:
    """(oid, class) of all that a transaction has written, without limit."""
    transactions = _transactions(db.storage, tid, oid)
    try:
        for transaction in transactions:
            if transaction.tid == tid:
                yield from ((record.oid, _kind(record)) for record in transaction)
    finally:
        _close(transactions)


def same(db: DB, tid: bytes, wanted: Callable[[str], bool], limit: int) -> Writing:
    """What the transaction *tid* of another database has written in this one.

    It is the nearest in time with such a note: the walk to there may take a while in
    a large file.  Raises NoHistory.
    """
    if not keeps_history(db):
        raise NoHistory("no history", f"the storage of database {db.database_name!r} "
                        "keeps no history")
    moment = TimeStamp(tid).timeTime()
    for seconds in NEAR:
        first, last = _tid_at(moment - seconds), _tid_at(moment + seconds)
        transactions = db.storage.iterator(first, last)
        found = None
        try:
            for transaction in transactions:
                if wanted(_text(transaction.description)) and (
                        found is None or _distance(transaction.tid, moment)
                        < _distance(found.tid, moment)):
                    found = _read(db, transaction, limit)
        finally:
            _close(transactions)
        if found is not None:
            return found
    raise NoHistory("packed", f"what was written to database {db.database_name!r} at "
                    "that time is not found in its history any more")


def _close(transactions: Any) -> None:
    getattr(transactions, "close", lambda: None)()


def _tid_at(moment: float) -> bytes:
    whole, rest = divmod(moment, 60)
    return TimeStamp(*gmtime(whole * 60)[:5], rest).raw()


def _distance(tid: bytes, moment: float) -> float:
    return abs(TimeStamp(tid).timeTime() - moment)


def _transactions(storage: Any, tid: bytes, oid: bytes) -> Any:
    """An iterator that comes to the transaction soon."""
    if type(storage) is FileStorage:
        # Its own iterator walks over all transactions from one end of the file.
        position = _position(storage, tid, oid)
        if position is None:
            return iter(())
        return FileIterator(storage.getName(), stop=tid, pos=position)
    return storage.iterator(tid, tid)


def _position(storage: FileStorage, tid: bytes, oid: bytes) -> int | None:
    """Where a transaction begins in the file, by way of an object that it wrote."""
    with storage._lock:
        try:
            position = storage._lookup_pos(oid)
        except POSKeyError:
            return None
        while position:
            header = storage._read_data_header(position, oid)
            if header.tid == tid:
                return int(header.tloc)
            position = header.prev if header.tid > tid else 0
    return None


def _read(db: DB, transaction: Any, limit: int) -> Writing:
    records: list[Record] = []
    more = False
    for record in transaction:
        if len(records) == limit:
            more = True
            break
        records.append(_record(db.storage, transaction.tid, record))
    return Writing(
        transaction.tid, TimeStamp(transaction.tid).timeTime(), _text(transaction.user),
        _text(transaction.description), transaction.status == "p", tuple(records), more)


def _record(storage: Any, tid: bytes, record: Any) -> Record:
    return Record(record.oid, _kind(record), len(record.data or b""),
                  present_tid(storage, record.oid) == tid)


def _kind(record: Any) -> str:
    return ".".join(get_pickle_metadata(record.data)).strip(".") if record.data else ""


def present_tid(storage: Any, oid: bytes) -> bytes | None:
    """The transaction that wrote an object last; None where there is none any more."""
    ask: Callable[[bytes], bytes] = getattr(
        storage, "getTid", lambda oid: load_current(storage, oid)[1])
    try:
        return ask(oid)
    except POSKeyError:
        return None


def _text(given: bytes | str) -> str:
    return given.decode("utf-8", "replace") if isinstance(given, bytes) else given


def place_of(connection: Any, oid: bytes) -> tuple[Any, tuple[str, ...] | None]:
    """A stored object and the names that lead to it; None where it bears none.

    Loads it and what stands above it.  Raises what a record that is gone or damaged
    raises.
    """
    found = connection.get(oid)
    root = connection.root()
    if oid == root._p_oid:
        return found, ()
    names = tuple(_names_above(found))
    if names:
        return found, tuple(reversed(names))
    return found, next(((str(name),) for name, value in root.items()
                        if getattr(value, "_p_oid", None) == oid), None)


def _names_above(place: Any) -> Iterator[str]:
    for _ in range(100):
        above, name = getattr(place, "__parent__", None), getattr(place, "__name__", None)
        if above is None or not name:
            return
        yield str(name)
        place = above
