"""One seed, from its beginning to its end."""
import contextlib
import gc
import threading
import time
from weakref import WeakKeyDictionary, WeakSet

import transaction
from BTrees.OOBTree import OOBTree
from zope.component.testing import setUp, tearDown

from lovely.remotetask import audit, clerk, lifecycle, presence, processor, settings
from lovely.remotetask.job import CronJob
from lovely.remotetask.processor import MultiProcessor
from lovely.remotetask.runtime import rescue, solo
from lovely.remotetask.service import TaskService
from lovely.remotetask.tests.simulation.cast import RATE, Faults, Tasks, User
from lovely.remotetask.tests.simulation.oracle import Oracle, Total
from lovely.remotetask.tests.simulation.wire import Database, Server
from lovely.remotetask.tests.simulation.world import (
    Host, Stuck, Threading, World, installed, ours)

FINISHED = lifecycle.FINISHED
RESTING = FINISHED | {lifecycle.STARTLATER, lifecycle.CRONJOB}
PATH = ("tasks",)
WORKERS = 4
STEPS, SECONDS = 25_000, 3_000.0   # then it is stuck
CRASH_LIMIT = 3
TIDY = 10              # a collection of garbage in so many seeds
LOCKS = type(threading.Lock()), type(threading.RLock())
REGISTERS = WeakKeyDictionary, WeakSet
LOOK_STEPS = 150       # the books are compared with the jobs that often


class Result:
    """What became of a seed."""

    def __init__(self, play, seconds):
        world, oracle = play.world, play.oracle
        self.seed, self.steps, self.seconds = world.seed, world.steps, seconds
        self.simulated = world.now
        self.violations = list(world.violations)
        self.trace = world.trace
        self.faults = dict(play.faults.counts)
        self.kills = play.kills
        self.jobs, self.commits = len(oracle.jobs), oracle.commits
        self.completed = sum(job.completions for job in oracle.jobs.values())
        self.acknowledged = len(play.acknowledged)
        self.recovered = sum(
            id in oracle.jobs for id in play.attempted - play.acknowledged)
        self.repeated = sum(
            count - 1 for count in play.tasks.outside.values() if count > 1)


class System:
    """What the code asks its operating system about processes, in this world."""

    def __init__(self, world):
        self.world = world

    @property
    def process(self):
        return self.world.inside

    def here(self):
        host = self.process.host
        return presence.Process(host.name, host.name, host.name, "", self.process.pid,
                                str(self.process.pid))

    def mark_of(self, name):
        return None

    def proven(self, process, mark):
        """Of a process on the same host the system knows; of others nobody."""
        if process.host != self.process.host.name:
            return None
        for each in self.world.processes:
            if str(each.pid) == process.started:
                return not self.world.misjudged(each)
        return False


