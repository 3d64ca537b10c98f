"""Who plays: tasks, users who add and steer jobs, and the faults that befall them."""
import random
from collections import Counter
from contextlib import ExitStack, contextmanager

from transaction import TransactionManager
from transaction.interfaces import TransientError
from zope.component import provideUtility

from lovely.remotetask import lifecycle
from lovely.remotetask.errors import RemoteTaskError, TaskError
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.retry import RetryPolicy
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests.simulation.oracle import Effect
from lovely.remotetask.tests.simulation.wire import ClientDisconnected, OperationalError
from lovely.remotetask.tests.simulation.world import DAY, Killed

FINISHED = lifecycle.FINISHED
RATE = (3, 2.0)    # so many rated jobs begin in so many seconds
TRIES = 50         # of one user's transaction over conflicts


class Faults:
    """What may go wrong, how often, and in which seed."""

    #: Share of the occasions: commits for what happens on the wire, steps for the rest.
    RATES = {
        "lost request": 0.01, "lost reply": 0.02, "lag": 0.05,
        "kill before commit": 0.006, "kill after commit": 0.006,
        "kill": 0.004, "pause": 0.003, "stop": 0.002, "jump": 0.002, "misjudge": 0.02,
    }

    def __init__(self, seed):
        self.random = random.Random(seed ^ 0xFA17)
        self.counts = Counter()
        self.on = False
        # Each seed has its own mixture: some faults are only seen without others.
        self.rates = {name: rate * self.random.choice((0, 0.5, 1, 1, 2))
                      for name, rate in self.RATES.items()}

    def happens(self, name):
        if self.on and self.random.random() < self.rates[name]:
            self.counts[name] += 1
            return True
        return False

    def seconds(self, mean):
        return self.random.expovariate(1 / mean)

    def jump(self):
        """Seconds by which a wall clock is set wrong."""
        return self.random.choice((-30, 30, -3600, 3600, -2 * DAY, 2 * DAY, 3650 * DAY))


class Tasks:
    """What jobs do, and what it does to the world outside of the database."""

    effective = frozenset(
        ("plain", "slow", "flaky", "shared", "once", "narrow", "parent", "hurried",
         "capped", "rated", "grouped", "troubled"))
    summed = frozenset(("shared",))
    raising = frozenset(("flaky", "bad", "final", "troubled"))
    at_a_rate = frozenset(("rated",))

    def __init__(self, world):
        self.world = world
        self.begun = Counter()     # (job, how often it was retried by hand) -> runs
        self.inside = []           # (job, token, name of a limit) of attempts under way
        self.outside = Counter()   # job -> effects outside of the database

    def register(self):
        again = RetryPolicy(3, 0.5, jitter=0)
        for name, options in dict(
                plain={}, slow={}, shared={}, parent={},
                flaky=dict(retryPolicy=again), bad=dict(retryPolicy=RetryPolicy(1, 0)),
                final={}, once=dict(atMostOnce=True),
                narrow=dict(lane="narrow", laneWidth=1), capped=dict(concurrency=2),
                rated=dict(rate=RATE), grouped=dict(group=5),
                troubled=dict(group=4, retryPolicy=again),
                hurried=dict(timeout=1.0, retries=1), poison={}).items():
            provideUtility(SimpleTask(getattr(self, name), wantsContext=True, **options),
                           ITask, name=name)

    def effect(self, context):
        effects = context.service._p_jar.root()["effects"]
        if context.jobid not in effects:
            effects[context.jobid] = Effect(context.jobid)
        effects[context.jobid].add()

    def rest(self, mean):
        self.world.sleep(self.world.random.expovariate(1 / mean))

    def plain(self, input, context):
        self.outside[context.jobid] += 1
        self.effect(context)
        return input

    def slow(self, input, context):
        with self.with_locks(context):
            self.rest(0.3)
            self.effect(context)
            context.progress(1, 2, "half")
            self.rest(0.3)

    @contextmanager
    def with_locks(self, context):
        with ExitStack() as stack:
            for name, width in context.service.getJob(context.jobid).locks:
                stack.enter_context(self.at_most(width, f"lock {name}", context))
            yield

    def shared(self, input, context):
        root = context.service._p_jar.root()
        self.effect(context)
        root["shared"].value += 1
        if self.world.random.random() < 0.3:
            self.rest(0.05)

    def flaky(self, input, context):
        self.effect(context)
        if context.attempt <= input:
            raise ValueError("not yet")

    def bad(self, input, context):
        self.effect(context)
        raise ValueError("bad")

    def final(self, input, context):
        self.effect(context)
        raise TaskError("final")

    def once(self, input, context):
        job = context.service.getJob(context.jobid)
        # The life in which this attempt was claimed: it may begin late.
        key = job.id, self.oracle.jobs[job.id].life_at(job.token)
        if job.worker != "by hand":
            self.begun[key] += 1
            if self.begun[key] > 1:
                self.world.violation(f"job {job.id} may run at most once, and runs again")
        self.rest(0.2)
        self.effect(context)

    def narrow(self, input, context):
        with self.at_most(1, "lane narrow", context):
            self.rest(0.1)
            self.effect(context)

    def capped(self, input, context):
        with self.at_most(2, "task capped", context), self.with_locks(context):
            self.rest(0.2)
            self.effect(context)

    def rated(self, input, context):
        self.effect(context)

    def grouped(self, input, context):
        self.effect(context)
        if self.world.random.random() < 0.1:
            self.rest(0.05)

    def troubled(self, input, context):
        """One of those that share its transaction fails at first."""
        self.effect(context)
        if input == 1 and context.attempt == 1:
            raise ValueError("not yet")

    @contextmanager
    def at_most(self, number, limit, context):
        """So many attempts that can still commit are in here, in all processes."""
        job = context.service.getJob(context.jobid)
        if job.worker == "by hand":
            yield
            return
        me = job.id, job.token, limit
        others = [each for each in self.inside if each[2] == limit
                  and self.oracle.is_in_force(*each[:2])]
        if len(others) >= number and self.oracle.is_in_force(*me[:2]):
            self.world.violation(f"{limit}: {[me, *others]} at once")
        self.inside.append(me)
        try:
            yield
        finally:
            self.inside.remove(me)

    def parent(self, input, context):
        self.effect(context)
        context.service.add("plain", context.jobid)

    def hurried(self, input, context):
        if self.world.random.random() < 0.5:
            self.rest(3.0)
        self.effect(context)

    def poison(self, input, context):
        self.world.kill(self.world.current.process, "poison")
        raise Killed


