"""The verbs by which jobs are run: by the runtime's threads, and by hand."""
import logging
import time
from collections import Counter
from contextlib import contextmanager, suppress

from zope.interface import implementer

from lovely.remotetask import access, admission, clerk, clock, lifecycle, limits
from lovely.remotetask import task as tasks
from lovely.remotetask.clerk import Clerk, Want
from lovely.remotetask.errors import BadInput, BadOutput, NotMine, TaskError
from lovely.remotetask.failure import Failure, in_log, marked, traceback_of
from lovely.remotetask.interfaces import IServiceDesk
from lovely.remotetask.masking import secrets_in
from lovely.remotetask.payload import lend, pack, validate
from lovely.remotetask.retry import policy_of
from lovely.remotetask.runtime import frames, rescue
from lovely.remotetask.runtime.context import JobContext
from lovely.remotetask.runtime.publication import Outcome
from lovely.remotetask.store.shards import SHARDS

log = logging.getLogger(__name__)

BULK = 500             # jobs settled in one commit of a dispatcher
ALL = 1_000_000
LONGEST_PAUSE = 1e9    # seconds to another attempt, whatever a policy says
LIMITS_SECONDS = 1.0   # how long the limits that tasks declare are remembered
CALL_SECONDS = 0.05    # from one call for help to the next, at least
WOKEN = 50             # limits of which it is seen each second whether they have room
FRESH = 20             # jobs that may be on a lease before they are in the books
HERE = ""              # holds the slots of what runs in the transaction that claims it


