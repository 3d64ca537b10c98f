"""One per service and process: claims for its workers, and keeps the books.

    bell, schedule, time ──> look ──> one commit: fold in what ended, bring due, claim
                              │                         │
          worker threads <── hand out <─────────────────┘
              │   run a job and commit, tell what became of it
              └──> finished ──> folded in with the next claim

The dispatcher is the named thread of the service.  Its workers have another
prefix; each runs one job at a time.
"""
import logging
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from ZODB.DB import DB

from lovely.remotetask import lifecycle
from lovely.remotetask.clerk import Claim, Round, Want
from lovely.remotetask.errors import ServiceGone, StorageClosed
from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.filters import ALL, Filter
from lovely.remotetask.limits import SUSPECT
from lovely.remotetask.runtime import engine, rescue, watch
from lovely.remotetask.runtime.attendance import Attendance
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.publication import (
    Outcome, Publication, elsewhere, is_outage, storage_closed)
from lovely.remotetask.runtime.solo import ANY, IMPATIENT, NOTHING, SHARED, SOLO
from lovely.remotetask.runtime.turns import Turns, turns_for
from lovely.remotetask.runtime.wakeup import Bell, InvalidationListener, listen
from lovely.remotetask.settings import Settings

log = logging.getLogger(__name__)

FOLD_SECONDS = 0.5    # what ended is folded in by then, if no claim comes first
AHEAD_SECONDS = 0.1   # claimed ahead: as many jobs as are done in this time
GROUPS = 4            # so many times that where jobs share transactions
LOW = 4               # others are claimed when a quarter of that is left
SUSPECT_SECONDS = 60  # after so long in what is in hand, suspects are waited for no more
GONE_TRIES = 3        # looks that find no service at its path: it was removed
STRAY_SECONDS = 0.2   # after so long others look after what waits in a worker's shard
PASSED_SECONDS = 10.0  # so long what a worker does not take is not looked at again
RETURN_SECONDS = 0.5  # after so long in one job, what was claimed ahead goes back
RESCUE_SECONDS = 1.0
PRUNE_SECONDS = 0.1   # rest between two batches: adders that meet one must repeat
STUMBLE_SECONDS = 1.0
PARTING_SECONDS = 2.0  # at the end, for threads without work to close what they have open
WORKER_PREFIX = "remotetask-worker."


class TimeLimitExceeded(Exception):
    """An attempt ran past its time limit."""


class Worker:
    """A thread that runs one claimed job after the other."""

    def __init__(self, dispatcher: "Dispatcher", number: int):
        self.dispatcher = dispatcher
        self.claim: Claim | None = None
        self.context: JobContext | None = None
        self.joined: list[tuple[Claim, JobContext]] = []  # others in one transaction
        self.since = 0.0
        self.abandoned = False
        self.cancelled_at: float | None = None
        self.name = f"{dispatcher.name}/{number}"
        self.thread = threading.Thread(
            target=self.run, daemon=True,
            name=f"{WORKER_PREFIX}{'.'.join(dispatcher.path)}.{number}")

    @property
    def claims(self) -> list[Claim]:
        """What it has in hand: one job, or several that share a transaction."""
        claim = self.claim
        return [] if claim is None else [claim, *(each for each, _ in self.joined)]

    def more(self) -> tuple[Claim, JobContext] | None:
        """Another job for the present transaction."""
        return self.dispatcher.another_for(self)

    def run(self) -> None:
        dispatcher = self.dispatcher
        publication = None
        try:
            publication = Publication(dispatcher.db, dispatcher.path, dispatcher.closed)
            while (work := dispatcher.next_claim(self)) is not None:
                outcomes: list[Outcome] = []
                try:
                    outcomes = publication.attempt_some(
                        *work, self.more, self.name, dispatcher.conflict_tries)
                finally:
                    dispatcher.done(self, outcomes)
                if not dispatcher.ahead:
                    publication.rest()
        except StorageClosed as error:
            dispatcher.give_up(error)
        except BaseException as error:
            log.error("worker %s stumbled, another takes its place:\n%s", self.name,
                      marked(traceback_of(error)))
            dispatcher.closed.wait(STUMBLE_SECONDS)
        finally:
            dispatcher.left(self)
            if publication is not None:
                publication.abort()
                publication.connection.close()