class User:
    """Adds and steers jobs in transactions of his own, from some process."""

    def __init__(self, play, process, actions):
        self.play, self.world, self.process = play, play.world, process
        self.random = play.world.random
        self.actions = actions
        self.connection = None

    def __call__(self):
        try:
            self.live()
        finally:
            self.play.acting.discard(self)

    def live(self):
        self.manager = TransactionManager()
        self.connection = self.process.db.open(self.manager)
        for _ in range(self.actions):
            self.world.sleep(self.random.expovariate(1 / 0.4))
            name = self.random.choices(self.NAMES, self.WEIGHTS)[0]
            self.act(getattr(self, name))
        self.connection.close()

    def act(self, action):
        """One action: over conflicts again, after a lost reply never."""
        for _ in range(TRIES):
            added = []
            try:
                self.manager.begin()
                service = self.connection.root()["tasks"]
                action(service, added)
                self.world.tell("user", action.__name__, added)
                self.play.attempted.update(added)
                self.manager.commit()
            except (ClientDisconnected, OperationalError):
                self.manager.abort()
                self.world.sleep(1.0)  # it may be cut off for some time
                if self.key is None:
                    return  # who knows whether it is done
            except TransientError:
                self.manager.abort()
                self.play.conflicts += 1
                self.world.sleep(self.random.random())
            except RemoteTaskError:
                self.manager.abort()
                return
            else:
                self.play.acknowledged.update(added)
                self.key = None
                return
        self.world.violation(f"{action.__name__} meets conflicts without end")

    # -- what users do

    def some_job(self, service):
        """A job that somebody added, perhaps gone by now."""
        known = sorted(self.play.attempted)
        return self.random.choice(known[-20:]) if known else 1

    def add(self, service, added):
        task, input = self.task()
        added.append(service.add(task, input))

    def task(self):
        task = self.random.choices(self.TASKS, self.SHARES)[0]
        if task == "poison" and self.play.poisons < 1:
            task = "plain"
        if task == "poison":
            self.play.poisons -= 1
        return task, self.random.randint(0, 2)

    TASKS, SHARES = zip(
        ("plain", 6), ("slow", 3), ("shared", 3), ("flaky", 2), ("bad", 1), ("final", 1),
        ("once", 3), ("narrow", 3), ("parent", 2), ("hurried", 2), ("poison", 1),
        ("capped", 3), ("rated", 2))

    def add_many(self, service, added):
        task = self.random.choice(("plain", "grouped", "grouped", "troubled"))
        added.extend(service.addMany(task, range(self.random.randint(2, 5))))

    def add_with_options(self, service, added):
        task, input = self.task()
        options = dict(priority=self.random.randint(1, 20), tags=("some",))
        options |= self.random.choice((
            dict(delay=self.random.uniform(0.1, 3)), {},
            dict(startBefore=self.random.uniform(0.1, 3)),
            dict(startLater=True)))
        added.append(service.add(task, input, **options))

    def add_with_lock(self, service, added):
        """Each with its lock, or two, and some under a cap besides."""
        task = self.random.choice(("slow", "slow", "capped"))
        for _ in range(2 if task == "slow" else 3):
            locks = self.random.choice((("invoice",), ("invoice", "b"), ("b",), ("c",)))
            added.extend(service.addMany(task, range(2), locks=locks))

    def add_once(self, service, added):
        """The same key until it is answered, whatever was lost before."""
        if self.key is None:
            self.key = f"key {self.play.next_key()}"
        added.append(service.addOnce(self.key, "plain", self.key))

    key = None

    def wish(self, service, added):
        """What the workers shall do; the operator takes it back in the end."""
        if service.isPaused():
            service.resumeProcessing()
            return
        workers = [worker["name"] for worker in service.workers() if worker["alive"]]
        kind = self.random.choice(("pause", "threads", "threads", "stop", "start"))
        if kind == "pause":
            service.pauseProcessing()
        elif kind == "threads":
            service.wishThreads(self.random.choice((1, 3, None)))
        elif workers:
            verb = service.wishStop if kind == "stop" else service.wishStart
            verb(self.random.choice(workers))

    def start_later(self, service, added):
        waiting = service.listJobs("start later")[0]
        if waiting:
            service.startJob(self.random.choice(waiting).id)

    def add_cron(self, service, added):
        if self.play.crons:
            self.play.crons -= 1
            added.append(service.addCronJob(
                self.random.choice(("plain", "slow", "flaky")), 0,
                schedule=f"@every {self.random.randint(1, 3)}s",
                overlap=self.random.choice(("allow", "skip", "queue one")),
                missed=self.random.choice(("skip", "once", "all"))))

    def cancel(self, service, added):
        service.cancel(self.some_job(service))

    def cancel_running(self, service, added):
        running = service.listJobs("processing")[0]
        if running:
            service.cancel(self.random.choice(running).id)

    def retry(self, service, added):
        service.retry(self.some_job(service))

    def retry_all(self, service, added):
        service.retryAll()

    def cancel_and_retry(self, service, added):
        id = self.some_job(service)
        service.cancel(id)
        service.retry(id)

    def cancel_and_retry_running(self, service, added):
        running = service.listJobs("processing")[0]
        if running:
            id = self.random.choice(running).id
            service.cancel(id)
            service.retry(id)

    def run_now(self, service, added):
        service.runNow(self.some_job(service))

    def pause(self, service, added):
        service.pause(self.some_job(service))

    def resume(self, service, added):
        service.resume(self.some_job(service))

    def clean(self, service, added):
        service.clean(self.random.sample(sorted(FINISHED), 2))

    def remove(self, service, added):
        service.remove(self.some_job(service))

    def prune(self, service, added):
        service.prune()

    def by_hand(self, service, added):
        service.processNext()

    def look(self, service, added):
        self.play.look(service)

    NAMES, WEIGHTS = zip(
        ("add", 20), ("add_many", 4), ("add_with_options", 8), ("start_later", 2),
        ("add_with_lock", 2), ("add_once", 3), ("wish", 1),
        ("add_cron", 1), ("cancel", 4), ("cancel_running", 3), ("retry", 4),
        ("retry_all", 1), ("cancel_and_retry", 2), ("cancel_and_retry_running", 4),
        ("run_now", 2), ("pause", 1),
        ("resume", 1), ("clean", 2), ("remove", 2), ("prune", 1), ("by_hand", 2),
        ("look", 3))
