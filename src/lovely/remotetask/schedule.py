"""When a job is due: values to compute with, free of clock and ZODB.

    Recurrence         what everybody asks: next_after, next_times, describe
     ├─ Interval       every so many seconds
     └─ WallClock      what the clock on the wall shows, in a time zone
         ├─ Schedule   lists of minutes, hours and days
         └─ CronText   the same as cron text

    Foreign            an ISchedule of somebody else, whose answers are looked at

``parse`` reads any of them from text.  Daylight saving is said in
docs/schedules.txt.
"""
import re
from bisect import bisect_left, bisect_right
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

from cronsim import CronSim

from lovely.remotetask import crontext, zones
from lovely.remotetask.crontext import TRIAL
from lovely.remotetask.errors import BadSchedule

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HORIZON = 50 * 366 * DAY  # 29 February can avoid a weekday for 40 years.
EVERY = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
LENGTHS = range(1, 100 * 366 * 86400 + 1)  # Seconds an interval may have.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What each field may hold, the finest field first.  Monday is 0.
SPANS = {"minute": range(60), "hour": range(24), "dayOfWeek": range(7),
         "dayOfMonth": range(1, 32), "month": range(1, 13)}
LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday",
            "Saturday", "Sunday")


class Recurrence:
    """A rule that names instants.  Equal rules name the same ones."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first instant later than *moment*, in UTC; None if none comes.

        *moment* is an aware datetime, in any zone; a naive one is a
        ValueError.
        """
        if moment.utcoffset() is None:
            raise ValueError(
                f"{moment!r} has no time zone; give an aware datetime")
        try:
            return self._next(moment.astimezone(UTC).replace(microsecond=0))
        except OverflowError:  # The calendar ends with the year 9999.
            return None

    def next_times(self, moment: datetime, count: int) -> list[datetime]:
        """The first *count* instants later than *moment*, the oldest first."""
        return list(islice(self._times(moment), count))

    def describe(self) -> str:
        """The rule in English words."""
        raise NotImplementedError

    def __repr__(self) -> str:
        given = ", ".join(
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)  # type: ignore[arg-type]  # all kinds are dataclasses
            if each.init and getattr(self, each.name) != each.default)
        return f"{type(self).__name__}({given})"

    def _next(self, since: datetime) -> datetime | None:
        raise NotImplementedError

    def _times(self, moment: datetime) -> Iterator[datetime]:
        instant: datetime | None = moment
        while instant and (instant := self.next_after(instant)):
            yield instant

    def _set(self, name: str, value: object) -> None:
        """Keep the clean form of a value, while the frozen self is made."""
        object.__setattr__(self, name, value)

    def _try(self) -> None:
        """Refuse a rule that names no instant at all."""
        if self.next_after(TRIAL) is None:
            raise BadSchedule(
                f"{self!r} names no instant within 50 years; its month, day,"
                " weekday and hour must meet on some date of its zone")


