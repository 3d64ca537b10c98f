"""Cron jobs through the changes of twenty zones, fired by four schedulers at once.

The judges are those of test_schedule.py: they look at the wall minute by minute.
What a policy makes of the instants that nobody was there to fire is said again here,
by sorting them.
"""
import random
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import ZODB
from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.MappingStorage import MappingStorage
from zope.component import provideUtility
from zope.component.testing import setUp, tearDown

from lovely.remotetask import clock
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.missed import MISSED
from lovely.remotetask.schedule import CronText, Schedule
from lovely.remotetask.service import TaskService
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.testing import SimulatedClock
from lovely.remotetask.tests.test_schedule import (
    CHANGES, CHANGING, STEADY, Changes, Fields, fields_of, walk)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BEFORE, AFTER = 5 * HOUR, 27 * HOUR
SCHEDULERS = 4
GRACE = 1800       # seconds that an instant may be late and is not yet missed
BOUND = 100        # most instants that fire after one downtime


def echo(input):
    return input


# -- four schedulers


class Scheduler:
    """A process that looks what is due, on a connection of its own."""

    def __init__(self, db, name):
        self.manager = TransactionManager()
        self.connection = db.open(self.manager)
        self.name = name

    @property
    def service(self):
        return self.connection.root()["tasks"]

    def begin(self):
        self.manager.begin()

    def look(self):
        self.service.dispatch(self.name)

    def end(self):
        """Commit; whether nobody else was faster."""
        try:
            self.manager.commit()
            return True
        except TransientError:
            self.manager.abort()
            return False


class Season:
    """The days around one change of a zone's clocks, with downtimes."""

    def __init__(self, seed, zone, change, rules=3):
        self.random = random.Random(seed)
        self.zone, self.change = zone, change
        texts = self.random.sample(sorted(Changes.RULES), rules)
        self.since, self.until = change - BEFORE, change + AFTER
        self.wanted = {text: self._instants(text) for text in texts}
        self.fired = Counter()      # (cron job, instant) -> runs that were made
        self.expected = Counter()
        self.crons = {}             # number -> (text, policy)
        self.looks = self.conflicts = self.downtimes = self.missed = 0

    def _instants(self, text):
        minutes, hours = Changes.RULES[text]
        starred = any(each.startswith("*") for each in text.split()[:2])
        fields = Fields(set(minutes), set(hours), range(1, 32), range(1, 13), range(7),
                        wildcard=starred)
        return list(walk(fields, self.since, self.until, ZoneInfo(self.zone)))

    def run(self):
        """Live through it; the texts of what is wrong."""
        setUp()
        before = clock.current
        clock.current = self.clock = SimulatedClock(self.since.timestamp())
        db = ZODB.DB(MappingStorage())
        try:
            provideUtility(SimpleTask(echo), ITask, name="echo")
            self.schedulers = [Scheduler(db, f"scheduler {number}")
                               for number in range(SCHEDULERS)]
            self._plan(self.schedulers[0])
            self._live()
            return self._judge(self.schedulers[0])
        finally:
            for each in getattr(self, "schedulers", ()):
                each.manager.abort()
                each.connection.close()
            db.close()
            clock.current = before
            tearDown()

    def _plan(self, first):
        first.begin()
        service = first.connection.root()["tasks"] = TaskService()
        service.configure(missed_grace=GRACE, missed_bound=BOUND, retain_completed=0)
        for text in self.wanted:
            for missed in MISSED:
                id = service.addCronJob("echo", schedule=text, timezone=self.zone,
                                        missed=missed, overlap="allow")
                self.crons[id] = text, missed
        first.manager.commit()
        first.begin()
        first.look()
        first.manager.commit()
        self.last = self.since

    def _live(self):
        now = self.since
        while now < self.until - timedelta(hours=10):
            if self.random.random() < 0.03:
                now += timedelta(minutes=self.random.randint(40, 540))
                self.downtimes += 1
            else:
                now += timedelta(seconds=self.random.randint(20, GRACE - 60))
            self.clock.set(now)
            self._look(now)

    def _look(self, now):
        """Some look at the same time: the first to commit fires."""
        there = self.random.sample(self.schedulers, self.random.randint(1, SCHEDULERS))
        for each in there:
            each.begin()
        for each in there:
            each.look()
        self.random.shuffle(there)
        done = [each.end() for each in there]
        self.looks += len(there)
        self.conflicts += done.count(False)
        if any(done):
            self._expect(now)
            self._gather(there[done.index(True)])

    def _expect(self, now):
        """What the policies say of the instants since the last look, by sorting."""
        for id, (text, missed) in self.crons.items():
            instants = [each for each in self.wanted[text] if self.last < each <= now]
            on_time = [each for each in instants
                       if each >= now - timedelta(seconds=GRACE)]
            late = instants[:len(instants) - len(on_time)]
            self.missed += len(late)
            if missed == "all":
                on_time = instants[-BOUND:]
            elif missed == "once" and late and not on_time:
                on_time = late[-1:]
            self.expected.update((id, each) for each in on_time)
        self.last = now

    def _gather(self, someone):
        """Keep the runs before they are too many to be remembered."""
        someone.begin()
        for id in self.crons:
            for run in someone.service.getJob(id).runs:
                self.fired[id, run.instant] = max(1, self.fired[id, run.instant])
        someone.manager.abort()

    def _judge(self, someone):
        someone.begin()
        service = someone.service
        faults = list(service.check())
        made = sum(job.isRun for job in service.jobs.values())
        someone.manager.abort()
        for id, instant in sorted((self.expected - self.fired).items()):
            faults.append(f"{self.crons[id]} misses {instant.isoformat()}")
        for id, instant in sorted((self.fired - self.expected).items()):
            faults.append(f"{self.crons[id]} fires for {instant.isoformat()} in vain")
        if made != len(self.fired):
            faults.append(f"{made} runs were made for {len(self.fired)} instants")
        return [f"{self.zone} at {self.change.isoformat()}: {each}" for each in faults]


