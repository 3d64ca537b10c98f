"""Bugs to be planted: each undoes one of the precautions that keep jobs safe.

A test that finds none of them proves nothing.  Each is written as the change that a
careless hand would make to the text of the real code; its docstring says what is
broken then.  A text that is not there any more is an error, so that no bug quietly
stops being planted.
"""
import inspect
import textwrap
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

from ZODB import ConflictResolution

from lovely.remotetask import clerk, desk, job, lifecycle, service
from lovely.remotetask.runtime import dispatcher, publication, rescue
from lovely.remotetask.store import leases

MUTANTS = {}


def mutant(function):
    MUTANTS[function.__name__.replace("_", "-")] = contextmanager(function)
    return function


def planted(name):
    """The context in which that bug is there; no bug without a name."""
    return nullcontext() if name is None else MUTANTS[name]()


@contextmanager
def edited(place, name, *changes):
    """A function of a class or module with its text changed: (old, new), ..."""
    function = inspect.unwrap(getattr(place, name))
    text = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        if text.count(old) < 1:
            raise AssertionError(f"{place.__name__}.{name} has no {old!r} to be broken")
        text = text.replace(old, new)
    found = {}
    exec(compile("from __future__ import annotations\n" + text, f"<{name}, broken>",
                 "exec"), function.__globals__, found)
    with mock.patch.object(place, name, found[name]):
        yield


# -- the commit of an attempt


@mutant
def two_commits():
    """The effects of a task are committed before its completion."""
    with edited(desk.Desk, "runJob", (
            "    if self._transaction() is not present:",
            "    self._p_jar.transaction_manager.commit()\n"
            "    self._p_jar.transaction_manager.begin()\n"
            "    if self._transaction() is not present:")):
        yield


@mutant
def no_fence():
    """Two writers of one job do not meet: the last one wins."""
    def resolve(self, old, saved, new):
        return new

    def forget():
        for kind in (job.Job, job.CronJob):
            ConflictResolution._unresolvable.pop(kind, None)

    forget()
    with mock.patch.object(job.Job, "_p_resolveConflict", resolve, create=True):
        yield
    forget()


@mutant
def no_token_check():
    """A claim is good as long as the job is queued or runs, whoever it was given to."""
    with edited(desk.Desk, "_mine", ("job.token != claim.token or ", "")):
        yield


@mutant
def blind_retry():
    """After a lost reply the attempt is run again, without a look at the job."""
    moves = {**lifecycle.MOVES, lifecycle.COMPLETED: frozenset({lifecycle.PROCESSING})}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(lifecycle, "MOVES", moves))
        stack.enter_context(edited(
            desk.Desk, "_mine",
            ("lifecycle.QUEUED, lifecycle.PROCESSING",
             "lifecycle.QUEUED, lifecycle.PROCESSING, lifecycle.COMPLETED")))
        stack.enter_context(edited(
            desk.Desk, "runJob",
            ("    if job.recordedStatus == lifecycle.QUEUED:\n        job.start(",
             "    if job.recordedStatus != lifecycle.PROCESSING:\n        job.start(")))
        yield


@mutant
def outage_is_failure():
    """An error out of a commit counts as one of the task."""
    with mock.patch.object(publication, "is_outage", lambda error, committing: False):
        yield


@mutant
def failed_in_company():
    """When one of several jobs in a transaction fails, the others are committed, with
    what that one has written."""
    with edited(publication.Publication, "_join", (
            "except NotMine as gone:\n            if context.entered:\n"
            "                raise\n", "except Exception as gone:\n")):
        yield


@mutant
def not_mine_is_done():
    """Who finds that his job was taken away tells the books that it is completed."""
    def lie(claim, gone):
        return publication.Outcome(claim.id, claim.token, lifecycle.COMPLETED, 1, True)

    with mock.patch.object(publication, "_not_mine", lie):
        yield


@mutant
def once_more():
    """The start of a job that may run at most once is not committed before."""
    def start_once(self, claim, worker, mark):
        self.service().startOnce(claim, worker, mark)

    with mock.patch.object(publication.Publication, "start_once", start_once):
        yield


# -- claims and leases


@mutant
def claim_without_lease():
    """What is taken out of its lane stands nowhere else until it is done."""
    with mock.patch.object(leases.Lease, "hold", lambda self, claims: None):
        yield


@mutant
def claimed_and_queued():
    """What is claimed stays in its lane too."""
    with edited(clerk.Taking, "_from", (
            "self.service.shards[number].queue.strike(line, keys)", "pass")):
        yield


@mutant
def all_are_strays():
    """A dispatcher does not say what it has in hand: it is put back in line."""
    with edited(dispatcher.Dispatcher, "look", ("known=known", "known=()")):
        yield


