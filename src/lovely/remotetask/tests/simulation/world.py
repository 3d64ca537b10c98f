"""A scheduler, a clock, and what stands in for threading and time.

Each thread of the real code is a greenlet here, called an actor.  Exactly one runs
at a time, until it comes to a yield point: begin and commit of a transaction, a
lock, a wait.  There the hub picks who goes on, by the seed.  A process is a group of
actors with a database of its own; it can be killed, frozen and started anew.

Nothing waits for real: when nobody can go on, the simulated time jumps to where
somebody can.
"""
import contextlib
import functools
import gc
import heapq
import logging
import random
import sys
import threading
import time
import uuid

from greenlet import getcurrent, greenlet
from transaction import TransactionManager

from lovely.remotetask import clock
from lovely.remotetask.runtime import solo

PREFIX = "lovely.remotetask"
STEP_SECONDS = 0.001    # simulated time that passes per step, on average
LOCK_YIELDS = 0.1       # share of the locks at which somebody else may go first
DAY = 86_400.0


class Killed(BaseException):
    """The process of this actor is dead: whatever it still calls raises this."""


class Stuck(Exception):
    """Nobody can go on, or not within the bounds."""


class Actor:
    """A thread of a process."""

    def __init__(self, world, process, target, name):
        self.world, self.process, self.name = world, process, name
        self.number = world.next_number()
        self.greenlet = greenlet(self._run, world.hub)
        self.target = target
        self.parked = 0        # counts its waits: a late alarm wakes nobody else
        self.waiting = False
        self.ended = False
        self.error = None
        self.manager = TransactionManager()

    def _run(self):
        try:
            self.target()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
            self.world.violation(f"{self.name} of {self.process.name} ended with "
                                 f"{type(error).__name__}: {error}", error)
        finally:
            self.ended = True

    def __repr__(self):
        return f"{self.process.name}/{self.name}"


class Process:
    """A group of actors with a memory of its own, on a host."""

    def __init__(self, world, name, host):
        self.world, self.name, self.host = world, name, host
        self.pid = world.next_number() + 1000
        self.alive = True
        self.paused_until = None
        self.cut_until = None     # it does not reach the storage until then
        self.offset = world.random.uniform(0, 1e6)  # of its monotonic clock
        self.blameless = True     # nobody had a reason to take it for dead
        self.actors = []
        self.memory = {}          # (module, name) -> value of a global, while it is out
        self.on_death = []

    @functools.cached_property
    def solo(self):
        return solo.Solo()

    def spawn(self, target, name):
        actor = Actor(self.world, self, target, name)
        self.actors.append(actor)
        self.world.ready.append(actor)
        return actor

    @property
    def running(self):
        return [actor for actor in self.actors if not actor.ended]


class Host:
    """A machine with a wall clock that may be wrong."""

    def __init__(self, name, boot):
        self.name, self.boot = name, boot
        self.skew = 0.0