class Play:

    def __init__(self, seed, tracing=False):
        self.world = World(seed, tracing=tracing)
        self.faults = Faults(seed)
        self.tasks = Tasks(self.world)
        self.oracle = Oracle(self.world)
        self.tasks.oracle = self.oracle
        for name in ("effective", "summed", "raising", "at_a_rate"):
            setattr(self.oracle, name, getattr(Tasks, name))
        self.oracle.may_be_taken_for_dead = self.may_be_taken_for_dead
        self.attempted, self.acknowledged = set(), set()
        self.conflicts = self.kills = 0
        self.random = self.world.random
        self.poisons = int(self.random.random() < 0.15)
        # Some seeds have workers that take jobs of some tasks only.
        self.choosy = self.random.choice((None, None, None, "plain,slow,capped,once"))
        self.crons = int(self.random.random() < 0.4)
        self.hosts = [Host("alpha", "boot 1"), Host("beta", "boot 2")]
        if self.random.random() < 0.6:
            self.hosts = self.hosts[:1]
        # How many waiting lines are dealt with at a time: few, to see each forgotten one.
        self.few = self.random.choice(((1, 0), (2, 1), (clerk.PARKED, clerk.OPENED)))
        self.skews = [0.0]
        self.world.misjudged = self._misjudged
        self.workers = []
        self.users, self.acting = 0, set()
        self.ending = False

    # -- the stage

    @contextlib.contextmanager
    def stage(self):
        world = self.world
        fresh = {
            (presence, "living"): lambda process: set(),
            (rescue, "living"): lambda process: process.memory[presence, "living"],
            (rescue, "BY_HAND"): lambda process: "by-hand-" + process.name,
            (processor, "_threads"): lambda process: {},
            (processor, "_ending"): lambda process: [],
            (settings, "_process"): lambda process: settings.Settings(),
        }
        stand_in = Threading(world)
        for module in ours():
            for name, value in vars(module).items():
                if value is solo.SOLO:
                    fresh[module, name] = lambda process: process.solo
                elif isinstance(value, LOCKS):
                    fresh[module, name] = lambda process: stand_in.Lock()
                elif isinstance(value, REGISTERS):
                    # What the killed leave in them would never be let go of.
                    fresh[module, name] = _maker(type(value))
        world.globals, world.fresh = list(fresh), fresh
        system = System(world)
        with self._replaced(
                *((presence, name, getattr(system, name))
                  for name in ("here", "mark_of", "proven")),
                (clerk, "PARKED", self.few[0]), (clerk, "OPENED", self.few[1]),
        ), installed(world):
            setUp()
            try:
                yield
            finally:
                tearDown()

    @contextlib.contextmanager
    def _replaced(self, *names):
        before = [(module, name, getattr(module, name)) for module, name, _ in names]
        for module, name, value in names:
            setattr(module, name, value)
        try:
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)

    def _misjudged(self, process):
        """Whether somebody takes a frozen process for dead."""
        return self.world.frozen(process) and self.faults.happens("misjudge")

    def may_be_taken_for_dead(self, name):
        return not any(worker.blameless and worker.processor.dispatcher.name == name
                       for worker in self.workers)

    def build(self):
        self.tasks.register()
        self.server = Server()
        self.server.registerDB(_Plain())
        self.observer = self.world.process("observer", self.hosts[0])
        self.observer.db = Database(self.server, self.observer, self.faults)
        manager = transaction.TransactionManager()
        connection = self.observer.db.open(manager)
        manager.begin()
        root = connection.root()
        service = root["tasks"] = TaskService()
        root["effects"] = OOBTree()
        root["shared"] = Total("shared")
        service.configure(
            crash_limit=CRASH_LIMIT, missed_bound=5, grace_seconds=2,
            retain_completed=1, retain_interval=self.random.choice((5, 60)),
            prefetch=self.random.choice((1, 5, 50)))
        manager.commit()
        self.connection, self.manager = connection, manager
        self.server.witness = self.oracle.witness
        for number in range(WORKERS):
            self.start_worker(number)
        web = self.world.process("web", self.hosts[0])
        web.db = Database(self.server, web, self.faults)
        self.add_users(web, 2)

    def next_key(self):
        self.keys += 1
        return self.keys

    keys = 0

    def add_users(self, process, number):
        for _ in range(number):
            self.users += 1
            user = User(self, process, self.random.randint(5, 12))
            process.spawn(user, f"user {self.users}")
            self.acting.add(user)
            process.on_death.append(lambda process, user=user: self.acting.discard(user))

    def start_worker(self, number):
        if not self.restarting:
            return
        host = self.hosts[number % len(self.hosts)]
        process = self.world.process(f"worker {number}", host)
        process.number = number
        process.on_death.append(self.bury)
        process.db = Database(self.server, process, self.faults)
        process.processor = MultiProcessor(
            process.db, PATH, waitTime=1.0, maxThreads=self.random.randint(1, 3),
            tasks=self.choosy if number else None)
        process.spawn(lambda: self.serve(process), "dispatcher")
        self.workers.append(process)
        if not self.ending and self.random.random() < 0.5:
            self.add_users(process, 1)

    def serve(self, process):
        """What a worker process does: its processor, then it exits."""
        process.processor()
        if process.alive:
            self.world.kill(process, "its end")

    def bury(self, process):
        self.workers.remove(process)
        self.kills += not self.ending
        if self.restarting:
            self.world.at(self.faults.seconds(0.5),
                          lambda: self.start_worker(process.number))

    restarting = True

    # -- the play

    def run(self):
        world = self.world
        world.before_step = self.misfortune
        try:
            self.faults.on = True
            world.run(self.everybody_has_acted, STEPS, SECONDS)
            self.faults.on = False
            self.come_to_an_end()
        except Stuck as stuck:
            self.tell_stuck(stuck)

    def everybody_has_acted(self):
        return not self.acting

    def misfortune(self):
        """Before each step something may befall a process."""
        world, faults = self.world, self.faults
        if world.steps % LOOK_STEPS == LOOK_STEPS - 1:
            self.look_at_books()
        if not faults.on or not self.workers:
            return
        if faults.happens("kill"):
            world.kill(faults.random.choice(self.workers), "kill -9")
        elif faults.happens("pause"):
            world.pause(faults.random.choice(self.workers),
                        faults.seconds(faults.random.choice((0.1, 1, 20))))
        elif faults.happens("stop"):
            self.stop(faults.random.choice(self.workers))
        elif faults.happens("jump"):
            host = faults.random.choice(self.hosts)
            host.skew = faults.jump()
            self.skews.append(host.skew)
            world.tell("jump", host.name, host.skew)

    def stop(self, process):
        """As after SIGTERM."""
        if self.world.frozen(process):
            return
        self.world.tell("stop", process.name)
        grace = self.faults.random.choice((0, 0, 0, 0.2, 2))
        process.spawn(lambda: process.processor.stop(grace), "signal")

    def look_at_books(self):
        self.manager.begin()
        try:
            self.look(self.connection.root()["tasks"])
        finally:
            self.manager.abort()

    def look(self, service):
        """The books agree with the jobs, whoever looks, at any time."""
        for fault in service.check():
            self.world.violation(f"the books: {fault}")
        holds = [(id, token) for lease in service.leases.values()
                 for id, (token, _) in lease.held.items()]
        if len(holds) != len(set(holds)):
            self.world.violation(f"two hold the same job: {sorted(holds)}")
        counts = service.counts()
        found = dict.fromkeys(lifecycle.STATUSES, 0)
        for job in service.jobs.values():
            found[job.status] += 1
        if counts != found:
            self.world.violation(f"counts say {counts}, there are {found}")
        self.look_at_limits(service)

    def look_at_limits(self, service):
        """Where a limit has room for the next that waits, someone may find one that does."""
        taking_part = audit.limits_taking_part(service)
        for name in service.caps.names_waited_for():
            *_, shard, line = next(service.caps.waiting(name))
            width = next(each.width for each in service.limitsOf(line)
                         if each.name == name)
            if line in service.shards[shard].queue.parked and name not in taking_part \
                    and sum(service.caps.taken(name).values()) < width:
                self.world.violation(f"limit {name} has room, and lines wait for it")

    # -- the end

    def come_to_an_end(self):
        """No faults any more: then all that was acknowledged comes to its end."""
        world = self.world
        self.ending = True
        for process in world.processes:
            process.paused_until = process.cut_until = None
        latest = max(self.skews)  # what was to be done by a wrong clock is done too
        for host in self.hosts:
            host.skew = latest
        end = Ending(self)
        self.workers_or_new()
        process = world.process("operator", self.hosts[0])
        process.db = Database(self.server, process, self.faults)
        process.spawn(lambda: end(process), "operator")
        world.run(lambda: end.over, STEPS, SECONDS)
        if not world.violations:
            self.judge()

    def workers_or_new(self):
        self.world.at(0, lambda: None)

    def tell_stuck(self, stuck):
        left = [repr(job) for job in self.oracle.jobs.values()
                if not job.removed and job.status not in RESTING]
        self.world.violation(f"stuck: {stuck}; waiting: {left}")

    def judge(self):
        """All is quiet: nothing is lost, and nothing ended otherwise than it should."""
        world, oracle = self.world, self.oracle
        self.observer.db.storage.lag_until = 0.0
        self.manager.begin()
        service = self.connection.root()["tasks"]
        self.look(service)
        stored = set(service.jobs)
        for id in sorted(self.acknowledged):
            if id not in oracle.jobs:
                world.violation(f"job {id} was acknowledged and never stored")
        for id, job in sorted(oracle.jobs.items()):
            if (id in stored) == job.removed:
                world.violation(f"{job!r} is {'still' if job.removed else 'not'} stored")
            if not job.removed and job.status not in RESTING:
                world.violation(f"{job!r} has not come to its end")
            self.judge_end(job)
        self.judge_keys()
        self.judge_rate()
        for worker in service.workers():
            if worker["holds"]:
                world.violation(f"{worker['name']} holds {worker['holds']} at the end")
        effects = self.connection.root()["effects"]
        for id, effect in effects.items():
            if oracle.jobs[id].completions != effect.count:
                world.violation(f"{oracle.jobs[id]!r} has {effect.count} effects")
        self.manager.abort()

    def judge_keys(self):
        """What was asked for with one key, however often, was made once."""
        if max(map(abs, self.skews)) == 0:  # a key is forgotten after a day
            inputs = [job.input for job in self.oracle.jobs.values()
                      if isinstance(job.input, str)]
            if len(inputs) != len(set(inputs)):
                self.world.violation(f"made twice under a key: {sorted(inputs)}")

    def judge_rate(self):
        """No more jobs of a limited rate were claimed in any period."""
        if max(map(abs, self.skews)) == 0:  # the rate is kept by the clock on the wall
            number, seconds = RATE
            moments = sorted(self.oracle.claimed.values())
            for first, last in zip(moments, moments[number:]):
                if last - first < seconds * 1_000_000:
                    self.world.violation(
                        f"{number + 1} jobs begun in {(last - first) / 1e6:.3f} s")

    def judge_end(self, job):
        """Why it ended in error must be its task's fault, or a process's."""
        if job.status != lifecycle.ERROR:
            return
        allowed = {"bad": {None}, "final": {None}, "once": {"interrupted", None},
                   "hurried": {"timed out"}, "shared": {None}, "poison": set()}
        reasons = allowed.get(job.task, set()) | {"crashed"}
        if job.reason not in reasons:
            self.world.violation(f"{job!r} ended in error, reason {job.reason}")
        if job.reason == "crashed" and job.crashes < CRASH_LIMIT:
            self.world.violation(f"{job!r} is set aside after {job.crashes} crashes")