@dataclass(frozen=True, repr=False)
class Interval(Recurrence):
    """Every *seconds*, counted from *anchor* in both directions.

    The anchor is one of the instants, so nothing drifts, and an anchor that
    is still to come fires when it comes.  It is an aware datetime and kept
    in UTC, in whole seconds; without one, 1970-01-01 00:00 UTC stands.
    """

    seconds: int
    anchor: datetime | None = None

    def __post_init__(self) -> None:
        if type(self.seconds) is not int or self.seconds not in LENGTHS:
            raise BadSchedule(f"seconds cannot be {self.seconds!r}; give a"
                              f" whole number from 1 to {LENGTHS[-1]}")
        if self.anchor is not None:
            self._set("anchor", _whole_utc(self.anchor))

    def describe(self) -> str:
        parts, rest = [], self.seconds
        for unit, size in ("day", 86400), ("hour", 3600), ("minute", 60), (
                "second", 1):
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count} {unit}{'s' * (count > 1)}")
        anchor = self.anchor or EPOCH
        return (f"Every {' '.join(parts)},"
                f" counted from {anchor:%Y-%m-%d %H:%M:%S} UTC")

    def _next(self, since: datetime) -> datetime | None:
        anchor = self.anchor or EPOCH
        step = timedelta(seconds=self.seconds)
        return anchor + ((since - anchor) // step + 1) * step


@dataclass(frozen=True, repr=False)
class Foreign(Recurrence):
    """The ISchedule of somebody else.

    One that stands still would be asked for ever: an answer that is not later
    than the question, or that is no aware datetime, is a BadSchedule.
    """

    given: Any

    def next_after(self, moment: datetime) -> datetime | None:
        found = self.given.next_after(moment)
        if found is None:
            return None
        if not isinstance(found, datetime) or found.utcoffset() is None:
            wrong = "is no aware datetime"
        elif found <= moment:
            wrong = f"is not later than {moment}"
        else:
            return found.astimezone(UTC)
        raise BadSchedule(f"{type(self.given).__name__}.next_after has answered "
                          f"{found!r}, which {wrong}")

    def describe(self) -> str:
        return str(self.given.describe())


class WallClock(Recurrence):
    """Follows the clock on the wall of *timezone*; None stands for UTC.

    Daylight saving, one rule for all: a fixed time that the clock jumps over
    is due at the first instant after the jump; of a time the clock shows
    twice, the first is due.  Where the minute or the hour is a wildcard,
    what the clock really shows is due: never in the jump, twice when it is
    shown twice.
    """

    timezone: str | None

    def _wildcard(self) -> bool:
        raise NotImplementedError

    def _next_wall(self, wall: datetime) -> datetime | None:
        """The first matching minute later than *wall*, both naive."""
        raise NotImplementedError

    def _next(self, since: datetime) -> datetime | None:
        if self.timezone is None:
            at = self._next_wall(since.replace(second=0, tzinfo=None))
            return at and at.replace(tzinfo=UTC)
        zone = zones.zone(self.timezone)
        wall = zones.naive(since, zone).replace(second=0)
        end = wall + HORIZON
        at = self._next_wall(wall)
        if self._wildcard():
            instants = zones.instants_shown
            if (again := zones.second_pass(since, zone)) is not None:
                start, stop = again
                if at is None or at >= stop:
                    at = self._next_wall(start - MINUTE)
        else:
            instants = zones.instant_of_fixed
        while at is not None and at < end:
            for instant in instants(at, zone):
                if instant > since:
                    return instant
            at = self._next_wall(at)
        return None


@dataclass(frozen=True, repr=False)
class Schedule(WallClock):
    """The minutes, hours and days on which to run.

    An empty field is open.  It stands for every value where a finer field is
    given, else for its first: ``hour=(2,)`` is 02:00 every day, ``month=(5,)``
    is midnight of 1 May.  An open ``dayOfWeek`` is always every day, and a
    schedule that is open altogether is every minute.

    Monday is 0.  With both ``dayOfMonth`` and ``dayOfWeek``, a day must match
    both: ``dayOfMonth=(13,), dayOfWeek=(4,)`` is every Friday the 13th.  (In
    cron text it would be every 13th and every Friday.)
    """

    minute: tuple[int, ...] = ()
    hour: tuple[int, ...] = ()
    dayOfMonth: tuple[int, ...] = ()
    month: tuple[int, ...] = ()
    dayOfWeek: tuple[int, ...] = ()
    timezone: str | None = None

    def __post_init__(self) -> None:
        for name, span in SPANS.items():
            self._set(name, _whole_numbers(name, getattr(self, name), span))
        self._set("timezone", zones.zone_name(self.timezone))
        days, months = self.dayOfMonth, self.month
        if days and months:
            longest = max(LONGEST[month - 1] for month in months)
            if min(days) > longest:
                raise BadSchedule(
                    f"dayOfMonth {days} never comes in month {months};"
                    f" the longest of these has {longest} days")
        self._try()

    def describe(self) -> str:
        minute, hour, weekday, day, month = (
            "*" if len(values) == len(SPANS[name]) else _ranges(values)
            for name, values in self._values().items())
        both = self.dayOfMonth and self.dayOfWeek
        if weekday != "*":  # Cron text counts from Sunday, 7 is Sunday too.
            weekday = "*" if both else _ranges(
                tuple(each + 1 for each in self.dayOfWeek))
        words = CronSim(f"{minute} {hour} {day} {month} {weekday}", TRIAL)
        also = f", if it is a {_listed(self.dayOfWeek)}" if both else ""
        return f"{words.explain()}{also}{_place(self.timezone)}"

    def _wildcard(self) -> bool:
        return not self.hour and self._values()["hour"] == SPANS["hour"]

    def _next_wall(self, wall: datetime) -> datetime | None:
        return _first_match(wall + MINUTE, *self._values().values())

    def _values(self) -> dict[str, tuple[int, ...] | range]:
        """What each field stands for, the open ones too."""
        values: dict[str, tuple[int, ...] | range] = {}
        finer = not any(getattr(self, name) for name in SPANS)
        for name, span in SPANS.items():
            given = getattr(self, name)
            finer = finer or bool(given)
            every = finer or name == "dayOfWeek"
            values[name] = given or (span if every else span[:1])
        return values


@dataclass(frozen=True, repr=False)
class CronText(WallClock):
    """Cron text of five fields: minute, hour, day of month, month, weekday.

    The field's standard: lists, ranges, steps, names; 0 and 7 are Sunday;
    a day of month and a weekday both given mean either of them, unless one
    starts with ``*``.  ``L``, ``LW``, ``5L`` and ``MON#2`` are understood.  A
    range may wrap around (``FRI-MON``, ``22-2``), and ``@hourly``, ``@daily``,
    ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` and ``@annually``
    stand for the usual ones.

    *text* is kept as given, *normal* is what it was taken to mean.
    """

    text: str
    timezone: str | None = None
    normal: str = field(init=False, default="", compare=False)

    def __post_init__(self) -> None:
        self._set("timezone", zones.zone_name(self.timezone))
        self._set("normal", crontext.normal(self.text))
        self._try()

    def describe(self) -> str:
        words = CronSim(self.normal, TRIAL).explain()
        return f"{words}{_place(self.timezone)}"

    def _wildcard(self) -> bool:
        minute, hour, *_ = self.normal.split()
        return minute.startswith("*") or hour.startswith("*")

    def _next_wall(self, wall: datetime) -> datetime | None:
        parsed, plain = _parsed(self.normal)
        if plain is not None:
            return _first_match(wall + MINUTE, *plain)
        # cronsim counts on naive times only: its own daylight saving steps
        # back in time in the repeated hour, and loses some of Lord Howe's.
        parsed = copy(parsed)
        parsed.dt = wall
        return next(parsed, None)


@lru_cache(maxsize=1000)
def _parsed(normal: str) -> tuple[CronSim, tuple[Sequence[int], ...] | None]:
    """Cron text as cronsim read it; and its fields in the order of SPANS, where
    lists of numbers say it all: cronsim walks to 29 February day by day."""
    parsed = CronSim(normal, TRIAL.replace(tzinfo=None))
    weekdays = {(each - 1) % 7 for each in parsed.weekdays
                if not isinstance(each, tuple)}
    fields = parsed.minutes, parsed.hours, weekdays, parsed.days, parsed.months
    plain = parsed.day_and and min(parsed.days) > 0 and not any(
        isinstance(each, tuple) for each in parsed.weekdays)
    return parsed, tuple(tuple(sorted(each)) for each in fields) if plain else None


def _first_match(at: datetime, minutes: Sequence[int], hours: Sequence[int],
                 weekdays: Sequence[int], days: Sequence[int],
                 months: Sequence[int]) -> datetime | None:
    """The first minute from *at* on that matches all fields, in ascending order."""
    end = at + HORIZON
    while at < end:
        if at.month not in months:
            at = _month_after(at, months)
        elif at.day not in days:
            place = bisect_left(days, at.day)
            if place < len(days) and days[place] <= monthrange(at.year, at.month)[1]:
                at = at.replace(day=days[place], hour=0, minute=0)
            else:
                at = _month_after(at, months)
        elif at.weekday() not in weekdays or at.hour > hours[-1]:
            at = at.replace(hour=0, minute=0) + DAY
        elif at.hour not in hours:
            hour = hours[bisect_left(hours, at.hour)]
            at = at.replace(hour=hour, minute=0)
        elif at.minute > minutes[-1]:
            at = at.replace(minute=0) + HOUR
        else:
            minute = minutes[bisect_left(minutes, at.minute)]
            return at.replace(minute=minute)
    return None


def _month_after(at: datetime, months: Sequence[int]) -> datetime:
    """The beginning of the next of these months."""
    place = bisect_right(months, at.month)
    if place < len(months):
        return at.replace(month=months[place], day=1, hour=0, minute=0)
    if at.year == MAXYEAR:
        raise OverflowError("the calendar ends")
    return at.replace(year=at.year + 1, month=months[0], day=1, hour=0, minute=0)


def parse(text: str, timezone: str | None = None,
          anchor: datetime | None = None) -> CronText | Interval:
    """The schedule that *text* names; BadSchedule if it names none.

    ``@every 90s``, ``@every 5m`` and ``@every 1h30m`` are intervals from
    *anchor*; they are the same in every *timezone*.  The rest is cron text.
    """
    words = crontext.words_of(text)
    if not words or words[0].lower() != "@every":
        return CronText(text, timezone)
    zones.zone_name(timezone)
    length = EVERY.fullmatch(" ".join(words[1:]).lower())
    if not length or not any(length.groups()):
        raise BadSchedule(f"{text!r} is no interval; write it as"
                          " '@every 90s', '@every 5m' or '@every 1h30m'")
    days, hours, minutes, seconds = (int(part or 0) for part in length.groups())
    return Interval(
        ((days * 24 + hours) * 60 + minutes) * 60 + seconds, anchor)


# Clean values and words


def _whole_utc(anchor: datetime) -> datetime:
    if not isinstance(anchor, datetime) or anchor.utcoffset() is None:
        raise BadSchedule(f"anchor cannot be {anchor!r};"
                          " give a datetime with a time zone")
    return anchor.astimezone(UTC).replace(microsecond=0)


def _whole_numbers(name: str, values: Iterable[int] | None,
                   span: range) -> tuple[int, ...]:
    """*values* in order and each once; BadSchedule if one does not fit."""
    zero = ", 0 is Monday" if name == "dayOfWeek" else ""
    wanted = f"whole numbers from {span[0]} to {span[-1]}{zero}"
    if isinstance(values, str | bytes | int):
        raise BadSchedule(f"{name} cannot be {values!r};"
                          f" it is a tuple of {wanted}, such as (1,)")
    given = tuple(values or ())
    for value in given:
        if type(value) is not int or value not in span:
            raise BadSchedule(f"{name} cannot be {value!r}; it holds {wanted}")
    return tuple(sorted(set(given)))


def _ranges(values: Iterable[int]) -> str:
    """Cron text of *values*: runs of three and more as ranges."""
    runs = groupby(enumerate(values), lambda pair: pair[1] - pair[0])
    terms: list[str] = []
    for _, pairs in runs:
        run = [str(value) for _, value in pairs]
        terms += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else run
    return ",".join(terms)


def _listed(weekdays: Iterable[int]) -> str:
    *others, last = (WEEKDAYS[each] for each in weekdays)
    return f"{', '.join(others)} or {last}" if others else last


def _place(timezone: str | None) -> str:
    return f" ({timezone or 'UTC'})"