class World:
    """All that there is, from one seed."""

    def __init__(self, seed, start=1_800_000_000.0, tracing=False):
        self.seed = seed
        self.random = random.Random(seed)
        self.chance = random.Random(seed ^ 0x5EED)  # what the code itself draws
        self.start = start
        self.now = 0.0
        self.steps = 0
        self.hub = getcurrent()
        self.current = None
        self.inside = None        # the process whose globals are in place
        self.ready = []
        self.alarms = []
        self.processes = []
        self.violations = []
        self.trace = [] if tracing else None
        self._number = 0
        self.before_step = lambda: None

    def next_number(self):
        self._number += 1
        return self._number

    # -- telling

    def tell(self, what, *facts):
        if self.trace is not None:
            who = repr(self.current) if self.current is not None else "-"
            self.trace.append(
                f"{self.steps:5} {self.now:9.3f} {who:24} {what} "
                + " ".join(map(str, facts)))

    def violation(self, text, error=None):
        self.tell("VIOLATION", text)
        self.violations.append(text)
        if error is not None and self.trace is not None:
            import traceback
            self.trace.extend(traceback.format_exception(error))

    # -- processes

    def process(self, name, host):
        made = Process(self, name, host)
        self.processes.append(made)
        return made

    def kill(self, process, why):
        """End a process as kill -9 does: what it had in memory is gone."""
        if not process.alive:
            return
        self.tell("kill", process.name, why)
        process.alive = False
        self.processes.remove(process)
        for actor in process.actors:
            if actor is self.current:
                continue  # it unwinds by itself
            self._unwind(actor)
        for call in process.on_death:
            call(process)

    def _unwind(self, actor):
        """Have a dead actor leave its stack; nothing that it calls has an effect."""
        before = self.current
        for _ in range(20):
            if actor.ended or actor.greenlet.dead:
                break
            if not actor.greenlet:
                actor.ended = True  # it has never begun
                break
            self.current = actor
            self.enter(actor.process)
            # Whatever it does with that comes back to the hub, or to us.
            actor.greenlet.parent = getcurrent()
            actor.greenlet.throw(Killed)
        actor.ended = True
        self.current = before
        if before is not None:
            self.enter(before.process)

    def enter(self, process):
        """Put the globals of a process in their places."""
        if process is self.inside:
            return
        if self.inside is not None:
            for module, name in self.globals:
                self.inside.memory[module, name] = getattr(module, name)
        for module, name in self.globals:
            if (module, name) not in process.memory:
                process.memory[module, name] = self.fresh[module, name](process)
            setattr(module, name, process.memory[module, name])
        self.inside = process

    globals = ()   # (module, name) of what each process has for itself
    fresh = {}     # the same -> what makes its first value, from the process

    # -- the hub

    def run(self, until, steps, seconds):
        """Let the actors go on until *until* answers true.

        Raises Stuck after so many steps or simulated seconds.
        """
        last = self.now + seconds
        limit = self.steps + steps
        while not self.violations:
            if until():
                return
            self.before_step()
            actor = self._next()
            if actor is None:
                raise Stuck("nobody has anything to wait for")
            if self.now > last or self.steps > limit:
                raise Stuck(f"{self.steps} steps, {self.now:.0f} s, and not at the end")
            self.go(actor)

    def go(self, actor):
        self.steps += 1
        self.now += self.random.expovariate(1 / STEP_SECONDS)
        self.current = actor
        self.enter(actor.process)
        actor.greenlet.parent = self.hub
        actor.greenlet.switch()
        self.current = None
        if actor.ended and not actor.process.alive:
            actor.process.actors.clear()

    def _next(self):
        while True:
            while self.alarms and self.alarms[0][0] <= self.now:
                self._ring()
            able = [number for number, actor in enumerate(self.ready)
                    if actor.process.alive and (
                        actor.process.paused_until is None
                        or self.now >= actor.process.paused_until)]
            if able:
                return self.ready.pop(self.random.choice(able))
            self.ready = [actor for actor in self.ready if actor.process.alive]
            if not self.alarms:
                return None
            self.now = max(self.now, self.alarms[0][0])

    def _ring(self):
        _, _, call = heapq.heappop(self.alarms)
        call()

    def frozen(self, process):
        return process.paused_until is not None and self.now < process.paused_until

    def at(self, seconds, call):
        """Have *call* called in so many seconds, by the hub."""
        heapq.heappush(self.alarms, (self.now + seconds, self.next_number(), call))

    def pause(self, process, seconds):
        """Freeze a process, as SIGSTOP does."""
        self.tell("pause", process.name, f"{seconds:.2f} s")
        process.blameless = False
        process.paused_until = self.now + seconds
        self.at(seconds, lambda: None)

    def at_once(self, call, *args):
        """Call it; nobody else goes on meanwhile, and no lock is waited for."""
        before, self.current = self.current, None
        try:
            return call(*args)
        finally:
            self.current = before

    # -- what actors call

    def check_alive(self):
        if self.current is not None and not self.current.process.alive:
            raise Killed

    def yield_(self, what=""):
        """Somebody else may go first."""
        actor = self.current
        if actor is None:
            return
        self.check_alive()
        if what:
            self.tell(what)
        self.ready.append(actor)
        self._switch()

    def park(self, seconds=None):
        """Wait to be woken, at most so many seconds."""
        actor = self.current
        if actor is None:
            raise AssertionError("only an actor can wait")
        self.check_alive()
        actor.parked += 1
        actor.waiting = True
        if seconds is not None:
            number = actor.parked
            self.at(max(0.0, seconds), lambda: self.wake(actor, number))
        self._switch()

    def wake(self, actor, number=None):
        if actor.waiting and number in (None, actor.parked) and not actor.ended:
            actor.waiting = False
            self.ready.append(actor)

    def _switch(self):
        actor = self.current
        actor.greenlet.parent.switch()
        if not actor.process.alive:
            raise Killed

    def sleep(self, seconds):
        self.park(seconds)

    def monotonic(self):
        return self.now + (self.inside.offset if self.inside else 0.0)

    def wall(self):
        skew = self.inside.host.skew if self.inside else 0.0
        return self.start + self.now + skew

    def micros(self):
        return int(self.wall() * 1_000_000)


