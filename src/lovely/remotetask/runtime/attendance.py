"""How a dispatcher is entered among the workers, says that it is there, and obeys.

Nothing is written by a worker who has nothing to say: it enters itself, tells when
the number of its threads or its state has changed, and leaves.  Where others can only
watch it, it also lets its counter grow, every `beat_seconds`.
"""
import logging
import threading
import uuid
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ZODB.DB import DB

from lovely.remotetask import presence
from lovely.remotetask.failure import in_log
from lovely.remotetask.runtime import rescue
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener, listen

if TYPE_CHECKING:
    from lovely.remotetask.crew import Orders
    from lovely.remotetask.runtime.dispatcher import Dispatcher

log = logging.getLogger(__name__)

ATTEND_SECONDS = 1.0  # how often it is asked what to do, where nothing calls before

# Database -> the dispatchers of this process that work on it.
_members: WeakKeyDictionary[DB, set["Attendance"]] = WeakKeyDictionary()
_lock = threading.Lock()


class Call(Bell):
    """Rings its dispatcher's bell, and has it ask what to do."""

    def __init__(self, bell: Bell) -> None:
        super().__init__()
        self.bell = bell
        self.rung = True

    def ring(self) -> None:
        """See IWakeup"""
        self.rung = True
        super().ring()
        self.bell.ring()


class Attendance:
    """The place of a dispatcher among the workers of its service."""

    def __init__(self, dispatcher: "Dispatcher") -> None:
        self.dispatcher = dispatcher
        self.own_slots = dispatcher.slots  # where nobody wishes another number
        self.call = Call(dispatcher.bell)
        self.begun: bytes | None = None    # oid of the registration
        self.attended = self.beaten = float("-inf")
        self.beat = 0
        self.orders: Orders | None = None
        self.watched: bytes | None = None  # the record whose changes are heard
        self.listener: InvalidationListener | None = None

    def begin(self) -> None:
        presence.enter(self.dispatcher.name)
        with _lock:
            _members.setdefault(self.dispatcher.db, set()).add(self)

    def end(self) -> None:
        """The dispatcher has come to its end."""
        with _lock:
            _members.get(self.dispatcher.db, set()).discard(self)
        if self.listener is not None:
            self.listener.detach()
        presence.leave(self.dispatcher.name)

    # -- in the dispatcher's thread

    def look(self, now: float) -> None:
        """Ask what to do, when it is time, and obey."""
        if not self.call.rung and now - self.attended < ATTEND_SECONDS:
            return
        self.call.rung = False
        orders = self._ask()
        if orders.lost:
            self._begin_anew()
            orders = self._ask()
        self.attended, self.orders = now, orders
        if orders.beat > self.beat:  # a claim has let it grow
            self.beat, self.beaten = orders.beat, now
        self._hear(orders.wishes)
        if self._obey(orders):
            self._ask()  # tells what it has come to
        if self._due(orders, now):
            self._say_for_all(now)

    def nap(self, now: float) -> float:
        """Seconds until it must look again."""
        if self.orders is None or rescue.exclusive(self.dispatcher.db):
            return float("inf")
        pause = ATTEND_SECONDS if self.orders.others or self.orders.holds \
            else self.orders.beat_seconds / 2
        return max(0.0, self.attended + pause - now)

    def _ask(self) -> "Orders":
        dispatcher = self.dispatcher
        orders: Orders = dispatcher.publication.transact(
            "attend", dispatcher.name, self.begun, dispatcher.slots, dispatcher.takes,
            dispatcher.state)
        self.begun = orders.entered
        return orders

    def _begin_anew(self) -> None:
        """It was taken for dead: what it had in hand is in line again."""
        dispatcher, before = self.dispatcher, self.dispatcher.name
        with dispatcher.lock:
            unstarted, dispatcher.ahead = dispatcher.ahead, []
            running = [(worker.claim, worker.context) for worker in dispatcher.workers
                       if worker.claim is not None and worker.context is not None]
        # What a look has claimed since, before this was known, goes back as well.
        dispatcher.publication.transact(
            "handBack", before, (), unstarted, [claim for claim, _ in running], close=True)
        for _, context in running:
            context.stop()
        presence.leave(before)
        dispatcher.name = uuid.uuid4().hex
        presence.enter(dispatcher.name)
        self.beat, self.beaten = 0, float("-inf")
        log.warning("worker %s was taken for dead, what it had in hand is in line again; "
                    "it goes on as %s", before, dispatcher.name)

    def _obey(self, orders: "Orders") -> bool:
        """Do as is wished; whether that was a change."""
        dispatcher = self.dispatcher
        slots = self.own_slots if orders.threads is None else orders.threads
        if (slots, orders.state) == (dispatcher.slots, dispatcher.state):
            return False
        if orders.state != dispatcher.state:
            log.info("worker %s of %s %s%s", dispatcher.name, "/".join(dispatcher.path),
                     f"is {orders.state}" if orders.state else "takes jobs again",
                     f", as {in_log(orders.by)} wishes" if orders.by else "")
        if slots != dispatcher.slots:
            log.info("worker %s of %s: %s threads instead of %s", dispatcher.name,
                     "/".join(dispatcher.path), slots, dispatcher.slots)
        with dispatcher.lock:
            dispatcher.slots, dispatcher.state = slots, orders.state
            dispatcher.lock.notify_all()
        return True

    def _hear(self, wishes: bytes | None) -> None:
        """Be called when the record of wishes changes."""
        if wishes is None or wishes == self.watched:
            return
        self.watched = wishes
        listen(self.dispatcher.db, wishes, self.call)
        if self.listener is not None:
            self.listener.detach()
        self.listener = InvalidationListener(self.call)
        self.listener.attach(self.dispatcher.db, (wishes,))
        self.call.ring()  # it may have changed before it was listened to

    # -- being there, for those who can only watch

    def _due(self, orders: "Orders", now: float) -> bool:
        return (orders.holds or orders.watched) \
            and not rescue.exclusive(self.dispatcher.db) \
            and now - self.beaten >= orders.beat_seconds

    def _say_for_all(self, now: float) -> None:
        """One commit for all dispatchers of this process on this database whose turn
        comes soon."""
        with _lock:
            members = [
                each for each in _members.get(self.dispatcher.db, ())
                if each.orders is not None and each.begun is not None
                and now - each.beaten >= each.orders.beat_seconds / 2
                and (each.orders.holds or each.orders.watched)]
        self.dispatcher.publication.transact(
            "beat", [(each.dispatcher.path, each.dispatcher.name) for each in members])
        for each in members:
            each.beaten = now
