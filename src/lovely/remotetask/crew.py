"""The verbs by which workers are entered, and told what to do."""
from typing import NamedTuple

from ZODB.POSException import POSKeyError

from lovely.remotetask import acts, clock
from lovely.remotetask.errors import BadOption, UnknownWorker
from lovely.remotetask.failure import in_log
from lovely.remotetask.runtime import rescue
from lovely.remotetask.runtime.publication import find
from lovely.remotetask.runtime.wakeup import ring_after_commit
from lovely.remotetask.store.wishes import PAUSE, STOP, THREADS, Wish, Wishes

MOST_THREADS = 1_000
NAME_LIMIT = 200
PAUSED, STOPPED = "paused", "stopped"


class Orders(NamedTuple):
    """What a worker learns when it attends."""

    lost: bool = False      # its lease is gone: it was taken for dead
    entered: bytes | None = None  # oid of its registration
    beat: int = 0
    holds: bool = False     # something is on its lease
    others: bool = False    # there are other workers
    watched: bool = False   # some of them, or it by them, can only be watched
    state: str = ""         # '' takes jobs; paused, stopped
    threads: int | None = None
    by: str | None = None   # whose wish the state is
    wishes: bytes | None = None  # oid of the record in which wishes are kept
    beat_seconds: float = 10.0


class Crew:
    """The part of a TaskService that knows its workers."""

    wished = None   # of services that were stored before there were wishes

    # -- called by the workers

    def attend(self, name, begun, threads, takes="", state=""):
        """A worker is there, and asks what to do: see IServiceDesk."""
        lease = self.leases.get(name)
        if begun is not None and (
                lease is None or lease.registration._p_oid != begun):
            return Orders(lost=True)  # and perhaps a claim has made another one since
        if lease is None:
            self._ready()
            lease = self.leases.open(name, clock.micros())
            self._p_jar.add(lease.registration)
            self.spreadOut()
        lease.registration.tell(threads=threads, takes=takes, state=state)
        judged = rescue.judge(self.leases, self._p_jar.db())
        settings = self.effectiveSettings()
        state, by = self._wished_state(name)
        return Orders(
            entered=lease.registration._p_oid, beat=lease.beat,
            holds=bool(lease.held), others=len(judged) > 1,
            watched=any(there is None for _, there, _ in judged.values()),
            state=state, by=by, threads=self._wished_threads(name),
            wishes=None if self.wished is None else self.wished._p_oid,
            beat_seconds=min(settings.beat_seconds, settings.lease_seconds / 3))

    def beat(self, members):
        """Say for workers of this process, (path of their service, name), that they
        are there: one commit for all that work on this database."""
        for path, name in members:
            try:
                lease = find(self._p_jar.root(), path).leases.get(name)
            except (KeyError, TypeError, AttributeError) as error:
                if isinstance(error, POSKeyError):
                    raise
                continue  # that service was removed; its dispatcher will find so
            if lease is not None:
                lease.beat += 1

    def _wished_state(self, name):
        if self.wished is not None:
            for state, wish in ((STOPPED, self.wished.get(STOP, name)),
                                (PAUSED, self.wished.get(PAUSE))):
                if wish is not None:
                    return state, wish.by
        return "", None

    def _wished_threads(self, name):
        if self.wished is None:
            return None
        wish = self.wished.get(THREADS, name) or self.wished.get(THREADS)
        return None if wish is None else wish.number

    # -- called by people

    def pauseProcessing(self, by=None):
        """See ITaskService"""
        self._wish(PAUSE, None, None, by, "pause processing")

    def resumeProcessing(self):
        """See ITaskService"""
        self._take_back(PAUSE, None, "resume processing")

    def isPaused(self):
        """See ITaskService"""
        return self.wished is not None and self.wished.get(PAUSE) is not None

    def wishThreads(self, number, worker=None, by=None):
        """See ITaskService"""
        if number is None:
            self._take_back(THREADS, worker, "wish threads", "default")
            return
        if isinstance(number, bool) or not isinstance(number, int) \
                or not 1 <= number <= MOST_THREADS:
            raise BadOption("number", number, f"a whole number from 1 to {MOST_THREADS}, "
                            "or None; to have none, pause or stop")
        self._wish(THREADS, worker, number, by, "wish threads")

    def wishStop(self, worker, by=None):
        """See ITaskService"""
        self._wish(STOP, self._named(worker), None, by, "stop worker")

    def wishStart(self, worker):
        """See ITaskService"""
        self._take_back(STOP, worker, "start worker")

    def wishes(self):
        """See ITaskService"""
        there = {lease.name: lease.registration for lease in self.leases.values()
                 if lease.registration.threads and lease.name not in self._lost()}
        return [dict(what=wish.what, worker=wish.worker, number=wish.number, by=wish.by,
                     since=clock.from_micros(wish.since), **self._how_far(wish, there))
                for wish in self.wished or ()]

    def _lost(self):
        if self._p_jar is None:
            return ()
        return {lease.name for lease in rescue.lost(
            self.leases, self._p_jar.db(), self.effectiveSettings().lease_seconds)}

    def _how_far(self, wish, there):
        """Whom it concerns, and who of them does so already."""
        concerned = [name for name in there if wish.worker in (None, name)]
        if wish.what == THREADS and wish.worker is None:  # some have a wish of their own
            concerned = [name for name in concerned
                         if self.wished.get(THREADS, name) is None]
        return dict(concerns=sorted(concerned), obeyedBy=sorted(
            name for name in concerned if _obeys(there[name], wish)))

    def _wish(self, what, worker, number, by, verb):
        self._ready()
        worker = None if worker is None else self._named(worker)
        if self.wished is None:
            self.wished = Wishes()
            if self._p_jar is not None:
                self._p_jar.add(self.wished)
        by = acts.actor() if by is None else in_log(by, NAME_LIMIT)
        self.wished.keep(Wish(what, worker, number, by, clock.micros()))
        self.wished.tidy({lease.name for lease in self.leases.values()})
        self._tell_workers(verb, worker, number)

    def _take_back(self, what, worker, verb, detail=None):
        worker = None if worker is None else self._named(worker, or_gone=True)
        if self.wished is not None and self.wished.take_back(what, worker):
            self._tell_workers(verb, worker, detail)

    def _tell_workers(self, verb, worker, detail):
        acts.note(self, verb, detail=" ".join(
            str(each) for each in (detail, worker) if each is not None))
        ring_after_commit(self.wished)

    def _named(self, name, or_gone=False):
        """The whole name of the worker of that name, or whose name begins so.

        or_gone: where there is none, of one for whom something is wished still.
        """
        names = [lease.name for lease in self.leases.values()
                 if lease.registration.threads]
        found = _called(name, names)
        if or_gone and not found:
            found = _called(name, {wish.worker for wish in self.wished or ()} - {None})
        if name in found:
            return name
        if len(found) != 1:
            raise UnknownWorker(name, names)
        return found[0]


def _called(name, names):
    return [each for each in names
            if isinstance(name, str) and name and each.startswith(name)]


def _obeys(registration, wish):
    if wish.what == THREADS:
        return registration.threads == wish.number
    return registration.state == STOPPED \
        or wish.what == PAUSE and registration.state == PAUSED