# -- what stands in for threading and time


class Threading:
    """The parts of `threading` that the code uses, for actors."""

    def __init__(self, world):
        self.world = world

        class Bound:
            """Made by the code without knowing the world."""

        def bind(kind):
            return type(kind.__name__, (kind,), {"world": world})

        self.Event, self.Lock, self.RLock = bind(Event), bind(Lock), bind(Lock)
        self.Condition, self.Thread = bind(Condition), bind(Thread)

    def current_thread(self):
        return self.world.current or threading.current_thread()

    def get_ident(self):
        return self.world.current.number if self.world.current else 0

    def __getattr__(self, name):
        return getattr(threading, name)


class Lock:
    """A lock that its owner may take again."""

    world: World

    def __init__(self):
        self._owner, self._depth, self._queue = None, 0, []

    def acquire(self, blocking=True, timeout=-1):
        world, me = self.world, self.world.current
        if me is None:
            return True
        world.check_alive()
        if self._owner is not me and world.random.random() < LOCK_YIELDS:
            world.yield_()
        while self._owner not in (None, me) and self._owner.process.alive \
                and not self._owner.ended:
            if not blocking:
                return False
            self._queue.append(me)
            world.park()
        self._owner = me
        self._depth += 1
        return True

    def release(self):
        if self.world.current is None:
            return
        self._depth -= 1
        if self._depth == 0:
            self._free()

    def _free(self):
        self._owner = None
        if self._queue:
            self.world.wake(self._queue.pop(0))

    __enter__ = acquire

    def __exit__(self, *error):
        self.release()

    def locked(self):
        return self._depth > 0


class Condition(Lock):

    def __init__(self, lock=None):
        super().__init__()
        self._waiters = []

    def wait(self, timeout=None):
        """False when the time is over."""
        world, me = self.world, self.world.current
        depth, self._depth = self._depth, 0
        self._waiters.append(me)
        self._free()
        world.park(timeout)
        told = me not in self._waiters
        if not told:
            self._waiters.remove(me)
        self.acquire()
        self._depth = depth
        return told

    def wait_for(self, predicate, timeout=None):
        world = self.world
        end = None if timeout is None else world.now + timeout
        while not (found := predicate()):
            left = None if end is None else end - world.now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    def notify(self, n=1):
        for actor in self._waiters[:n]:
            self.world.wake(actor)
        del self._waiters[:n]

    def notify_all(self):
        self.notify(len(self._waiters))


