"""What must be so after each commit, told by the stored records alone.

The oracle reads the records of jobs and of effects in the order in which they are
committed.  It knows nothing of queues, leases or indexes: only that a job moves as
lifecycle.py says, that its token grows, and that it took effect exactly when it was
completed.
"""
from io import BytesIO

from persistent import Persistent
from ZODB._compat import PersistentUnpickler
from ZODB.broken import find_global

from lovely.remotetask import lifecycle
from lovely.remotetask.store.leases import unpacked

FINISHED = lifecycle.FINISHED
JOB = b"lovely.remotetask.job"
LEASE = b"lovely.remotetask.store.leases"
OURS = __name__.encode()


class Effect(Persistent):
    """What one job has done: written by its task."""

    def __init__(self, job):
        self.job, self.count = job, 0

    def add(self):
        self.count += 1


class Total(Persistent):
    """What all jobs of one task have done: all of them write it."""

    value = 0

    def __init__(self, task):
        self.task = task


def _reaches(origin, seen):
    for status in lifecycle.MOVES[origin]:
        if status not in seen:
            seen.add(status)
            _reaches(status, seen)
    return seen


# In one commit a job may make several moves.
REACHED = {status: frozenset(_reaches(status, set())) for status in lifecycle.STATUSES}


class Seen:
    """What the oracle knows of a job."""

    status = reason = parent = None
    token = started = failures = crashes = handbacks = 0
    effects = completions = 0
    removed = suspect = False
    lives = 0      # how often it was retried by hand
    input = None

    def __init__(self, id, task):
        self.id, self.task = id, task
        self.life_of = {}  # token that a retry by hand has given -> which one it was

    def life_at(self, token):
        return max((life for first, life in self.life_of.items() if first <= token),
                   default=0)

    def __repr__(self):
        return f"job {self.id} ({self.task}) {self.status} token {self.token}"


