"""A storage server, and each process's client of it: what gets lost, is lost here.

The server is ZODB's MappingStorage with conflict resolution.  A process has a client
below ZODB's own MVCC adapter, as with ZEO: it reads a snapshot, learns of the commits
of others by invalidations, which may be late, and commits in one call whose request
or reply may be lost, and during which it may die.
"""
import ZODB
from ZEO.Exceptions import ClientDisconnected
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import load_current

from lovely.remotetask.tests.simulation.world import Killed


class OperationalError(Exception):
    """What the driver of a relational database raises: no TransientError."""

    __module__ = "psycopg2"


class Server(ConflictResolvingStorage, MappingStorage):
    """Keeps the data, and tells all clients and the oracle of each commit."""

    def __init__(self):
        super().__init__("server")
        self.clients = []
        self.witness = lambda tid, records, client: None

    def store(self, oid, serial, data, version, transaction):
        try:
            committed = load_current(self, oid)[1]
        except POSKeyError:
            committed = serial
        if committed != serial:
            data = self.tryToResolveConflict(oid, committed, serial, data)
            self._resolved.append(oid)
        super().store(oid, committed, data, version, transaction)

    def tpc_begin(self, transaction, tid=None):
        super().tpc_begin(transaction, tid)
        self._resolved = []

    def tpc_vote(self, transaction):
        super().tpc_vote(transaction)
        return self._resolved

    def finish(self, transaction, client):
        """Commit; the clients hear of it, each in its time."""
        records = self._tdata
        tid = super().tpc_finish(transaction)
        for each in self.clients:
            each.hear(tid, records, late=each is not client)
        self.witness(tid, records, client)
        return tid


class Client:
    """The storage of one process, under ZODB's MVCCAdapter."""

    def __init__(self, server, process, faults):
        self.server, self.process, self.faults = server, process, faults
        self.world = process.world
        self.adapter = None
        self.heard = []        # (tid, oids) of commits, not dealt with yet
        self.seen = server.lastTransaction()
        self.committing = None
        server.clients.append(self)
        process.on_death.append(lambda process: server.clients.remove(self))
        for name in ("getName", "sortKey", "isReadOnly", "getSize", "history",
                     "loadSerial", "__len__"):
            setattr(self, name, getattr(server, name))

    def registerDB(self, adapter):
        self.adapter = adapter

    def close(self):
        pass

    # -- what it hears of others

    def hear(self, tid, oids, late):
        self.heard.append((tid, list(oids)))
        if late:
            pause = self.faults.seconds(0.001)
            if self.faults.happens("lag"):
                pause = self.faults.seconds(1.0)
                self.lag_until = self.world.now + pause
            self.world.at(pause, self.deliver)

    lag_until = 0.0

    def deliver(self):
        """What was heard arrives, in a thread that the process has for that."""
        process = self.process
        if process.alive and not self.world.frozen(process) \
                and self.world.now >= self.lag_until:
            self.world.enter(process)
            self._catch_up()

    def sync(self, force=True):
        """As with ZEO unless it is told otherwise, this does not ask the server."""

    def _catch_up(self):
        if not self.heard:
            return
        heard, self.heard = self.heard, []
        self.lag_until = 0.0
        for tid, oids in heard:
            self.world.at_once(self.adapter.invalidate, tid, oids)
            self.seen = tid

    def _reach(self):
        if not self.process.alive:
            raise Killed
        cut = self.process.cut_until
        if cut is not None and self.world.now < cut:
            raise ClientDisconnected("cut off")

    def lastTransaction(self):
        """As with ZEO, what it knows: nobody is asked."""
        if self.world.now >= self.lag_until:
            self._catch_up()
        return self.seen

    def loadBefore(self, oid, tid):
        self._reach()
        return self.server.loadBefore(oid, tid)

    def new_oid(self):
        self._reach()
        return self.server.new_oid()

    # -- commits

    def tpc_begin(self, transaction, tid=None):
        self._reach()
        if self.faults.happens("kill before commit"):
            self.world.kill(self.process, "before the commit")
            raise Killed
        self.server.tpc_begin(transaction)

    def store(self, oid, serial, data, version, transaction):
        self.server.store(oid, serial, data, version, transaction)

    def checkCurrentSerialInTransaction(self, oid, serial, transaction):
        self.server.checkCurrentSerialInTransaction(oid, serial, transaction)

    def tpc_vote(self, transaction):
        return self.server.tpc_vote(transaction)

    def tpc_abort(self, transaction):
        self.server.tpc_abort(transaction)

    def tpc_finish(self, transaction, func=lambda tid: None):
        faults, world = self.faults, self.world
        if faults.happens("lost request"):
            world.tell("lost request", transaction.description)
            self.server.tpc_abort(transaction)
            raise self._lost()
        self._catch_up()
        tid = self.server.finish(transaction, self)
        world.tell("committed", transaction.description)
        if faults.happens("kill after commit"):
            world.kill(self.process, "after the commit")
            raise Killed
        if faults.happens("lost reply"):
            world.tell("lost reply", transaction.description)
            raise self._lost()
        self.heard.pop()  # the last is our own
        self.seen = tid
        world.at_once(func, tid)
        return tid

    def _lost(self):
        self.lag_until = 0.0   # who connects anew is told of all that was missed
        if self.faults.random.random() < 0.5:
            self.process.blameless = False
            self.process.cut_until = self.world.now + self.faults.seconds(1.0)
            return ClientDisconnected("the reply was lost")
        return OperationalError("the reply was lost")


class Database(ZODB.DB):
    """A process's database: its actors have a transaction manager each."""

    def __init__(self, server, process, faults):
        self.world = process.world
        super().__init__(Client(server, process, faults), pool_size=50,
                         large_record_size=1 << 30)

    def open(self, transaction_manager=None, at=None, before=None):
        if transaction_manager is None and self.world.current is not None:
            transaction_manager = self.world.current.manager
        return super().open(transaction_manager, at, before)