def seasons(number=None, seed=0):
    """Seasons for so many changes (all of them without a number), spread evenly."""
    chosen = CHANGES if number is None else CHANGES[::max(1, len(CHANGES) // number)]
    return [Season(f"{seed} {zone} {change}", zone, change)
            for zone, change in chosen[:number]]


# -- next runs


def _field(chance, low, high, star):
    """Cron text of one field, and the values that it means."""
    if chance.random() < star:
        step = chance.choice((1, 1, 1, 2, 5))
        return (f"*/{step}" if step > 1 else "*"), set(range(low, high + 1, step))
    words, meant = [], set()
    for _ in range(chance.randint(1, 3)):
        first = chance.randint(low, high)
        last = chance.randint(first, high)
        if chance.random() < 0.5:
            last = first
        step = chance.choice((1, 1, 2, 3)) if last > first else 1
        words.append(f"{first}" if first == last else
                     f"{first}-{last}" + (f"/{step}" if step > 1 else ""))
        meant |= set(range(first, last + 1, step))
    return ",".join(words), meant


def random_text(chance, zone):
    """A CronText of that zone, and its meaning."""
    minute, hour = _field(chance, 0, 59, 0.3), _field(chance, 0, 23, 0.4)
    day, month = _field(chance, 1, 31, 0.8), _field(chance, 1, 12, 0.9)
    weekday = _field(chance, 0, 6, 0.7)
    text = " ".join(each[0] for each in (minute, hour, day, month, weekday))
    either = not (day[0].startswith("*") or weekday[0].startswith("*"))
    meant = Fields(minute[1], hour[1], day[1], month[1],
                   {(each - 1) % 7 for each in weekday[1]}, either=either,
                   wildcard=minute[0].startswith("*") or hour[0].startswith("*"))
    return CronText(text, zone), meant


def random_fields(chance, zone):
    """A Schedule of that zone, and its meaning."""
    def some(low, high, share):
        if chance.random() >= share:
            return ()
        return tuple(sorted({chance.randint(low, high)
                             for _ in range(chance.randint(1, 3))}))

    given = dict(minute=some(0, 59, 0.6), hour=some(0, 23, 0.6),
                 dayOfMonth=some(1, 28, 0.15), month=some(1, 12, 0.1),
                 dayOfWeek=some(0, 6, 0.2))
    return Schedule(**given, timezone=zone), fields_of(given)


WINDOW = 2 * DAY
QUESTIONS = 200    # asked of each rule


def check_next(seed, number, tell=lambda done: None):
    """Ask *number* random questions for the next run; the texts of wrong answers.

    Half of the rules are asked around a change of their zone's clocks.
    """
    chance, wrong, asked = random.Random(seed), [], 0
    while asked < number:
        zone, change = chance.choice(CHANGES)
        since = change - DAY
        if chance.random() < 0.5:
            zone = chance.choice(CHANGING + STEADY)
            since = datetime(1980, 1, 1, tzinfo=UTC) + timedelta(
                minutes=chance.randrange(100 * 365 * 24 * 60))
        try:
            rule, meant = chance.choice((random_text, random_fields))(chance, zone)
        except ValueError:
            continue  # names no day at all, and is refused
        until = since + WINDOW
        for _ in range(3):  # what the wall showed in a window serves some rules
            instants = list(walk(meant, since, until, ZoneInfo(zone)))
            for _ in range(QUESTIONS // 3 + 1):
                moment = since + timedelta(
                    seconds=chance.randrange(int(WINDOW.total_seconds())))
                place = bisect_right(instants, moment)
                found = rule.next_after(moment)
                if place == len(instants):
                    right = found is None or found > until
                else:
                    right = found == instants[place]
                if not right:
                    wrong.append(f"{rule!r} after {moment.isoformat()}: {found}")
                asked += 1
            try:
                rule, meant = chance.choice((random_text, random_fields))(chance, zone)
            except ValueError:
                break
        tell(asked)
    return wrong, asked