class Oracle:

    # Tasks that write an Effect and a Total.
    effective: frozenset = frozenset()
    summed: frozenset = frozenset()
    at_a_rate: frozenset = frozenset()
    # Tasks that raise: all others fail through conflicts only.
    raising: frozenset = frozenset()

    def __init__(self, world):
        self.world = world
        self.jobs: dict[int, Seen] = {}
        self.totals: dict[str, int] = {}
        self.instants: dict[tuple, int] = {}   # (cron job, instant) -> run
        self.claimed: dict[tuple, int] = {}    # (job, token) -> microseconds
        self.commits = self.conflicts = 0

    def witness(self, tid, records, client):
        """Called by the server with each commit."""
        self.commits += 1
        completed, effects, totals = set(), {}, {}
        self._born = []
        for data in records.values():
            head = data[:80]
            if JOB in head:
                self._job(_read(data), completed)
            elif LEASE in head:
                self._lease(_read(data))
            elif OURS in head:
                state = _read(data)
                if "job" in state:
                    effects[state["job"]] = state["count"]
                else:
                    totals[state["task"]] = state["value"]
        self._effects(completed, effects, totals)

    def _fault(self, text):
        self.world.violation(text)

    def _job(self, state, completed):
        if state is None or "id" not in state or "task" not in state:
            return  # the record of its attempts, say
        id, status = state["id"], state.get("status", lifecycle.STARTLATER)
        token = state.get("token", 0)
        job = self.jobs.get(id)
        if job is None:
            job = self.jobs[id] = Seen(id, state["task"])
            if state.get("parent") is not None and not state.get("isRun"):
                self._born.append((job, state["parent"]))
        if self.world.trace is not None:
            self.world.tell("record", job, "->", status, token, state.get("reason") or "")
        if job.removed:
            self._fault(f"{job!r} was removed, and is written again")
        if job.status is not None:
            self._move(job, status, token, state)
        if status == lifecycle.COMPLETED and job.status != status:
            completed.add(id)
            job.completions += 1
            if job.completions > 1:
                self._fault(f"{job!r} is completed for the second time")
        if state.get("removed"):
            job.removed = True
            if job.status not in FINISHED:
                self._fault(f"{job!r} is removed before its end")
        job.status, job.token, job.reason = status, token, state.get("reason")
        job.input = state.get("input")
        job.parent, job.suspect = state.get("parent"), state.get("suspect", False)
        job.started, job.failures = state.get("startedCount", 0), state.get("failures", 0)
        job.crashes, job.handbacks = state.get("crashes", 0), state.get("handbacks", 0)
        for run in state.get("runs", ()):
            self._run(id, run)

    def is_in_force(self, id, token):
        """Whether who was given that token may still complete the job."""
        job = self.jobs.get(id)
        return job is not None and job.token == token and job.status in (
            lifecycle.QUEUED, lifecycle.PROCESSING)

    def _lease(self, state):
        for id, (token, claimed) in unpacked(state["held"]).items():
            job = self.jobs.get(id)
            if job is not None and job.task in self.at_a_rate:
                self.claimed[id, token] = claimed
        if state.get("dead") and not self.may_be_taken_for_dead(state["name"]):
            self._fault(f"worker {state['name']} is taken for dead, and was always there")

    def may_be_taken_for_dead(self, name):
        return True

    def _move(self, job, status, token, state):
        if token < job.token:
            self._fault(f"the token of {job!r} falls to {token}")
        if token > job.token and state.get("reason") == lifecycle.BY_HAND:
            job.lives += 1
            job.life_of[token] = job.lives
        if status != job.status and status not in REACHED[job.status]:
            self._fault(f"{job!r} becomes {status}")
        if status == lifecycle.QUEUED and job.status != status and token == job.token:
            self._fault(f"{job!r} is queued anew with the same token")
        if status == job.status == lifecycle.QUEUED and token == job.token and (
                job.started, job.handbacks, job.failures, job.crashes) != (
                state.get("startedCount", 0), state.get("handbacks", 0),
                state.get("failures", 0), state.get("crashes", 0)):
            self._fault(f"{job!r} was in hand, and waits with the same token")
        crashes = state.get("crashes", 0)
        if crashes > job.crashes and (crashes > job.crashes + 1 or not job.suspect):
            self._fault(f"{job!r} is charged with {crashes} crashes")
        if state.get("failures", 0) > job.failures and job.task not in self.raising \
                and not _is_conflict(state.get("error")) \
                and state.get("reason") not in (
                    lifecycle.TIMED_OUT, lifecycle.INTERRUPTED):
            self._fault(f"{job!r} is charged with {state.get('error')!r}")
        if job.status in FINISHED and status != job.status and token == job.token:
            self._fault(f"{job!r} comes back as {status} with the same token")

    def _run(self, cron, run):
        known = self.instants.setdefault((cron, run.instant), run.job)
        if known != run.job:
            self._fault(f"cron job {cron} fires twice for {run.instant}: "
                        f"jobs {known} and {run.job}")

    def _effects(self, completed, effects, totals):
        for id, count in effects.items():
            job = self.jobs.get(id)
            if job is None:
                self._fault(f"an effect of job {id}, which is not stored")
                continue
            job.effects = count
            if count != 1:
                self._fault(f"{job!r} takes effect {count} times")
            elif id not in completed:
                self._fault(f"{job!r} takes effect and is not completed by that commit")
        for id in completed:
            job = self.jobs[id]
            if job.task in self.effective and id not in effects:
                self._fault(f"{job!r} is completed without its effect")
            if job.task in self.summed:
                self.totals[job.task] = self.totals.get(job.task, 0) + 1
        for child, parent in self._born:
            if parent not in completed:
                self._fault(f"{child!r} is added by job {parent}, which does not complete")
        for task, value in totals.items():
            if value != self.totals.get(task, 0):
                self._fault(f"the total of {task} is {value}, completed are "
                            f"{self.totals.get(task, 0)}")


def _is_conflict(error):
    return "conflict" in str(error).lower()


def _read(data):
    unpickler = PersistentUnpickler(find_global, lambda reference: None, BytesIO(data))
    unpickler.load()
    return unpickler.load()