@mutant
def no_width():
    """Any number of jobs of one lane, of one task, with one lock run at once."""
    with mock.patch.object(desk.Desk, "limitsOf", lambda self, line: ()):
        yield


@mutant
def slots_wake_nobody():
    """Slots are given back, and who waits for them is not told."""
    with edited(clerk.Clerk, "trim", ("opened = self.wake(name) or opened", "pass")):
        yield


@mutant
def who_is_refused_wakes_nobody():
    """A line that was woken and finds another limit reached keeps the slot from others."""
    with edited(clerk.Clerk, "claim", ("if name not in taking.kept:", "if False:")), \
            mock.patch.object(clerk.Clerk, "wake_some", lambda *args: ""):
        yield


@mutant
def slots_of_the_living():
    """Slots of a limit are given back with the claims of which nobody knows."""
    def trim(self, lease, lines):
        if lease is not None:
            self.free(lease)
        return True

    with mock.patch.object(clerk.Clerk, "trim", trim):
        yield


@mutant
def lost_slots():
    """What a dead process held of a limit is never given back."""
    with edited(clerk.Clerk, "rescue", ("    self.free(lease)\n", "")):
        yield


# -- the dead


@mutant
def no_rescue():
    """What a dead process had in hand stays there."""
    with mock.patch.object(rescue, "lost", lambda *arguments: []):
        yield


@mutant
def rescue_keeps_token():
    """What a dead process had in hand is queued as if it had never been claimed."""
    with edited(job.Job, "lose_process", (
            "crashes=crashes, token=self.token + 1", "crashes=crashes")):
        yield


@mutant
def wall_clock_leases():
    """Who claimed long ago by the clock on the wall is dead."""
    def lost(found, db, lease_seconds=None):
        from lovely.remotetask import clock

        now = clock.micros()
        return [lease for lease in found.values() if any(
            now - claimed > 30_000_000 for _, claimed in lease.held.values())]

    with mock.patch.object(rescue, "lost", lost):
        yield


@mutant
def no_suspicion():
    """Nobody asks which job took a process down: it takes down the next one."""
    with edited(job.Job, "lose_process", ("suspect=True", "suspect=False")):
        yield


@mutant
def crashes_charged_to_all():
    """Every job in hand is charged when its process dies, the first time too."""
    with edited(job.Job, "lose_process", (
            "self.crashes + 1 if convicted else self.crashes", "self.crashes + 3")):
        yield


# -- the books


@mutant
def forgetful_fold():
    """What has ended is let go of, and the books do not learn how it ended."""
    with mock.patch.object(clerk.Clerk, "settle_finished",
                           lambda self, outcome: None):
        yield


@mutant
def lost_slips():
    """Of several slips that are taken out at once, the last is not looked at."""
    with edited(clerk.Clerk, "_settle_all", (
            "for id in ids:", "for id in list(ids)[:max(1, len(ids) - 1)]:")):
        yield


@mutant
def cancel_in_the_index():
    """A cancelled job is one to the books, its own record does not say so."""
    def cancel(self, jobid):
        found = self.jobs.get(jobid)
        if found is not None and found.recordedStatus not in lifecycle.FINISHED:
            index, changes = self.shards.of(found).index, {}
            was = index.place(jobid)
            if was is not None:
                index.move(jobid, was, (lifecycle.CANCELLED, found.since), changes)
                index.count(changes)

    with mock.patch.object(service.TaskService, "cancel", cancel):
        yield


@mutant
def quiet_removal():
    """A job is removed without being written: who retries it meanwhile meets nobody."""
    with edited(clerk.Clerk, "_strike", ("job.removed = True", "pass")):
        yield


@mutant
def retry_keeps_token():
    """A job that is retried by hand bears the token of its last attempt."""
    with edited(job.Job, "requeue", ("token=self.token + 1, ", "")):
        yield


@mutant
def hand_back_after_the_end():
    """A stopping process gives back what has just been completed."""
    def mine(self, claim):
        return self.jobs.get(claim.id)

    def hand_back(self):
        self._enter(lifecycle.QUEUED, lifecycle.HANDED_BACK, token=self.token + 1,
                    handbacks=self.handbacks + 1)

    with mock.patch.object(job.Job, "hand_back", hand_back), \
            edited(desk.Desk, "handBack", ("self._mine(claim)", "self.jobs.get(claim.id)")):
        yield


# -- time


@mutant
def cron_fires_twice():
    """A cron job does not keep up to which instant it has fired."""
    with edited(clerk.Clerk, "fire", ("    cron.firedUpTo = self.now\n", "")):
        yield


@mutant
def waits_for_ever():
    """A job that waits for its next attempt is not scheduled for it."""
    with edited(clerk.Clerk, "_settle_delayed", (
            "self._schedule(job).put(job.id, due)",
            "is_new and self._schedule(job).put(job.id, due)")):
        yield