@implementer(IServiceDesk)
class Desk:
    """The part of a TaskService that runs jobs."""

    _v_limits = None
    _v_called = float("-inf")
    _v_woken = ""  # the last limit that was looked at

    # -- processing by threads

    def dispatch(self, name, finished=(), fold=False, want=None, unstarted=(),
                 in_hand=(), known=(), rescuing=False):
        """The clerk's round for the dispatcher of that name: see IServiceDesk."""
        now = clock.micros()
        want = want or Want()
        claims, folded, wanted = [], False, want.wanted
        if self._upgrade is not None and self._upgrade.advance():
            wanted = 0  # first all that was queued, for the sake of its order
        if rescuing:
            self._keep_house(now)
        home = self._home(name, {number for number, what in want.strays.items()
                                 if self._what_waits(self.shards[number]) == what})
        with Clerk(self, now, shards=home) as books:
            lease = self.leases.get(name)
            if lease is not None:
                books.return_unstarted(lease, unstarted)
                books.return_strays(lease, {*known, *(each.id for each in finished)})
            if wanted > 0 and not (fold or rescuing) and len(finished) < FRESH:
                claims = books.claim_fresh(name, min(wanted, FRESH), want.filter)
            settled = 0 if claims else books.empty_inbox(BULK)
            brought = 0 if claims else books.bring_due()
            work = wanted > 0 and any(shard.queue for shard in self.shards)
            if finished and (fold or work or settled or brought):
                books.fold(lease, finished)
                folded = True
            # Without a job's end, too: one that has gone back, or was in hand still
            # when the end of another was folded in.
            if (folded or not finished) and books.trim(lease, want.lines):
                work = wanted > 0
            if not claims and (work or wanted > 0 and folded):
                if lease is None:
                    lease = self.leases.open(name, now)
                claims = books.claim(lease, want._replace(wanted=wanted))
            if home is not None and settled:
                self._call_others(books)
        return clerk.Round(
            claims, folded,
            # Whoever takes a job away drops a slip; another process may find it first.
            self._gone(in_hand) if settled or rescuing else frozenset(),
            self._limits_by_line(claims, want.lines), {} if lease is None else lease.slots,
            settled >= BULK or brought >= clerk.DUE_LIMIT or self._upgrade is not None
            or books.looking and not claims or books.opened and len(claims) < want.wanted
            or any(len(shard.queue.inbox) for shard in books.shards),
            self._due_in(now, books.shards), self._strays(now, home),
            self.watched(name), home is not None, self.effectiveSettings(), books.suspects,
            books.looking, books.elsewhere)

    def _keep_house(self, now):
        """Give back what the dead held, and see how many share the work."""
        with Clerk(self, now) as books:
            for lost in rescue.lost(self.leases, self._p_jar.db(),
                                    self.effectiveSettings().lease_seconds):
                log.warning("process %s on %s is gone, %s jobs go back to the queue",
                            lost.pid, lost.host, len(lost.held))
                books.rescue(lost, self.effectiveSettings().crash_limit)
            self._v_woken = books.wake_some(self._v_woken, WOKEN)
        self.spreadOut()

    def spreadOut(self):
        """Have new jobs spread over shards where several workers share them."""
        self.shards.use(SHARDS if len(self.leases.workers()) > 1 else 1)

    def _home(self, name, strays=()):
        """Numbers of the shards whose books a worker keeps; None: of all."""
        workers = self.leases.workers()
        if len(self.shards) == 1 or not workers or workers == [name]:
            return None
        if name not in workers:  # it is paused, or stopped: others are at home
            return set(strays)
        place, number = workers.index(name), len(workers)
        home = {shard.number for shard in self.shards
                if shard.number % number == place % len(self.shards)}
        return home | set(strays)

    def _strays(self, now, home):
        """{shard of others: what waits there for its worker}."""
        found = {}
        for shard in () if home is None else self.shards:
            if shard.number not in home:
                slip, due = what = self._what_waits(shard)
                if slip is not None or due is not None and due < now:
                    found[shard.number] = what
        return found

    def _what_waits(self, shard):
        """(first slip, next moment) of a shard, None where there is none.

        As long as they stay, its worker has not come; and of several helpers that meet
        there, who tries again finds others, and leaves it to him.
        """
        return shard.queue.inbox.first(), shard.scheduled.next_moment()

    def _call_others(self, books):
        """Tell workers that have nothing to do of what this one leaves in its lines."""
        now = time.monotonic()
        for shard in books.shards:
            if shard.queue and now - self._v_called > CALL_SECONDS:
                shard.queue.signal.change(1)
                self._v_called = now
                return

    def watched(self, name):
        """The oids of what is changed when there is work for this worker."""
        home = self._home(name)
        found = [self._p_oid, self.shards._p_oid]
        for shard in self.shards:
            if home is None or shard.number in home:
                found.append(shard.queue.inbox._p_oid)
            else:
                found.append(shard.queue.signal._p_oid)
        return frozenset(found)

    def _gone(self, in_hand):
        jobs = ((id, token, clerk.readable(self, id)) for id, token in in_hand)
        return frozenset(
            (id, token) for id, token, job in jobs
            if job is None or job.token != token or job.recordedStatus not in (
                lifecycle.QUEUED, lifecycle.PROCESSING))

    def _due_in(self, now, shards):
        moments = [shard.scheduled.next_moment() for shard in shards]
        moments.append(self.caps.next_moment())
        due = min((moment for moment in moments if moment is not None), default=None)
        return None if due is None else (due - now) / 1_000_000

    def _limits_by_line(self, claims, lines=()):
        return {line: tuple(limit.name for limit in self.limitsOf(line)
                            if limit.width is not None)
                for line in {*lines, *(claim.line for claim in claims)}}

    def limitsOf(self, line):
        """The limits that hold for the jobs of a line of the queue."""
        return limits.of_line(line, self.knownLimits())

    def knownLimits(self):
        """{name: Limit} of lanes and tasks: what is set here over what tasks declare."""
        now = time.monotonic()
        found = self._v_limits
        if found is None or found[0] is not self.limits \
                or now - found[1] > LIMITS_SECONDS:
            declared = tasks.limits_of(self.getAvailableTasks())
            found = self._v_limits = (self.limits, now, {**declared, **self.limits})
        return found[2]

    def runJob(self, claim, context, worker="", start_once=None):
        """One attempt, up to the commit: see IServiceDesk.

        Raises NotMine when the job was taken away, and what the task raises.
        """
        job = self._mine(claim)
        context.meet(job)
        now = clock.micros()
        if job.recordedStatus == lifecycle.QUEUED and clerk.passed(
                job.micros("deadline"), now):
            job.cancel(now, lifecycle.EXPIRED)
            context.enter(self, job, None)
            return Outcome.of(job, claim.token, "its start deadline had passed, it is not run")
        task = self._task_of(job)
        once = bool(getattr(task, "atMostOnce", False))
        context.group = 1 if once else tasks.group_of(task)
        if once and start_once is not None:
            if job.recordedStatus == lifecycle.QUEUED:
                start_once(claim, worker, context.mark)
                job = self._mine(claim)
            if job.once != context.mark:
                raise NotMine(job.recordedStatus)  # somebody else has begun it
        if job.recordedStatus == lifecycle.QUEUED:
            job.start(now, worker)
        context.enter(self, job, job.timeout or getattr(task, "timeout", None))
        if not context.conflicts and log.isEnabledFor(logging.INFO):
            log.info("%s: starts", context.label)
        present = self._transaction()
        context.once = once  # until here none of its code has run
        with frames.around(job):
            if job.owner is not None:
                access.check_task(task, job.task, self)
            try:
                output = self._call(
                    task, job.id, lend(job.__dict__.get("input")), context)
            except Exception:
                self._note_secrets(job, task, context)
                raise
        if self._transaction() is not present:
            log.warning("%s: the task has ended the transaction itself: what it wrote "
                        "before is not one commit with its completion", context.label)
            job = self._mine(claim)
            if job.recordedStatus == lifecycle.QUEUED:
                job.start(now, worker)
        what = f"output of {job.task!r}"
        try:
            validate(getattr(task, "outputSchema", None), output, what)
            stored, _ = pack(output, self.effectiveSettings().output_limit, what)
        except BadInput as error:
            self._note_secrets(job, task, context, output)
            raise BadOutput(str(error)) from error
        job.write_down(context.written())
        job.note_databases(self._other_databases())
        job.complete(stored, clock.micros())
        seconds = (job.micros("completed") - now) / 1_000_000
        return Outcome.of(job, claim.token, f"completed in {seconds:.3f} s",
                          context.conflicts)

    def _note_secrets(self, job, task, context, output=None):
        """The error of this attempt is told without what input and output hide."""
        with suppress(Exception):  # the input may be what cannot be read
            names = self.effectiveSettings().secret_names
            context.secrets = secrets_in(
                getattr(task, "inputSchema", None), job.input, names) | secrets_in(
                getattr(task, "outputSchema", None), output, names)

    def failJob(self, claim, failure, error, worker="", reason=None, silently=False,
                now=None):
        """Keep why an attempt failed, and decide what follows: see IServiceDesk.

        Raises NotMine when the job was taken away meanwhile.
        """
        job = self._mine(claim)
        job._v_silent = silently
        if silently:
            _drop_unreadable(job)
        now = clock.micros() if now is None else now
        if job.recordedStatus == lifecycle.QUEUED:
            job.start(now, worker)
        pause = None
        if reason != lifecycle.INTERRUPTED:
            pause = self._pause_after(job, error)
        said = f"{in_log(failure.kind)}: {in_log(failure.text)}"
        if pause is None:
            job.fail(failure, now, reason)
            note = f"failed for good: {said}"
        else:
            job.fail_and_wait(failure, now, pause, reason or lifecycle.RETRY)
            note = f"failed, again in {pause:.1f} s: {said}"
        job._v_silent = False
        return Outcome.of(job, claim.token, note)

    def _pause_after(self, job, error):
        """Seconds to the next attempt; None: there is none."""
        try:
            task = self.taskOf(job)
            once = job.once or getattr(task, "atMostOnce", False)
            if once and job.retries is None and not _says_how_often(task):
                return None
            with frames.SiteFrame(job):
                policy = policy_of(task, job.retries)
                pause = policy.delayAfter(job.failures + 1, error)
            return None if pause is None else min(max(float(pause), 0.0), LONGEST_PAUSE)
        except Exception as trouble:
            log.error("job %s (%s): its retry policy is broken, it is not tried again:\n%s",
                      job.id, in_log(job.task), marked(traceback_of(trouble)))
            return None

    def startOnce(self, claim, worker="", mark=True):
        """Write that an at-most-once job begins: see IServiceDesk."""
        job = self._mine(claim)
        if job.recordedStatus == lifecycle.PROCESSING:
            if job.once == mark:
                return  # it is written already, only the answer was lost
            raise NotMine(job.recordedStatus)
        job.once = mark
        job.start(clock.micros(), worker)

    def touchJob(self, claim):
        """Write a claimed job as it is.  Raises NotMine when it was taken away."""
        self._mine(claim)._p_changed = True

    def handBack(self, name, finished=(), unstarted=(), running=(), close=False):
        """The end of a dispatcher: everything it holds goes back in line."""
        with Clerk(self, clock.micros()) as books:
            lease = self.leases.get(name)
            if lease is None:
                return
            books.fold(lease, finished)
            books.return_unstarted(lease, unstarted)
            lease.release((claim.id, claim.token) for claim in running)
            for claim in running:
                if clerk.readable(self, claim.id) is None:
                    continue
                try:
                    books.give_back(self._mine(claim))
                except NotMine:
                    pass  # it ended, or was moved, at the same moment
                books.look_at(claim.id)
            if close:
                books.free(lease)
                left, lease.held = lease.held, {}
                for id in left:
                    books.look_at(id)
                self.leases.close(name)

    def _mine(self, claim):
        """The claimed job.  Raises NotMine if it is not to be run any more."""
        job = self.jobs.get(claim.id)
        if job is None:
            raise NotMine("removed")
        if job.token != claim.token or job.recordedStatus not in (
                lifecycle.QUEUED, lifecycle.PROCESSING):
            raise NotMine(job.recordedStatus)
        return job

    def taskOf(self, job):
        """The task of a job, as it is found in the job's site; None without."""
        with frames.SiteFrame(job):
            return self.findTask(job.task)

    def _task_of(self, job):
        task = self.taskOf(job)
        if task is None:
            raise TaskError(f'Task "{job.task}" not found!')
        return task

    def _call(self, task, jobid, input, context):
        token = tasks.enter(context)
        try:
            return task(self, jobid, input)
        except NotMine as error:  # it would say that this job was taken away
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        finally:
            tasks.leave(token)

    def _other_databases(self):
        """Names of the other databases that the present transaction writes to."""
        mine = self._p_jar
        if mine is None or len(mine.connections) < 2:
            return ()
        # There is no public name for it: a connection joins with its first change.
        return tuple(sorted(name for name, each in mine.connections.items()
                            if each is not mine and not each._needs_to_join))

    def _transaction(self):
        jar = self._p_jar
        return None if jar is None else jar.transaction_manager.get()

    # -- processing by hand

    def process(self, now=None):
        """See ITaskService"""
        while self.processNext(now):
            pass

    def processNext(self, now=None, jobid=None):
        """See ITaskService"""
        self.finishUpgrade()
        moment, base = _moment(now)
        if jobid is None:
            with Clerk(self, moment, base) as books:
                books.empty_inbox(ALL)
                books.bring_due()
                claims = books.claim(None, Want(1, 1, alone=True))
            if not claims:
                return False
            claim, = claims
            slots = self._limits_of_width(claim.line)
        else:
            claim = self._claim_of(self.getJob(jobid))
            if claim is None:
                return False
            slots = () if self._is_held_by_hand(claim) else admission.begin(
                self, claim.line, moment)
        with self._holding(slots):
            outcome = self._run_by_hand(claim, moment)
        self.settleByHand([outcome], moment, base)
        return True

    def _limits_of_width(self, line):
        return [limit.name for limit in self.limitsOf(line) if limit.width is not None]

    @contextmanager
    def _holding(self, names):
        """Have the present transaction hold a slot of each of these limits.

        Their entries are changed for good: a worker that takes a slot before this is
        committed meets that, or this meets the worker's.
        """
        caps = self.caps
        for name in names:
            caps.touch(name, clock.micros())
            caps.take(name, HERE, caps.taken(name).get(HERE, 0) + 1)
        try:
            yield
        finally:
            with Clerk(self, clock.micros()) as books:
                for name in names:
                    caps.take(name, HERE, caps.taken(name).get(HERE, 1) - 1)
                    books.wake(name)

    def hasJobsWaiting(self, now=None):
        """See ITaskService"""
        moment, _ = _moment(now)
        if self._upgrade is not None:
            return True  # there is something to do, and what that is will be seen
        if any(shard.queue for shard in self.shards):
            return True
        due = [shard.scheduled.next_moment() for shard in self.shards]
        if any(each is not None and each <= moment for each in due):
            return True
        ids, runs = clerk.unfolded(self)
        return bool(runs) or any(
            job is not None and job.status == lifecycle.QUEUED
            for job in map(self.jobs.get, ids))

    def claimNextJob(self, now=None):
        """See ITaskService"""
        self.finishUpgrade()
        moment, base = _moment(now)
        with Clerk(self, moment, base) as books:
            books.empty_inbox(ALL)
            books.bring_due()
            claims = []
            if any(shard.queue for shard in self.shards):
                lease = self.leases.open(rescue.BY_HAND, moment)
                claims = books.claim(
                    lease, Want(1, 1, lines=self._lines_held(lease), alone=True))
        return claims[0].id if claims else None

    def _lines_held(self, lease):
        """{line: how many jobs of it are on a lease}."""
        jobs = (clerk.readable(self, id) for id in lease.held)
        return Counter(limits.line_of(job) for job in jobs if job is not None)

    def claimByHand(self, jobid):
        """The claim of a job that was claimed before, or that is queued; else None.

        One that has limits and was not claimed before is claimed now; raises
        LimitReached, and is None where it is in somebody else's hand.
        """
        claim = self._claim_of(self.getJob(jobid))
        if claim is None or not self.limitsOf(claim.line) or self._is_held_by_hand(claim):
            return claim
        if self.leases.holder(jobid) is not None:
            return None
        now = clock.micros()
        names = admission.begin(self, claim.line, now)
        lease = self.leases.open(rescue.BY_HAND, now)
        for name in names:
            slots = lease.slots.get(name, 0) + 1
            self.caps.take(name, lease.name, slots)
            lease.take_slots(name, slots)
        self.shards[claim.shard].queue.remove(claim.line, claim.key)
        lease.hold([(claim.id, claim.token, now)])
        return claim

    def _claim_of(self, job):
        """The claim of a job that waits in line or is in somebody's hand; else None."""
        if job.recordedStatus not in (lifecycle.QUEUED, lifecycle.PROCESSING):
            return None
        return clerk.Claim(job.id, job.token, limits.line_of(job), job.key, job.shard)

    def _is_held_by_hand(self, claim):
        """Whether it was claimed by hand before, and so has what it needs of its limits."""
        lease = self.leases.get(rescue.BY_HAND)
        return lease is not None and lease.held.get(claim.id, (None,))[0] == claim.token

    def settleByHand(self, outcomes, moment=None, base=None):
        """Bring into the books what was run by hand."""
        with Clerk(self, clock.micros() if moment is None else moment, base) as books:
            lease = self.leases.get(rescue.BY_HAND)
            if lease is not None:
                lease.release((outcome.id, outcome.token) for outcome in outcomes)
            for outcome in outcomes:
                job = self.jobs.get(outcome.id)
                if job is not None:
                    self.shards.of(job).queue.remove(limits.line_of(job), job.key)
                    books.settle(job)
            if lease is not None:
                books.trim(lease, self._lines_held(lease))
            books.tally(rescue.BY_HAND, outcomes)

    def _run_by_hand(self, claim, moment):
        """Attempts in the caller's transaction, a savepoint around each."""
        while True:
            jar = self._p_jar
            savepoint = None if jar is None else jar.transaction_manager.savepoint()
            context = JobContext(claim.id)
            try:
                outcome = self.runJob(claim, context, "by hand")
                context.flush()
                return outcome
            except NotMine:
                return Outcome(claim.id, claim.token, None)
            except Exception as error:
                if savepoint is not None:
                    savepoint.rollback()
                failure = Failure.of(error, context.written(), context.secrets)
                outcome = self.failJob(claim, failure, error, "by hand", now=moment)
                log.warning("%s: %s", context.label, outcome.note)
                if outcome.status != lifecycle.QUEUED \
                        or not admission.begin_again(self, claim.line, moment):
                    return outcome
                claim = self._claim_of(self.getJob(claim.id))


def _drop_unreadable(job):
    """Forget what earlier attempts have left, where that cannot be read: else no
    failure could be kept, and the job would run again and again."""
    for name in ("_attempts", "_log"):
        try:
            record = getattr(job, name)
            if record is not None:
                record._p_activate()
        except clerk.UNREADABLE as error:
            setattr(job, name, None)
            log.error("job %s (%s): what is kept of its attempts cannot be read, it is "
                      "begun anew: %s", job.id, in_log(job.task), in_log(error))


def _says_how_often(task):
    return getattr(task, "retries", None) is not None \
        or getattr(task, "retryPolicy", None) is not None


def _moment(now):
    """(microseconds, the same if it was given): where a caller plays with time."""
    if now is None:
        return clock.micros(), None
    moment = clock.to_micros(now)
    return moment, moment