class Event:

    world: World

    def __init__(self):
        self._set, self._waiters = False, []

    def is_set(self):
        return self._set

    def set(self):
        self._set = True
        for actor in self._waiters:
            self.world.wake(actor)
        self._waiters.clear()

    def clear(self):
        self._set = False

    def wait(self, timeout=None):
        world = self.world
        if not self._set:
            me = world.current
            self._waiters.append(me)
            world.park(timeout)
            if me in self._waiters:
                self._waiters.remove(me)
        else:
            world.check_alive()
        return self._set


class Thread:

    world: World

    def __init__(self, group=None, target=None, name="", args=(), kwargs=None,
                 daemon=None):
        self.name, self.daemon = name, daemon
        self._call = lambda: target(*args, **(kwargs or {}))
        self._actor = None

    def start(self):
        self._actor = self.world.current.process.spawn(
            self._call, self.name.rpartition(".")[2] or "thread")

    def is_alive(self):
        return self._actor is not None and not self._actor.ended

    @property
    def ident(self):
        return None if self._actor is None else self._actor.number

    def join(self, timeout=None):
        end = None if timeout is None else self.world.now + timeout
        while self.is_alive() and (end is None or self.world.now < end):
            self.world.sleep(0.05)


class Time:
    """The parts of `time` that the code uses."""

    def __init__(self, world):
        self.world = world
        self.monotonic = self.perf_counter = world.monotonic
        self.time, self.sleep = world.wall, world.sleep

    def time_ns(self):
        return int(self.world.wall() * 1_000_000_000)

    def monotonic_ns(self):
        return int(self.world.monotonic() * 1_000_000_000)

    def __getattr__(self, name):
        return getattr(time, name)


class Uuid:

    def __init__(self, world):
        self.world = world

    def uuid4(self):
        return uuid.UUID(int=self.world.chance.getrandbits(128), version=4)

    def __getattr__(self, name):
        return getattr(uuid, name)


class WallClock:
    """See lovely.remotetask.clock.Clock."""

    def __init__(self, world):
        self.micros = world.micros


def ours():
    """The modules under test."""
    return [module for name, module in sorted(sys.modules.items())
            if name.startswith(PREFIX) and ".tests" not in name
            and module is not None]


@contextlib.contextmanager
def installed(world):
    """The code under test meets this world wherever it asks for time or threads."""
    stand_ins = {
        id(threading): Threading(world), id(time): Time(world), id(uuid): Uuid(world),
        id(random): world.chance, id(time.monotonic): world.monotonic,
    }
    changed = []

    def put(place, name, value):
        changed.append((place, name, getattr(place, name)))
        setattr(place, name, value)

    for module in ours():
        for name, value in list(vars(module).items()):
            if id(value) in stand_ins:
                put(module, name, stand_ins[id(value)])
    put(clock, "current", WallClock(world))
    begin, commit = TransactionManager.begin, TransactionManager.commit

    def begin_later(self):
        world.yield_("begin")
        return begin(self)

    def commit_later(self):
        world.yield_("commit")
        commit(self)
        world.yield_()

    put(TransactionManager, "begin", begin_later)
    put(TransactionManager, "commit", commit_later)
    collecting, level = gc.isenabled(), logging.root.manager.disable
    limit = getattr(sys, "tracebacklimit", None)
    gc.disable()
    logging.disable(logging.CRITICAL)
    if world.trace is None:
        sys.tracebacklimit = 0  # a third of the time went into lines of source
    kept = [(module, name, getattr(module, name)) for module, name in world.globals]
    try:
        yield world
    finally:
        for process in list(world.processes):
            world.kill(process, "the end")
        for module, name, value in kept:
            setattr(module, name, value)
        for place, name, value in reversed(changed):
            setattr(place, name, value)
        logging.disable(level)
        if world.trace is None:
            if limit is None:
                del sys.tracebacklimit
            else:
                sys.tracebacklimit = limit
        if collecting:
            gc.enable()
