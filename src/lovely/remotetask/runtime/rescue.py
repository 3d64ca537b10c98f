"""Which leases are those of the lost: their jobs go back to the queue."""
import uuid
from typing import TYPE_CHECKING

from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

if TYPE_CHECKING:  # they meet in the hall only
    from lovely.remotetask.store.leases import Lease, Leases

# Storages that one process opens at a time: whoever else holds a lease is dead.
EXCLUSIVE = (FileStorage, MappingStorage, DemoStorage)

# Where wrappers keep what they wrap: those of blobs, and of what compresses or
# encrypts.
WRAPPED = ("_BlobStorage__storage", "base")
DEPTH = 10  # wrappers around one storage

# What is claimed by hand in this process stands on a lease of this name.
BY_HAND = "by-hand-" + uuid.uuid4().hex

# Names of the leases of this process.
living: set[str] = {BY_HAND}


def exclusive(db: DB) -> bool:
    """Whether no other process can have the database open, whatever wraps it."""
    storage = db.storage
    for _ in range(DEPTH):
        if isinstance(storage, EXCLUSIVE):
            return True
        inner = (getattr(storage, name, None) for name in WRAPPED)
        storage = next((each for each in inner if each is not None), None)
    return False


def lost(leases: "Leases", db: DB) -> "list[Lease]":
    """The leases whose dispatcher is dead.  Reads only."""
    only_here = exclusive(db)
    return [lease for lease in leases.values()
            if lease.name not in living and (only_here or lease.proven_dead())]
