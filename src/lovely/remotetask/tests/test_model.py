"""The service against a plain dictionary: whatever users do, in any order.

The model knows no queue, index, inbox or schedule: it sorts and counts.  After each
step every job must be as the model has it, what was run must have run in its order,
and the books must agree.
"""
import copy
import sys
import unittest

import transaction
import ZODB
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule,
    run_state_machine_as_test)
from ZODB.MappingStorage import MappingStorage
from zope.component import provideUtility
from zope.component.testing import setUp, tearDown

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.errors import BadStatus, IllegalMove, NotWaiting, UnknownJob
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.retry import RetryPolicy
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask, TaskError, context
from lovely.remotetask.testing import SimulatedClock

SECOND, DAY = 1_000_000, 86_400 * 1_000_000
FINISHED, WAITING = lifecycle.FINISHED, lifecycle.WAITING
PAUSE = 30       # seconds between the attempts of `later`
BOUND, GRACE = 5, 10
RETAIN = {"completed": 1 * DAY, "cancelled": 1 * DAY, "error": 2 * DAY}
SLIPS = 80       # before so many wait, somebody processes: adders would fold them in


class Model:
    """What jobs there are, and what becomes of them.  Moments are microseconds."""

    def __init__(self):
        self.jobs: dict[int, dict] = {}
        self.changed: dict[int, None] = {}   # not seen by a clerk since
        self.last = 0                        # the last place in line that was given
        self.ran: list[int] = []
        self.runs: list[tuple[int, int]] = []   # (cron job, instant), in order
        self.children: list[dict] = []          # made by the model, not yet numbered

    def add(self, id, now, **facts):
        self.jobs[id] = dict(
            id=id, status="start later", reason=None, priority=10, arrival=0, due=None,
            deadline=None, failures=0, created=now, since=now, placed=False, parent=None)
        self.jobs[id].update(facts)
        self.changed[id] = None
        return self.jobs[id]

    def place(self, now):
        self.last = max(now, self.last + 1)
        return self.last

    def enqueue(self, job, arrival, reason=None):
        job.update(status="queued", arrival=arrival, since=arrival, reason=reason)
        self.changed.setdefault(job["id"])

    def end(self, job, status, now, reason=None):
        job.update(status=status, since=now, reason=reason)
        self.changed.setdefault(job["id"])

    # -- what a clerk does

    def settle_all(self, now, base):
        while self.changed:
            self.settle(self.jobs[next(iter(self.changed))], now, base)

    def settle(self, job, now, base):
        self.changed.pop(job["id"], None)
        is_new, job["placed"] = not job["placed"], True
        if job["status"] == "cronjob" and not job["paused"] and job["up_to"] is None:
            job["up_to"] = base if base is not None else \
                job["created"] if is_new else now
        if job["status"] in FINISHED and job["parent"] is not None \
                and not job.get("told"):
            job["told"] = True
            cron = self.jobs.get(job["parent"])
            if cron is not None and cron["status"] == "cronjob" and not cron["paused"]:
                self.next_run(cron, now)

    def due_of(self, job):
        """The moment at which something is to be done with a job; None: never."""
        status = job["status"]
        if status == "delayed":
            return job["due"]
        if status == "queued" and job["deadline"]:
            return job["deadline"] + 1
        if status == "cronjob" and not job["paused"] and job["up_to"] is not None:
            return self.next_after(job, job["up_to"])
        return None

    @staticmethod
    def next_after(cron, moment):
        every = cron["every"] * SECOND
        first = cron["created"] // SECOND * SECOND
        return first + ((moment // SECOND * SECOND - first) // every + 1) * every

    def bring_due(self, now):
        due = sorted((moment, job["id"]) for job in self.jobs.values()
                     if (moment := self.due_of(job)) is not None and moment <= now)
        for _, id in due:
            job = self.jobs[id]
            if job["status"] == "cronjob":
                self.fire(job, now)
            elif job["deadline"] and job["deadline"] < now:
                self.end(job, "cancelled", now, "expired")
                self.settle(job, now, None)
            elif job["status"] == "delayed":
                self.enqueue(job, job["due"], job["reason"])
                self.settle(job, now, None)

    def fire(self, cron, now):
        instants, moment = [], self.next_after(cron, cron["up_to"])
        newest = moment + (now - moment) // (cron["every"] * SECOND) * (
            cron["every"] * SECOND)
        while newest >= moment and len(instants) < BOUND:
            late = newest < now - GRACE * SECOND
            if late and (cron["missed"] == "skip" or cron["missed"] == "once" and instants):
                break
            instants.insert(0, newest)
            newest -= cron["every"] * SECOND
        cron["up_to"] = now
        if not instants:
            return
        if instants[0] < now - GRACE * SECOND and cron["missed"] == "all" \
                and cron["overlap"] != "allow":
            before = [] if cron["waiting"] is None else [cron["waiting"]]
            cron["late"] = [*cron["late"], *before, *instants][-BOUND:]
            cron["waiting"] = None
            self.next_run(cron, now)
            return
        self.next_run(cron, now)
        for instant in instants:
            if cron["overlap"] == "allow" or not self.unfinished(cron):
                self.make_run(cron, instant, now)
            elif cron["overlap"] == "queue one":
                cron["waiting"] = instant

    def unfinished(self, cron):
        return any(job["parent"] == cron["id"] and job["status"] not in FINISHED
                   for job in self.jobs.values())

    def next_run(self, cron, now):
        if not cron["late"] and cron["waiting"] is None or self.unfinished(cron):
            return
        if cron["late"]:
            instant = cron["late"].pop(0)
        else:
            instant, cron["waiting"] = cron["waiting"], None
        self.make_run(cron, instant, now)

    def make_run(self, cron, instant, now):
        self.runs.append((cron["id"], instant))
        # Its number is the service's to choose; of equal places there are none.
        number = -len(self.runs)
        child = self.add(number, now, parent=cron["id"], task="good",
                         priority=cron["priority"], instant=instant)
        self.children.append(child)
        self.enqueue(child, self.place(now))
        self.settle(child, now, None)

    # -- processing

    def process(self, now, at, base):
        """All that is due at the moment *at*; the clock on the wall shows *now*."""
        self.clock = now
        while True:
            self.settle_all(at, base)
            self.bring_due(at)
            queue = sorted((job["priority"], job["arrival"], job["id"])
                           for job in self.jobs.values() if job["status"] == "queued")
            if not queue:
                return
            job = self.jobs[queue[0][2]]
            self.run(job, now, at)
            self.settle(job, at, base)

    def run(self, job, now, at):
        task = job["task"]
        while True:
            self.ran.append(job["id"])
            if task == "good":
                self.end(job, "completed", now)
                return
            job["failures"] += 1
            if task == "final" or job["failures"] > 1:
                self.end(job, "error", at)
                return
            if task == "later":
                job.update(status="delayed", reason="retry", due=at + PAUSE * SECOND)
                self.changed.setdefault(job["id"])
                return


class ServiceAgainstModel(RuleBasedStateMachine):

    jobs = Bundle("jobs")
    crons = Bundle("crons")
    tasks = st.sampled_from(["good", "good", "bad", "later", "final"])
    seconds = st.integers(1, 100)

    @initialize()
    def build(self):
        setUp()
        self.clock = clock.current = SimulatedClock(1_800_000_000)
        self.model = Model()
        self.ran = []
        self.db = ZODB.DB(MappingStorage())
        self.connection = self.db.open()
        self.service = self.connection.root()["tasks"] = TaskService()
        self.service.configure(retain_completed=1, retain_errors=2, missed_bound=BOUND,
                               missed_grace=GRACE)
        transaction.commit()

        def good(input):
            self.ran.append(context().jobid)
            return input

        def bad(input):
            good(input)
            raise ValueError("bad")

        def final(input):
            good(input)
            raise TaskError("final")

        once_more = RetryPolicy(1, 0)
        for name, task in dict(
                good=SimpleTask(good), bad=SimpleTask(bad, retryPolicy=once_more),
                later=SimpleTask(bad, retryPolicy=RetryPolicy(1, PAUSE, jitter=0)),
                final=SimpleTask(final)).items():
            provideUtility(task, ITask, name=name)

    def teardown(self):
        if hasattr(self, "db"):
            transaction.abort()
            self.connection.close()
            self.db.close()
            clock.current = clock.SystemClock()
            tearDown()

    @property
    def now(self):
        return self.clock.micros()

    def done(self):
        """After each step: commit, and a second passes."""
        transaction.commit()
        self.clock.advance(1)
        if len(self.model.changed) > SLIPS:
            self.process()

    def agree(self, allowed, verb, *arguments, error=IllegalMove, **options):
        """The service does what the model allows, and nothing else; what it answers."""
        try:
            answer = getattr(self.service, verb)(*arguments, **options)
        except (error, UnknownJob):
            assert not allowed, (verb, arguments)
            transaction.abort()
            return None
        assert allowed, (verb, arguments)
        return answer

    def known(self, id):
        return self.model.jobs.get(id)

    # -- adding

    def _add(self, task, later, delay, deadline, priority, count):
        options = dict(priority=priority)
        if delay:
            options["delay"] = delay
        if deadline:
            options["startBefore"] = deadline
        ids = self.service.addMany(task, range(count), later, **options)
        start = self.now + (delay or 0) * SECOND
        for id in ids:
            job = self.model.add(
                id, self.now, task=task, priority=priority,
                due=start if delay else None,
                deadline=start + deadline * SECOND if deadline else None)
            if later:
                continue
            if delay:
                job["status"] = "delayed"
            else:
                self.model.enqueue(job, self.model.place(self.now))
        self.done()
        return ids

    @rule(target=jobs, task=tasks)
    def add(self, task):
        return self._add(task, False, None, None, 10, 1)[0]

    @rule(target=jobs, task=tasks, count=st.integers(2, 3))
    def add_many(self, task, count):
        return multiple(*self._add(task, False, None, None, 10, count))

    @rule(target=jobs, task=tasks, later=st.booleans(), delay=st.none() | seconds,
          deadline=st.none() | seconds, priority=st.integers(1, 20))
    def add_with_options(self, task, later, delay, deadline, priority):
        return self._add(task, later, delay, deadline, priority, 1)[0]

    @rule(task=tasks)
    def add_and_abort(self, task):
        """Nobody hears of it; its place in line is given to nobody else."""
        self.service.add(task)
        self.model.place(self.now)
        transaction.abort()

    @rule(target=crons, every=st.integers(5, 60), priority=st.integers(5, 15),
          missed=st.sampled_from(["skip", "once", "all"]),
          overlap=st.sampled_from(["allow", "skip", "queue one"]))
    def add_cron(self, every, priority, missed, overlap):
        id = self.service.addCronJob("good", schedule=f"@every {every}s", missed=missed,
                                     overlap=overlap, priority=priority)
        self.model.add(id, self.now, task="good", status="cronjob", every=every,
                       missed=missed, overlap=overlap, paused=False, up_to=None,
                       waiting=None, late=[], priority=priority)
        self.done()
        return id

    # -- steering

    @rule(id=jobs | crons)
    def cancel(self, id):
        job = self.known(id)
        self.service.cancel(id)
        if job is not None and job["status"] not in FINISHED:
            self.model.end(job, "cancelled", self.now, "by hand")
        self.done()

    @rule(id=jobs | crons)
    def retry(self, id):
        job = self.known(id)
        allowed = job is not None and job["status"] in ("error", "cancelled") \
            and "every" not in job
        self.agree(allowed, "retry", id)
        if allowed:
            job.update(failures=0, deadline=None)
            self.model.enqueue(job, self.model.place(self.now), "by hand")
        self.done()

    @rule(id=jobs)
    def cancel_and_retry_at_once(self, id):
        job = self.known(id)
        if job is not None and job["status"] not in FINISHED:
            self.service.cancel(id)
            self.service.retry(id)
            job.update(failures=0, deadline=None)
            self.model.enqueue(job, self.model.place(self.now), "by hand")
        self.done()

    @rule(id=jobs)
    def start_later(self, id):
        job = self.known(id)
        if job is None:
            return
        waiting = job["status"] == "start later"
        assert self.service.startJob(id) == waiting
        if waiting and job["due"] and job["due"] > self.now:
            job["status"] = "delayed"
            self.model.changed.setdefault(id)
        elif waiting:
            self.model.enqueue(job, self.model.place(self.now))
        self.done()

    @rule(id=jobs, priority=st.integers(1, 20))
    def change_priority(self, id, priority):
        job = self.known(id)
        allowed = job is not None and job["status"] in WAITING
        self.agree(allowed, "changeJob", id, priority=priority, error=NotWaiting)
        if allowed:
            job["priority"] = priority
            self.model.changed.setdefault(id)
        self.done()

    @rule(id=jobs)
    def run_now(self, id):
        job = self.known(id)
        allowed = job is not None and job["status"] in ("start later", "delayed")
        self.agree(allowed, "runNow", id)
        if allowed:
            self.model.enqueue(job, self.model.place(self.now))
        self.done()

    @rule(id=crons)
    def run_cron_now(self, id):
        cron = self.known(id)
        allowed = cron is not None and cron["status"] == "cronjob"
        self.agree(allowed, "runNow", id)
        if allowed:
            self.model.make_run(cron, self.now, self.now)
            self.number_children()
        self.done()

    @rule(id=crons, verb=st.sampled_from(["pause", "resume", "reschedule"]))
    def steer_cron(self, id, verb):
        cron = self.known(id)
        if cron is None:
            return
        there = cron["status"] == "cronjob"
        if verb != "reschedule" or there:
            self.agree(there, verb, id)
        if there and verb == "pause":
            cron.update(paused=True, waiting=None, late=[])
        elif there and (verb == "reschedule" or cron["paused"]):
            cron.update(paused=cron["paused"] and verb != "resume", up_to=None)
        if there:
            self.model.changed.setdefault(id)
        self.done()

    # -- tidying

    @rule(words=st.lists(st.sampled_from(sorted(FINISHED)), min_size=1, unique=True))
    def clean(self, words):
        self.model.settle_all(self.now, None)
        gone = [id for id, job in self.model.jobs.items() if job["status"] in words]
        assert self.service.clean(words) == len(gone)
        self.number_children()
        self.forget(gone)
        self.done()

    @rule(word=st.sampled_from(sorted(set(lifecycle.STATUSES) - FINISHED)))
    def clean_what_is_not_at_its_end(self, word):
        after = copy.deepcopy(self.model)
        after.settle_all(self.now, None)
        allowed = all(job["status"] != word for job in after.jobs.values())
        self.agree(allowed, "clean", (word,), error=BadStatus)
        if allowed:
            self.model = after
            self.number_children()
        self.done()

    @rule(id=jobs)
    def remove(self, id):
        job = self.known(id)
        allowed = job is not None and job["status"] in FINISHED
        self.agree(allowed, "remove", id)
        if allowed:
            self.forget([id])
        self.done()

    @rule()
    def prune(self):
        gone = [id for id, job in self.model.jobs.items()
                if job["status"] in RETAIN and id not in self.model.changed
                and job["since"] < self.now - RETAIN[job["status"]]]
        assert self.service.prune() == len(gone)
        self.forget(gone)
        self.done()

    def forget(self, ids):
        for id in ids:
            del self.model.jobs[id]
            self.model.changed.pop(id, None)

    # -- time and work

    @rule(seconds=st.integers(1, 200))
    def go_on(self, seconds):
        self.clock.advance(seconds)

    @rule(days=st.integers(1, 2))
    def go_on_for_days(self, days):
        self.clock.advance(days * 86_400)

    @rule()
    def process(self):
        self.service.process()
        self.model.process(self.now, self.now, None)
        self.number_children()
        self.same_order()
        self.done()

    @rule(ahead=st.integers(0, 300))
    def process_as_of(self, ahead):
        """With a moment of the caller's own, not before that of the clock."""
        at = self.now + ahead * SECOND
        self.service.process(at / SECOND)
        self.model.process(self.now, at, at)
        self.number_children()
        self.same_order()
        self.done()

    def same_order(self):
        ran, self.ran[:] = list(self.ran), []
        expected, self.model.ran = self.model.ran, []
        assert ran == expected, (ran, expected)

    def number_children(self):
        """Learn the numbers of the runs that the model has made too."""
        model = self.model
        for child in model.children:
            number = self.number_of(child)
            model.jobs.pop(child["id"])
            model.ran = [number if id == child["id"] else id for id in model.ran]
            child["id"] = number
            model.jobs[number] = child
        model.children.clear()

    def number_of(self, child):
        cron = self.service.getJob(child["parent"])
        micros = [(clock.to_micros(run.instant), run.job) for run in cron.runs]
        found = [id for instant, id in micros
                 if instant == child["instant"] and id not in self.model.jobs]
        assert found, (child["instant"], micros)
        return found[0]

    # -- what must be so after each step

    @invariant()
    def they_agree(self):
        if not hasattr(self, "db"):
            return
        service, jobs = self.service, self.model.jobs
        assert set(service.jobs) == set(jobs)
        counted = dict.fromkeys(lifecycle.STATUSES, 0)
        for id, expected in jobs.items():
            job = service.getJob(id)
            counted[expected["status"]] += 1
            assert (job.status, job.reason, job.priority, job.failures) == tuple(
                expected[name] for name in ("status", "reason", "priority", "failures"))
            if expected["status"] == "queued":
                assert job.arrival == expected["arrival"]
        assert service.counts() == counted
        assert service.queueLength() == counted["queued"]
        assert service.check() == []
        for status in lifecycle.STATUSES:
            listed = {job.id for job in service.listJobs(status, limit=1000)[0]}
            assert listed == {id for id, job in jobs.items() if job["status"] == status}
        transaction.abort()


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
FEW = settings(max_examples=15, stateful_step_count=25, deadline=None, database=None,
               derandomize=True, suppress_health_check=QUIET)
SOME = settings(FEW, max_examples=40, stateful_step_count=50)
FULL = settings(SOME, max_examples=2000, derandomize=False)


class FewStories(ServiceAgainstModel.TestCase):
    settings = FEW


class SomeStories(ServiceAgainstModel.TestCase):
    level = 2
    settings = SOME


def test_suite():
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    return unittest.TestSuite(map(load, (FewStories, SomeStories)))


if __name__ == "__main__":  # python -m lovely.remotetask.tests.test_model
    run_state_machine_as_test(ServiceAgainstModel, settings=FULL)
    print(f"{FULL.max_examples} stories of up to {FULL.stateful_step_count} steps",
          file=sys.stderr)