class Ending:
    """The operator: cancels what would go on for ever, waits, and stops the workers."""

    over = False

    def __init__(self, play):
        self.play = play

    def __call__(self, process):
        world = self.play.world
        manager = transaction.TransactionManager()
        connection = process.db.open(manager)
        while True:
            manager.begin()
            service = connection.root()["tasks"]
            try:
                for wish in service.wishes():
                    take_back(service, wish)
                for job in list(service.jobs.values()):
                    if isinstance(job, CronJob) and job.recordedStatus not in FINISHED:
                        service.cancel(job.id)
                manager.commit()
                break
            except transaction.interfaces.TransientError:
                manager.abort()
        while True:
            manager.begin()
            service = connection.root()["tasks"]
            open_ = [job for job in self.play.oracle.jobs.values()
                     if not job.removed and job.status not in RESTING]
            held = [worker for worker in service.workers() if worker["holds"]]
            manager.abort()
            if not open_ and not held:
                break
            world.sleep(0.5)
        self.play.restarting = False
        for worker in list(self.play.workers):
            worker.spawn(lambda worker=worker: worker.processor.stop(5), "signal")
        while self.play.workers:
            world.sleep(0.1)
        self.over = True


def _maker(kind):
    return lambda process: kind()


def take_back(service, wish):
    if wish["what"] == "threads":
        service.wishThreads(None, wish["worker"])
    elif wish["what"] == "stop":
        service.wishStart(wish["worker"])
    else:
        service.resumeProcessing()


class _Plain:
    """Records are stored as they are."""

    def transform_record_data(self, data):
        return data

    untransform_record_data = transform_record_data


def run(seed, tracing=False):
    """Play one seed; its Result."""
    began = time.process_time()
    play = Play(seed, tracing)
    with play.stage():
        play.build()
        play.run()
    if seed % TIDY == 0:
        gc.collect()
    return Result(play, time.process_time() - began)
