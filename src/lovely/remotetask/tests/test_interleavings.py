"""Any order of adding, claiming, running, cancelling, retrying, cleaning and dying.

Dispatchers here are played by the test: each has a connection of its own and the
memory that a real one has, and its steps are the calls that the runtime makes.  A
run is taken apart: it begins, others may commit, and then it commits or meets their
conflict.  A plain dictionary says what must be the case after each step.
"""
import unittest
from collections import Counter

import ZODB
from BTrees.OOBTree import OOBTree
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule)
from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.MappingStorage import MappingStorage
from zope.component import provideUtility
from zope.component.testing import setUp, tearDown

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.clerk import Want
from lovely.remotetask.limits import SUSPECT
from lovely.remotetask.errors import IllegalMove, NotMine, TaskError, UnknownJob
from lovely.remotetask.failure import Failure
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.job import CronJob
from lovely.remotetask.retry import DEFAULT, RetryPolicy
from lovely.remotetask.runtime import rescue
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.publication import Outcome
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import SimulatedClock
from lovely.remotetask.tests.support import effect

FINISHED = lifecycle.FINISHED
CRASH_LIMIT = 3
RETRIES = 1


class Connected:
    """Somebody with a connection of his own."""

    def __init__(self, db):
        self.manager = TransactionManager()
        self.connection = db.open(self.manager)

    def begin(self):
        self.manager.begin()
        return self.service

    @property
    def service(self):
        return self.connection.root()["tasks"]

    def do(self, verb, *args, **options):
        """Call a verb in a transaction of its own; repeated over conflicts."""
        for _ in range(20):
            service = self.begin()
            try:
                result = getattr(service, verb)(*args, **options)
                self.manager.commit()
                return result
            except TransientError:
                self.manager.abort()
            except BaseException:
                self.manager.abort()
                raise
        raise AssertionError(f"{verb} meets conflicts without end")

    def close(self):
        self.manager.abort()
        self.connection.close()


class Run:
    """An attempt that has begun and has not committed yet."""

    def __init__(self, db, claim):
        self.claim = claim
        self.hand = Connected(db)

    def begin(self):
        self.gone = self.error = None
        service = self.hand.begin()
        try:
            self.outcome = service.runJob(self.claim, JobContext(self.claim.id), "test")
        except NotMine as gone:
            self.gone = gone
        except Exception as error:
            self.error = error
        if self.error or self.gone:
            self.hand.manager.abort()

    def end(self):
        """Commit, or keep the error; the outcome.  None: a conflict, begin again."""
        claim = self.claim
        if self.gone is None and self.error is None:
            try:
                self.hand.manager.commit()
                return self.outcome
            except TransientError:
                self.hand.manager.abort()
                return None
        if self.gone is None:
            try:
                return self.hand.do("failJob", claim, Failure.of(self.error), self.error)
            except NotMine:
                pass
        return Outcome(claim.id, claim.token, None)


    def end_somehow(self):
        """Commit, over as many conflicts as it takes."""
        while (outcome := self.end()) is None:
            self.begin()
        return outcome


class Dispatcher:
    """What a dispatcher has in its memory."""

    def __init__(self, db, number):
        self.name = f"dispatcher {number}"
        self.db = db
        self.hand = Connected(db)
        self.ahead: list = []
        self.runs: list[Run] = []
        self.finished: list[Outcome] = []
        self.slots = 2
        rescue.living.add(self.name)

    def dispatch(self, unstarted=(), lost=False):
        in_hand = [(run.claim.id, run.claim.token) for run in self.runs]
        lines = Counter([claim.line for claim in self.ahead]
                        + [run.claim.line for run in self.runs])
        alone = any(line.startswith(SUSPECT) for line in lines)
        wanted = 0 if alone else max(0, 3 - len(self.ahead))
        round = self.hand.do(
            "dispatch", self.name, finished=list(self.finished), fold=True,
            want=Want(wanted, wanted, 0, lines, alone=not lines), unstarted=unstarted,
            in_hand=in_hand, known={id for id, _ in in_hand} | {
                claim.id for claim in self.ahead},
            rescuing=True)
        if lost:
            return  # the answer never arrives
        if round.folded:
            self.finished.clear()
        self.ahead = sorted(self.ahead + round.claims, key=lambda claim: claim.key)

    def die(self):
        rescue.living.discard(self.name)
        for run in self.runs:
            run.hand.close()
        self.hand.close()