class Dispatcher:
    """Works for one service on *slots* threads, until `running` is false.

    wait_seconds: the longest nap where nothing can wake it; changes made by
    another process are then found by looking.  filter: which jobs it takes.
    """

    def __init__(self, db: DB, path: Iterable[str], slots: int = 1,
                 wait_seconds: float = 1.0, filter: Filter = ALL) -> None:
        self.db, self.path, self.slots = db, tuple(path), slots
        self.wait_seconds = wait_seconds
        self.name = uuid.uuid4().hex
        self.bell = Bell()
        self.running = True
        self.closed = threading.Event()     # set when all is over
        self.failed: BaseException | None = None
        self.lock = threading.Condition()   # guards what follows
        self.ahead: list[Claim] = []        # claimed, not begun; most urgent first
        self.workers: list[Worker] = []
        self.manned: list[Worker] = []      # whose threads have not ended, but for a few
        self.finished: deque[tuple[float, Outcome]] = deque()
        self.low: int | None = None         # so few ahead: claim others
        self.mean: float | None = None      # seconds a job takes, of late
        self.number = 0
        self.grouping = False               # jobs here share transactions
        self.limits: dict[str, tuple[str, ...]] = {}  # line -> names of its limits
        self.allowed: dict[str, int] = {}   # slots of each limit that may be used here
        self.listener = InvalidationListener(self.bell)
        # Not all others come at once to where one worker is slow.
        self.patience = STRAY_SECONDS * random.uniform(1, 5)
        self.strays: dict[int, tuple[object, float]] = {}  # shard -> what waits, since
        self.turns: Turns | None = None     # where those who share the work need them
        self._shares = self._helps = False  # others are at home; is to help them
        self.conflict_tries = 5
        self.conflicts = 0                  # in all, for who asks
        self.done_count = self._told = 0    # _told: of how many others know
        self._rescued = self._pruned = float("-inf")
        self._stop_by: float | None = None
        self._missed = 0                    # looks in a row that found no service
        self._connected = False             # whether there is a publication
        self._oid: bytes | None = None      # of the service, wherever it stands
        self._blocked: set[str] = set()     # limits that are reached for long
        self.filter = filter                # which jobs it takes
        self.takes = str(filter)
        self.passed: dict[tuple[int, str, int], int] = {}  # none for it up to there
        self._passed_since = 0.0
        self.state = ""                     # '' takes jobs; else why it does not
        self.attendance = Attendance(self)

    # -- in the dispatcher's own thread

    def __call__(self) -> None:
        self.attendance.begin()
        SOLO.enter(self)
        try:
            begun = self._begin()
            while begun:
                seen = self.bell.rings
                nap = self._look_safely()
                if nap is None:
                    break
                if nap:
                    self.publication.rest()
                self.bell.wait(seen, nap)
        except Exception as error:
            log.error("service %s cannot be processed:\n%s", "/".join(self.path),
                      marked(traceback_of(error)))
        finally:
            self.running = False
            self.closed.set()
            with self.lock:
                self.lock.notify_all()
            self._see_off()
            self.listener.detach()
            SOLO.leave(self)
            self.attendance.end()
            if self._connected:
                self.publication.abort()
                self.publication.connection.close()
            if self.turns is not None:
                self.turns.close()
            log.debug("dispatcher %s of %s ends", self.name, "/".join(self.path))

    def _see_off(self) -> None:
        """Wait until the threads that have nothing in hand have closed their connections:
        the database is closed next, and Python ends; SQLite would crash then."""
        until = time.monotonic() + PARTING_SECONDS
        for worker in self.manned:
            if worker.claim is None and not worker.abandoned:
                worker.thread.join(max(0.0, until - time.monotonic()))

    def stop(self, grace: float | None = None) -> None:
        """Take no other job; let those in hand run for *grace* seconds, then hand
        them back.  Returns at once; of several grace times the first to end counts."""
        if grace is not None:
            self._grace = grace if self._grace is None else min(grace, self._grace)
        self.running = False
        self.bell.ring()

    _grace: float | None = None

    def give_up(self, error: BaseException) -> None:
        """The storage is gone for good: nothing can be done in this process."""
        if self.failed is None:
            log.critical("service %s stops: %s", "/".join(self.path), in_log(error))
        self.failed = error
        self.running = False
        self.bell.ring()

    def _begin(self) -> bool:
        """Connect, again and again while the storage does not answer; whether that was
        done before it is to stop."""
        told = False
        while True:
            seen = self.bell.rings
            try:
                if not self._connected:
                    self.publication = Publication(self.db, self.path, self.closed)
                    self._connected = True
                self._listen()
                engine.warn(self.db)
                log.debug("dispatcher %s of %s begins", self.name, "/".join(self.path))
                return True
            except Exception as error:
                if self._connected:
                    self.publication.abort()
                if not self._may_begin_later(error):
                    return False
                if not told:
                    log.error("service %s cannot be processed yet, it is tried again:\n%s",
                              "/".join(self.path), marked(traceback_of(error)))
                told = True
            self.bell.wait(seen, STUMBLE_SECONDS)

    def _may_begin_later(self, error: Exception) -> bool:
        """Whether what went wrong at the beginning may be right the next time."""
        if isinstance(error, StorageClosed) or storage_closed(self.db):
            self.give_up(error)
        elif isinstance(error, ServiceGone):
            self._missed += 1
            if self._missed >= GONE_TRIES:
                log.error("service %s cannot be processed: %s", "/".join(self.path),
                          in_log(error))
                return False
        return self.running

    def _listen(self) -> None:
        service = self.publication.begin("look")
        self._oid = service._p_oid
        listen(self.db, service._p_oid, self.bell)
        self._settings: Settings = service.effectiveSettings()
        self.conflict_tries = self._settings.conflict_tries
        if self.turns is None:
            self.turns = turns_for(self.db, self._oid)
        watched = service.watched(self.name)
        self.publication.abort()
        if not rescue.exclusive(self.db):
            self.listener.attach(self.db, watched)

    def _look_safely(self) -> float | None:
        """Seconds until the next look; None at the end."""
        try:
            return self.look()
        except Exception as error:
            SOLO.tell(self, False)
            if storage_closed(self.db):
                self.give_up(error)
            if self.failed is not None:
                return None
            if self.publication.oid is not None and not is_outage(
                    error, self.publication.committing):
                log.debug("nothing goes back", exc_info=True)  # it was packed away, say
                return None
            if isinstance(error, ServiceGone):
                self._missed += 1
                if self._missed >= GONE_TRIES or not self.running:
                    log.error("service %s is not in the database any more, its thread "
                              "ends", "/".join(self.path))
                    return self._depart()
            else:
                log.error("service %s stumbled, looks again:\n%s", "/".join(self.path),
                          marked(traceback_of(error)))
            self.closed.wait(STUMBLE_SECONDS)
            return 0.0

    def _depart(self) -> float:
        """There is no service at its path.  Where it stands now, if it was moved, it
        comes to an end as if it was told to stop; one that was removed stays so."""
        self.publication.oid = self._oid
        # What was packed away is not written again out of memory.
        self.publication.connection.cacheMinimize()
        self.running = False
        return 0.0

    def look(self) -> float | None:
        if self.failed is not None:
            return None
        now = time.monotonic()
        if self._told < self.done_count:  # here: once for many, and no job waits for it
            self._told = self.done_count
            watch.tell(self.db, watch.RESULTS)
        self.attendance.look(now)
        if not self.running:
            SOLO.tell(self, False)
            return self._wind_up(now)
        unstarted = self._overtaken(now)
        want = self._wanted(NOTHING if self.state else SOLO.ask(self))
        want = want._replace(help=self._helps or not self._takes_turns())
        with self.lock:
            in_hand = [(claim.id, claim.token)
                       for worker in self.workers for claim in worker.claims]
            known = {id for id, _ in in_hand} | {claim.id for claim in self.ahead}
            finished = [outcome for _, outcome in self.finished]
            stale = bool(self.finished) and (
                now - self.finished[0][0] >= FOLD_SECONDS
                or any(each.status in lifecycle.WAITING for each in finished)
                or self._idle_slots(want.lines))
        rescuing = now - self._rescued >= RESCUE_SECONDS
        self.publication.turn = self._turn(want)
        round: Round = self.publication.transact(
            "dispatch", self.name, finished=finished, fold=stale, want=want,
            unstarted=unstarted, in_hand=in_hand, known=known, rescuing=rescuing)
        self._missed = 0
        if rescuing:
            self._rescued = now
        self._settings = round.settings
        self.conflict_tries = round.settings.conflict_tries
        with self.lock:
            if round.folded:
                for _ in finished:
                    self.finished.popleft()
            self.ahead = sorted(self.ahead + round.claims, key=lambda claim: claim.key)
            self.limits.update(round.limits)
            self.allowed = round.slots
            self._man()
            self.lock.notify_all()
        SOLO.tell(self, round.suspects)
        if round.looking:  # what was passed over is of use as long as it goes on
            self._passed_since = now
        self._note_strays(round.strays, now)
        self._shares = round.shared
        called = round.elsewhere and not want.help
        self._helps = round.elsewhere
        self.listener.watched = round.watched
        self._stop_those(round.gone, now)
        self._end_overdue(now)
        self._prune(now)
        return 0.0 if called else self._nap(now, round)

    def _turn(self, want: Want) -> Callable[[], AbstractContextManager[object]]:
        """What a round with that wish has to wait for: see `turns`."""
        if self.turns is None or not self._takes_turns():
            return nullcontext
        return partial(self.turns.take, alone=bool(want.strays) or (
            want.help and want.wanted > 0))

    def _takes_turns(self) -> bool:
        return self.turns is not None and self._shares

    def has_in_hand(self) -> bool:
        """Whether a job runs here, or was claimed to be run."""
        with self.lock:
            return bool(self.ahead) or any(
                worker.claim is not None for worker in self.workers)

    def has_suspect(self) -> bool:
        """Whether one of these is a job whose process has died before."""
        with self.lock:
            claims = self.ahead + [claim for worker in self.workers
                                   for claim in worker.claims]
            return any(claim.line.startswith(SUSPECT) for claim in claims)

    def _wanted(self, room: str = ANY) -> Want:
        """What to claim.  room: what the other dispatchers of the process leave.

        `alone` is None when what is in hand has been there for so long that suspects,
        which want to be alone, are waited for no more.
        """
        now = time.monotonic()
        with self.lock:
            busy = [worker.claim for worker in self.workers if worker.claim is not None]
            in_hand = busy + self.ahead
            lines = Counter(claim.line for claim in in_hand)
            strays = {shard: what for shard, (what, since) in self.strays.items()
                      if now - since >= self.patience}
            if room == NOTHING:
                return Want(lines=lines, strays=strays)
            alone: bool | None = not in_hand
            if busy and not self.ahead and all(
                    worker.claim is None or now - worker.since > SUSPECT_SECONDS
                    for worker in self.workers):
                alone = None
            elif any(line.startswith(SUSPECT) for line in lines):
                return Want(lines=lines, strays=strays)
            if room in (SHARED, IMPATIENT) and alone:
                alone = None if room == IMPATIENT else False
            free = max(0, self.slots - len(busy))
            ahead = 0
            if self.mean is not None:
                most = self._settings.prefetch
                ahead = min(most * GROUPS if self.grouping else most,
                            int(AHEAD_SECONDS * self.slots / max(self.mean, 1e-5)))
            self.low = ahead // LOW if ahead else None
            wanted = free + ahead - len(self.ahead)
            if len(self.ahead) > ahead // LOW + free:
                wanted = 0
            # What waits for a slot of its limit is no work for the threads that are free.
            idle = max(0, free - self._startable(busy))
            if now - self._passed_since > PASSED_SECONDS:
                self.passed, self._passed_since = {}, now
            return Want(max(wanted, idle, 0), idle, ahead // 2, lines, self._blocked,
                        alone, strays, self.filter, self.passed)

    def _startable(self, busy: Iterable[Claim]) -> int:
        """How many of the jobs claimed ahead have slots of their limits."""
        used = self._used(busy)
        startable = 0
        for claim in self.ahead:
            if self._has_room(claim, used):
                used.update(self.limits.get(claim.line, ()))
                startable += 1
        return startable

    def _used(self, claims: Iterable[Claim]) -> Counter[str]:
        """{limit: how many of these jobs it holds for}."""
        return Counter(name for claim in claims
                       for name in self.limits.get(claim.line, ()))

    def _has_room(self, claim: Claim, used: Counter[str]) -> bool:
        return all(used[name] < self.allowed.get(name, 0)
                   for name in self.limits.get(claim.line, ()))

    def _idle_slots(self, lines: Mapping[str, int]) -> bool:
        """Whether slots are held that what is in hand does not need."""
        if not self.allowed:
            return False
        needed: Counter[str] = Counter()
        for line, number in lines.items():
            for name in self.limits.get(line, ()):
                needed[name] += number
        return any(needed[name] < slots for name, slots in self.allowed.items())

    def _overtaken(self, now: float) -> list[Claim]:
        """What was claimed ahead of a job that takes long: others may take it."""
        with self.lock:
            slow = [worker.claim for worker in self.workers
                    if worker.claim is not None and now - worker.since > RETURN_SECONDS]
            used = self._used(slow)
            self._blocked = {name for name, number in used.items()
                             if number >= self.allowed.get(name, 0)}
            # A limit was made narrower, and others have all of it.
            self._blocked |= {name for claim in self.ahead
                              for name in self.limits.get(claim.line, ())
                              if not self.allowed.get(name)}
            everybody = len(slow) >= self.slots or bool(self.state)
            unstarted = [claim for claim in self.ahead
                         if everybody or not self._blocked.isdisjoint(
                             self.limits.get(claim.line, ()))]
            if unstarted:
                self.ahead = [claim for claim in self.ahead if claim not in unstarted]
            if everybody and unstarted and not self.state:
                self.mean = RETURN_SECONDS
            return unstarted

    def _note_strays(self, found: dict[int, object], now: float) -> None:
        """Keep since when the same waits in the shards of others."""
        before = self.strays
        self.strays = {shard: before[shard] if shard in before
                       and before[shard][0] == what else (what, now)
                       for shard, what in found.items()}

    def _man(self) -> None:
        """Have a thread for each job at hand, up to the number of slots."""
        idle = sum(worker.claim is None for worker in self.workers)
        while idle < len(self.ahead) and len(self.workers) < self.slots:
            self.number += 1
            worker = Worker(self, self.number)
            worker.thread.start()
            self.workers.append(worker)
            self.manned = [each for each in self.manned if each.thread.is_alive()]
            self.manned.append(worker)
            idle += 1

    def _running(self) -> list[tuple[Worker, Claim, JobContext]]:
        """(worker, claim, context) of what runs, each with what belongs to it."""
        with self.lock:
            return [(worker, *each) for worker in self.workers
                    if worker.claim is not None and worker.context is not None
                    for each in ((worker.claim, worker.context), *worker.joined)]

    def _stop_those(self, gone: Collection[tuple[int, int]], now: float) -> None:
        """Jobs in hand that were cancelled or taken away: ask them to stop."""
        for worker, claim, context in self._running():
            if (claim.id, claim.token) not in gone:
                continue
            context.stop()
            if worker.cancelled_at is None:
                worker.cancelled_at = now
            elif now - worker.cancelled_at > self._settings.grace_seconds:
                self._abandon(worker, claim)

    def _end_overdue(self, now: float) -> None:
        """Fence off the attempts that are past their time limit."""
        for worker, claim, context in self._running():
            if context.expires is None or now < context.expires:
                continue
            context.stop()
            seconds = now - worker.since
            error = TimeLimitExceeded(f"ran for {seconds:.1f} s, past its time limit")
            log.warning("%s: %s; it cannot commit any more", context.label, error)
            outcome = self.publication.fail(
                claim, context, error, worker.name, lifecycle.TIMED_OUT)
            self._abandon(worker, claim, outcome)

    def _abandon(self, worker: Worker, claim: Claim,
                 outcome: Outcome | None = None) -> None:
        """Leave a thread to itself; its slot goes to a fresh one."""
        with self.lock:
            if claim not in worker.claims:
                return  # it has just come to its end
            left = [each for each in worker.claims if each is not claim]
            if worker.context is not None:
                for context in (worker.context, *(each for _, each in worker.joined)):
                    context.stop()  # others run what is left: its thread must not
            worker.abandoned = True
            worker.claim, worker.joined = None, []
            self.workers.remove(worker)
            self.finished.append(
                (time.monotonic(), outcome or Outcome(claim.id, claim.token, None)))
            # Those that shared its transaction cannot commit either.
            self.ahead = sorted(self.ahead + left, key=lambda each: each.key)
        self.bell.ring()

    def _prune(self, now: float) -> None:
        if now - self._pruned < self._settings.retain_interval:
            return
        removed = self.publication.transact("prune")
        self._pruned = now
        if removed:
            log.debug("removed %s jobs that were kept long enough", removed)
            # More may follow, after whatever is waiting.
            self._pruned += PRUNE_SECONDS - self._settings.retain_interval

    def _nap(self, now: float, round: Round) -> float:
        """Seconds until something has to be looked at."""
        if round.more:
            return 0.0
        naps = [self.wait_seconds, self.attendance.nap(now),
                max(0.0, self._pruned + self._settings.retain_interval - now)]
        if round.due_in is not None:
            naps.append(max(round.due_in, 0.0))
        if round.shared:
            naps.append(STRAY_SECONDS)
        with self.lock:
            if self.finished:
                naps.append(max(0.0, self.finished[0][0] + FOLD_SECONDS - now))
            for worker in self.workers:
                if worker.claim is not None and worker.context is not None:
                    if worker.context.expires is not None:
                        naps.append(max(0.0, worker.context.expires - now))
                    if self.ahead:
                        naps.append(RETURN_SECONDS)
        return min(naps)

    def _wind_up(self, now: float) -> float | None:
        """The end: what is claimed ahead goes back, what runs may end in time."""
        with self.lock:
            unstarted, self.ahead = self.ahead, []
            grace = self._settings.grace_seconds if self._grace is None else self._grace
            if self._stop_by is None or now + grace < self._stop_by:
                self._stop_by = now + grace
            self.lock.notify_all()
        running = self._running()
        overtime = now >= self._stop_by
        hand_back = []
        if overtime:
            hand_back = [claim for _, claim, _ in running]
        with self.lock:
            finished = [self.finished.popleft()[1] for _ in range(len(self.finished))]
        over = overtime or not running
        if unstarted or hand_back or finished or over:
            self.publication.transact("handBack", self.name, finished, unstarted,
                                      hand_back, close=over)
        if over:
            for worker, claim, context in running:
                context.stop()
                self._abandon(worker, claim)
                log.warning("%s: handed back, its service stops", context.label)
            return None
        self._end_overdue(now)
        return min(0.5, self._stop_by - now)

    # -- in the threads of the workers

    def next_claim(self, worker: Worker) -> tuple[Claim, JobContext] | None:
        """The next job for a worker, when there is one; None: go."""
        with self.lock:
            while True:
                if worker.abandoned or self.closed.is_set():
                    return None
                if len(self.workers) > self.slots:  # so many are wished no more
                    self.workers.remove(worker)
                    return None
                claim = self._pick() if self.running and not self.state else None
                if claim is not None:
                    if len(self.ahead) == self.low:
                        self.bell.ring()
                    worker.claim, worker.since = claim, time.monotonic()
                    worker.cancelled_at = None
                    worker.context = context = self._context(claim)
                    return claim, context
                if not self.running:
                    return None
                self.lock.wait()

    def another_for(self, worker: Worker) -> tuple[Claim, JobContext] | None:
        """A job of the same line, to share the transaction of the one in hand."""
        with self.lock:
            if worker.abandoned or not self.running or self.state \
                    or worker.claim is None:
                return None
            line = worker.claim.line
            for position, claim in enumerate(self.ahead):
                if claim.line == line:
                    del self.ahead[position]
                    break
            else:
                return None
            if len(self.ahead) == self.low:
                self.bell.ring()
            joined = claim, self._context(claim)
            worker.joined.append(joined)
            self.grouping = True
            return joined

    def _context(self, claim: Claim) -> JobContext:
        return JobContext(claim.id, partial(elsewhere, self.db, self.path), self.bell.ring)

    def _pick(self) -> Claim | None:
        if self.ahead and not self.limits.get(self.ahead[0].line):
            return self.ahead.pop(0)
        used = self._used(
            worker.claim for worker in self.workers if worker.claim is not None)
        for position, claim in enumerate(self.ahead):
            if self._has_room(claim, used):
                return self.ahead.pop(position)
        return None

    def done(self, worker: Worker, outcomes: list[Outcome]) -> None:
        """A worker is through with what it had in hand."""
        with self.lock:
            if worker.abandoned:
                return
            now = time.monotonic()
            through = {outcome.id: outcome for outcome in outcomes}
            claims = worker.claims
            taken = (now - worker.since) / len(claims)
            before = 0.8 ** len(claims)
            self.mean = taken if self.mean is None else \
                before * self.mean + (1 - before) * taken
            if worker.context is not None:
                self.conflicts += sum(context.conflicts for context in (
                    worker.context, *(each for _, each in worker.joined)))
            self.done_count += len(claims)
            worker.claim, worker.joined = None, []
            self.finished.extend((now, through.get(
                claim.id, Outcome(claim.id, claim.token, None))) for claim in claims)
            hungry = not self.ahead or bool(self.allowed)
            if self.allowed:
                self.lock.notify_all()  # its limits have room again
        if hungry or not self.running:
            self.bell.ring()

    def left(self, worker: Worker) -> None:
        with self.lock:
            if worker in self.workers:
                self.workers.remove(worker)
        self.bell.ring()