class Interleavings(RuleBasedStateMachine):

    jobs = Bundle("jobs")
    crons = Bundle("crons")

    # -- the world

    @initialize()
    def build(self):
        setUp()
        self.clock = clock.current = SimulatedClock(1_800_000_000)
        self.db = ZODB.DB(MappingStorage())
        self.user = Connected(self.db)
        self.user.manager.begin()
        root = self.user.connection.root()
        service = root["tasks"] = TaskService()
        root["effects"] = OOBTree()
        service.configure(retain_completed=1, retain_errors=1, crash_limit=CRASH_LIMIT,
                          missed_bound=5)
        self.user.manager.commit()
        for name, options in self.TASKS.items():
            provideUtility(SimpleTask(wantsContext=True, **options), ITask, name=name)
        self.dispatchers: list[Dispatcher] = []
        self.number = 0
        self.model: dict[int, dict] = {}  # id -> what we know of it
        self.tokens: dict[int, int] = {}
        self.never: dict[int, int] = {}   # id -> effects it had when it was cancelled
        self.start_dispatcher()
        self.start_dispatcher()

    def bad(input, context):
        effect(input, context)
        raise ValueError("bad")

    def final(input, context):
        effect(input, context)
        raise TaskError("final")

    TASKS = {
        "good": dict(func=effect),
        "bad": dict(func=bad, retryPolicy=RetryPolicy(RETRIES, 0)),
        "later": dict(func=bad, retryPolicy=RetryPolicy(RETRIES, 30, jitter=0)),
        "final": dict(func=final),
        "narrow": dict(func=effect, lane="narrow", laneWidth=1),
    }
    names = st.sampled_from(sorted(TASKS))

    def teardown(self):
        if not hasattr(self, "db"):
            return
        try:
            self.come_to_an_end()
        finally:
            for each in self.dispatchers:
                each.die()
            self.user.close()
            self.db.close()
            clock.current = clock.SystemClock()
            tearDown()

    def come_to_an_end(self):
        """Whatever has happened: once one works quietly, each job comes to its end."""
        while self.dispatchers:
            self.die(0)
        self.start_dispatcher()
        for job in self.jobs_now():
            if isinstance(job, CronJob):
                self._cancel(job.id)
        resting = FINISHED | {"start later"}
        for _ in range(100):
            self.work(0)
            self.clock.advance(60)
            if all(job.status in resting for job in self.jobs_now()):
                break
        self.all_is_well()
        for job in self.jobs_now():
            assert job.status in resting, (job, job.status)
            if job.task in ("good", "narrow") and job.id not in self.never \
                    and not isinstance(job, CronJob):
                assert job.status in ("completed", "start later") \
                    or job.reason in ("expired", "crashed", "timed out"), (
                        job.status, job.reason)
        assert not any(lease.held for lease in self.leases())

    def note(self, *ids):
        for id in ids:
            self.model[id] = {"cancelled": False}
        return ids

    # -- what users do

    @rule(target=jobs, task=names)
    def add(self, task):
        return self.note(self.user.do("add", task))[0]

    @rule(target=jobs, task=names, count=st.integers(2, 5))
    def add_many(self, task, count):
        return multiple(*self.note(*self.user.do("addMany", task, range(count))))

    @rule(target=jobs, task=names, later=st.booleans(),
          delay=st.none() | st.integers(1, 100), priority=st.integers(1, 20),
          deadline=st.none() | st.integers(1, 200))
    def add_with_options(self, task, later, delay, priority, deadline):
        return self.note(self.user.do(
            "add", task, None, later, delay=delay, priority=priority,
            startBefore=deadline))[0]

    @rule(task=names)
    def add_and_abort(self, task):
        self.user.begin().add(task)
        self.user.manager.abort()

    @rule(target=jobs, delay=st.integers(1, 100))
    def add_delayed_cron(self, delay):
        return self.note(self.user.do("addCronJob", "good", delay=delay))[0]

    @rule(target=crons, overlap=st.sampled_from(["allow", "skip", "queue one"]),
          missed=st.sampled_from(["skip", "once", "all"]), task=names)
    def add_cron(self, overlap, missed, task):
        return self.note(self.user.do(
            "addCronJob", task, minute=tuple(range(0, 60, 2)), overlap=overlap,
            missed=missed))[0]

    @rule(job=jobs)
    def cancel(self, job):
        self._cancel(job)

    @rule(job=crons)
    def cancel_cron(self, job):
        self._cancel(job)

    def _cancel(self, job):
        before = self.status(job)
        self.user.do("cancel", job)
        if before not in (None, *FINISHED):
            assert self.status(job) == "cancelled"
            self.never[job] = self.effect_of(job)

    @rule(job=jobs)
    def retry(self, job):
        before = self.status(job)
        try:
            self.user.do("retry", job)
        except (IllegalMove, UnknownJob):
            assert before not in ("error", "cancelled")
        else:
            assert before in ("error", "cancelled")
            self.never.pop(job, None)
            found = self.look(job)
            assert (found.failures, found.crashes, found.suspect) == (0, 0, False)

    @rule(job=jobs)
    def cancel_and_retry_at_once(self, job):
        """In one transaction: the clerk never sees that it was cancelled."""
        service = self.user.begin()
        if job in service.jobs and service.getJob(job).recordedStatus not in FINISHED:
            service.cancel(job)
            service.retry(job)
        self.user.manager.commit()

    @rule()
    def retry_all(self):
        self.user.do("retryAll", errorText="bad")

    @rule(job=jobs)
    def start_later(self, job):
        before = self.status(job)
        if before is not None:
            assert self.user.do("startJob", job) == (before == "start later")

    @rule(job=jobs)
    def run_now(self, job):
        before = self.status(job)
        try:
            self.user.do("runNow", job)
        except (IllegalMove, UnknownJob):
            assert before not in ("delayed", "start later")

    @rule(words=st.lists(st.sampled_from(sorted(FINISHED)), min_size=1, unique=True))
    def clean(self, words):
        self.user.do("clean", words)
        for job in self.jobs_now():
            assert job.recordedStatus not in words

    @rule(job=jobs)
    def remove(self, job):
        before = self.status(job)
        try:
            self.user.do("remove", job)
        except (IllegalMove, UnknownJob):
            assert before not in FINISHED

    @rule()
    def prune(self):
        self.user.do("prune")

    @rule(job=crons, verb=st.sampled_from(["pause", "resume", "runNow", "reschedule"]))
    def steer_cron(self, job, verb):
        try:
            self.user.do(verb, job)
        except (IllegalMove, UnknownJob):
            assert self.status(job) in ("cancelled", None)

    @rule(job=crons)
    def update_cron(self, job):
        """`reschedule` is left for later, or for never."""
        service = self.user.begin()
        if service.jobs.get(job) is not None and self.status_in(service, job) == "cronjob":
            service.getJob(job).update(minute=tuple(range(0, 60, 3)))
        self.user.manager.commit()

    @rule(seconds=st.integers(1, 300))
    def go_on(self, seconds):
        self.clock.advance(seconds)

    @rule(days=st.integers(1, 2))
    def go_on_for_days(self, days):
        self.clock.advance(days * 86_400)

    @rule()
    def process_by_hand(self):
        """All that is due, in the caller's transaction, beside the dispatchers."""
        self.user.do("processNext")

    # -- what dispatchers do

    @rule()
    def start_dispatcher(self):
        if len(self.dispatchers) < 3:
            self.number += 1
            self.dispatchers.append(Dispatcher(self.db, self.number))

    def one(self, number):
        return self.dispatchers[number % len(self.dispatchers)] if self.dispatchers else None

    which = st.integers(0, 5)

    @rule(number=which)
    def dispatch(self, number):
        if each := self.one(number):
            each.dispatch()

    @rule(number=which)
    def dispatch_and_lose_the_answer(self, number):
        if each := self.one(number):
            each.dispatch(lost=True)

    @rule(number=which)
    def return_what_is_ahead(self, number):
        if each := self.one(number):
            unstarted, each.ahead = each.ahead, []
            each.dispatch(unstarted=unstarted)

    @rule(number=which)
    def begin_run(self, number):
        each = self.one(number)
        if each and each.ahead and len(each.runs) < each.slots:
            run = Run(self.db, each.ahead.pop(0))
            each.runs.append(run)
            run.begin()

    @rule(number=which)
    def claim_and_begin(self, number):
        self.dispatch(number)
        self.begin_run(number)

    @rule(task=names, number=which, verb=st.sampled_from(
        ["cancel", "cancel_and_retry_at_once", "stop", "time_out", "die"]))
    def overtake_a_run(self, task, number, verb):
        """What the chance of single steps would seldom bring about."""
        job = self.add(task)
        for _ in range(3):
            self.claim_and_begin(number)
        if verb.startswith("cancel"):
            getattr(self, verb)(job)
        else:
            getattr(self, verb)(number)
        self.claim_and_begin(number + 1)
        self.end_run(number, 0)

    @rule(number=which, which=which)
    def end_run(self, number, which):
        each = self.one(number)
        if not each or not each.runs:
            return
        run = each.runs[which % len(each.runs)]
        outcome = run.end()
        if outcome is None:
            run.begin()
            return
        run.hand.close()
        each.runs.remove(run)
        each.finished.append(outcome)

    @rule(number=which)
    def work(self, number):
        """A whole look: claim, run all at hand, fold in."""
        each = self.one(number)
        if not each:
            return
        each.dispatch()
        while each.ahead or each.runs:
            self.begin_run(number)
            self.end_run(number, 0)
        each.dispatch()

    @rule(number=which)
    def time_out(self, number):
        """The dispatcher fails a run; the run may still try to commit."""
        each = self.one(number)
        if each and each.runs:
            claim = each.runs[0].claim
            error = RuntimeError("ran out of time")
            try:
                outcome = each.hand.do("failJob", claim, Failure.of(error), error,
                                       reason=lifecycle.TIMED_OUT)
            except NotMine:
                return
            run = each.runs.pop(0)
            assert run.end_somehow().status is None, "a fenced run has committed"
            run.hand.close()
            each.finished.append(outcome)

    @rule(number=which)
    def die(self, number):
        """kill -9: what it had in memory is gone, its transactions are not made."""
        each = self.one(number)
        if each:
            self.dispatchers.remove(each)
            each.die()

    @rule(number=which)
    def stop(self, number):
        """A clean end that waits for nobody; the runs still try to commit."""
        each = self.one(number)
        if not each:
            return
        self.dispatchers.remove(each)
        each.hand.do("handBack", each.name, each.finished, each.ahead,
                     [run.claim for run in each.runs], close=True)
        for run in each.runs:
            assert run.end_somehow().status is None, "a job handed back has committed"
        each.die()

    # -- what must be so after each step

    def look(self, id):
        return self.user.service.jobs.get(id)

    def status_in(self, service, id):
        job = service.jobs.get(id)
        return None if job is None else job.status

    def status(self, id):
        self.user.begin()
        try:
            return self.status_in(self.user.service, id)
        finally:
            self.user.manager.abort()

    def effect_of(self, id):
        return self.user.connection.root()["effects"].get(id, 0)

    def jobs_now(self):
        self.user.begin()
        return list(self.user.service.jobs.values())

    @invariant()
    def all_is_well(self):
        if not hasattr(self, "db"):
            return
        self.user.begin()
        service = self.user.service
        faults = service.check()
        assert not faults, faults
        counted = dict.fromkeys(lifecycle.STATUSES, 0)
        for id, job in service.jobs.items():
            status = job.status
            counted[status] += 1
            if not isinstance(job, CronJob) or job.delay:
                assert self.effect_of(id) == (status == "completed"), (id, status)
            assert job.token >= self.tokens.get(id, 0)
            self.tokens[id] = job.token
            retries = RETRIES if job.task in ("bad", "later") else DEFAULT.retries
            assert job.failures <= retries + 1, (job.task, job.failures)
            assert job.crashes <= CRASH_LIMIT
            assert 0 <= job.startedCount
            if job.crashes >= CRASH_LIMIT:
                assert (status, job.reason) == ("error", "crashed"), (status, job.reason)
            if status == "error" and job.reason is None:
                assert job.failures >= 1
        assert service.counts() == counted
        assert service.queueLength() == counted["queued"]
        assert service.oldestWaiting() >= 0
        self.user.manager.abort()
        for id in self.never:
            assert self.recorded(id) in (None, "cancelled")
        held = {}
        for lease in self.leases():
            for id, (token, _) in lease.held.items():
                assert (id, token) not in held, "two hold the same claim"
                held[id, token] = lease.name

    def recorded(self, id):
        """The status that is stored for a job; None when there is no such job."""
        self.user.begin()
        try:
            job = self.look(id)
            return None if job is None else job.recordedStatus
        finally:
            self.user.manager.abort()

    def leases(self):
        self.user.begin()
        return list(self.user.service.leases.values())


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
FEW = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None,
               derandomize=True, suppress_health_check=QUIET)
MANY = settings(FEW, max_examples=600, stateful_step_count=50, derandomize=False)

QuickInterleavings = Interleavings.TestCase
QuickInterleavings.settings = FEW


class ManyInterleavings(Interleavings.TestCase):
    level = 2
    settings = MANY


def test_suite():
    loader = unittest.defaultTestLoader
    return unittest.TestSuite(map(loader.loadTestsFromTestCase,
                                  (QuickInterleavings, ManyInterleavings)))
