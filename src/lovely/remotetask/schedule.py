"""When a job is due: values to compute with, free of clock and ZODB.

    Recurrence         what everybody asks: next_after, next_times, describe
     ├─ Interval       every so many seconds
     └─ WallClock      what the clock on the wall shows, in a time zone
         ├─ Schedule   lists of minutes, hours and days
         └─ CronText   the same as cron text

``parse`` reads any of them from text; ``due`` tells what to fire now, also
after a downtime.  Daylight saving is said in docs/schedules.txt.
"""
import difflib
import functools
import re
import zoneinfo
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from lovely.remotetask.errors import BadSchedule

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HORIZON = 50 * 366 * DAY  # 29 February can avoid a weekday for 40 years.
LENGTHS = range(1, 100 * 366 * 86400 + 1)  # Seconds an interval may have.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A schedule is tried once, when it is made, from here on: no clock is asked.
TRIAL = datetime(2026, 1, 1, tzinfo=UTC)

# What becomes of the instants nobody was there to fire, and of an instant
# that comes while the run before it goes on.
SKIP, ONCE, ALL = MISSED = ("skip", "once", "all")
ALLOW, SKIP, QUEUE_ONE = OVERLAP = ("allow", "skip", "queue one")

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
            for each in fields(self)  # type: ignore[arg-type]
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
        zone = _zone(self.timezone)
        wall = _naive(since, zone).replace(second=0)
        end = wall + HORIZON
        at = self._next_wall(wall)
        if self._wildcard():
            instants = _instants_shown
            if (again := _second_pass(since, zone)) is not None:
                start, stop = again
                if at is None or at >= stop:
                    at = self._next_wall(start - MINUTE)
        else:
            instants = _instant_of_fixed
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
        self._set("timezone", _zone_name(self.timezone))
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
        minutes, hours, weekdays, days, months = self._values().values()
        at = wall + MINUTE
        end = at + HORIZON
        while at < end:
            if at.month not in months:
                at = at.replace(day=1, hour=0, minute=0) + 32 * DAY
                at = at.replace(day=1)
            elif at.day not in days or at.weekday() not in weekdays:
                at = at.replace(hour=0, minute=0) + DAY
            elif at.hour > hours[-1]:
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
        self._set("timezone", _zone_name(self.timezone))
        self._set("normal", _normal(self.text))
        self._try()

    def describe(self) -> str:
        words = CronSim(self.normal, TRIAL).explain()
        return f"{words}{_place(self.timezone)}"

    def _wildcard(self) -> bool:
        minute, hour, *_ = self.normal.split()
        return minute.startswith("*") or hour.startswith("*")

    def _next_wall(self, wall: datetime) -> datetime | None:
        # cronsim counts on naive times only: its own daylight saving steps
        # back in time in the repeated hour, and loses some of Lord Howe's.
        return next(CronSim(self.normal, wall), None)


def parse(text: str, timezone: str | None = None,
          anchor: datetime | None = None) -> CronText | Interval:
    """The schedule that *text* names; BadSchedule if it names none.

    ``@every 90s``, ``@every 5m`` and ``@every 1h30m`` are intervals from
    *anchor*; they are the same in every *timezone*.  The rest is cron text.
    """
    words = _words(text)
    if not words or words[0].lower() != "@every":
        return CronText(text, timezone)
    _zone_name(timezone)
    length = EVERY.fullmatch(" ".join(words[1:]).lower())
    if not length or not any(length.groups()):
        raise BadSchedule(f"{text!r} is no interval; write it as"
                          " '@every 90s', '@every 5m' or '@every 1h30m'")
    days, hours, minutes, seconds = (int(part or 0) for part in length.groups())
    return Interval(
        ((days * 24 + hours) * 60 + minutes) * 60 + seconds, anchor)


# What to fire


class Due(NamedTuple):
    """The instants to *fire* now, the oldest first, and the *next* to await."""

    fire: tuple[datetime, ...]
    next: datetime | None


def due(schedule: Recurrence, last: datetime, now: datetime, *,
        missed: str = ONCE, bound: int = 100, grace: float = 60) -> Due:
    """What is due later than *last* and not later than *now*.

    An instant at most *grace* seconds old is on time and fires.  An older
    one was missed, and *missed* says what becomes of it:

    - ``skip``: it never fires;
    - ``once``: the latest missed one fires, unless a later one is on time;
    - ``all``: every missed one fires.

    No more than the *bound* newest instants fire in any case.  The effort
    depends on *bound* and not on how long nobody looked.  A clock that was
    set back fires nothing twice: *last* is never passed again.
    """
    if missed not in MISSED:
        raise BadSchedule(f"missed cannot be {missed!r};"
                          f" it is one of {', '.join(MISSED)}")
    first = schedule.next_after(last)
    if first is None or first > now:
        return Due((), first)
    on_time = now - timedelta(seconds=grace)
    fire: list[datetime] = []
    for instant in islice(_newest_first(schedule, last, now), bound):
        if instant < on_time and (
                missed == SKIP or missed == ONCE and fire):
            break
        fire.append(instant)
    return Due(tuple(reversed(fire)), schedule.next_after(now))


def _newest_first(schedule: Recurrence, after: datetime,
                  until: datetime) -> Iterator[datetime]:
    """The instants later than *after* and not later than *until*, backward."""
    look = MINUTE
    while (found := _latest(schedule, after, until, look)) is not None:
        yield found
        look = max(MINUTE, until - found)  # Most are evenly spaced.
        until = found - SECOND


def _latest(schedule: Recurrence, after: datetime, until: datetime,
            look: timedelta) -> datetime | None:
    """The last instant in that span, or None.

    Looks back *look* from the end, twice as far each time in vain, then
    closes in by halves: some forty questions find one in ten years.
    """
    if until <= after:
        return None
    look = min(look, until - after)
    while (found := schedule.next_after(until - look)) is None or found > until:
        if look == until - after:
            return None
        look = min(2 * look, until - after)
    end = until
    while (later := schedule.next_after(found)) is not None and later <= until:
        middle = later + (end - later) / 2
        beyond = schedule.next_after(middle)
        if beyond is None or beyond > until:
            found, end = later, middle
        else:
            found = beyond
    return found


# Zones and walls


@functools.cache
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def _zone_name(name: str | None) -> str | None:
    """*name* if it is an IANA zone, None for UTC; else BadSchedule."""
    if name is None or name in ("", "UTC"):
        return None
    # These names mean the server's own zone, or count leap seconds.
    odd = ("localtime", "posix/", "posixrules", "right/")
    try:
        if not isinstance(name, str) or name.startswith(odd):
            raise ValueError(name)
        _zone(name)
    except (LookupError, ValueError, OSError) as error:
        close = difflib.get_close_matches(
            str(name), zoneinfo.available_timezones(), 1)
        hint = f"did you mean {close[0]!r}?" if close else (
            "use an IANA name such as 'Europe/Berlin', or 'UTC'")
        raise BadSchedule(f"timezone cannot be {name!r}; {hint}") from error
    return name


def _naive(instant: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """What the wall shows at *instant*."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _instants_shown(wall: datetime, zone: zoneinfo.ZoneInfo
                    ) -> Iterator[datetime]:
    """When the wall shows *wall*: twice, once, or never in a jump."""
    for fold in 0, 1:
        instant = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if _naive(instant, zone) == wall:
            yield instant


def _instant_of_fixed(wall: datetime, zone: zoneinfo.ZoneInfo
                      ) -> Iterator[datetime]:
    """When *wall* is shown first, or when the clock has jumped over it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if _naive(instant, zone) == wall:
        yield instant
    else:
        before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        yield _change(before, instant, zone)


def _second_pass(since: datetime, zone: zoneinfo.ZoneInfo
                 ) -> tuple[datetime, datetime] | None:
    """The naive span the wall will show again, if it is being shown first."""
    here = since.astimezone(zone)
    now, then = here.utcoffset(), here.replace(fold=1).utcoffset()
    assert now is not None and then is not None
    if now <= then:
        return None
    change = _change(since, since + (now - then), zone).replace(tzinfo=None)
    return change + then, change + now


def _change(before: datetime, after: datetime,
            zone: zoneinfo.ZoneInfo) -> datetime:
    """The first instant, in whole seconds, that has the offset of *after*."""
    old = before.astimezone(zone).utcoffset()

    def changed(second: int) -> bool:
        instant = before + second * SECOND
        return instant.astimezone(zone).utcoffset() != old

    seconds = range((after - before) // SECOND)
    return before + bisect_left(seconds, True, key=changed) * SECOND


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


# Reading cron text


class CronField(NamedTuple):
    """One of the five: its name, its values, and the names of these."""

    name: str
    span: range  # Without 7, the second Sunday.
    names: tuple[str, ...] = ()

    def normal(self, word: str) -> str:
        return ",".join(self._unwrapped(term) for term in word.split(","))

    def wanted(self) -> str:
        low, high = self.span[0], self.span[-1]
        names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
        sunday = " (0 and 7 are Sunday)" if self.name == "day-of-week" else ""
        return (f"it holds {low} to {high}{names}{sunday}, as in '*', '{high}',"
                f" '{low + 1},{low + 3}', '{low + 1}-{low + 3}' or '*/2'")

    def _unwrapped(self, term: str) -> str:
        """*term*, but a range that wraps around as the list it stands for."""
        parts = TERM.fullmatch(term)
        if parts is None:
            return term
        first, last = self._number(parts["first"]), self._number(parts["last"])
        step = int(parts["step"] or 1)
        if step > len(self.span):
            raise BadSchedule(
                f"{self.name} cannot step by {step}: it has {len(self.span)}"
                " values; for a longer step use an interval, '@every 90m'")
        if first is None or last is None or first < last or not step:
            return term
        if first == last:  # cronsim would step on from 5-5/2 to the end.
            return str(first)
        low, size = self.span[0], len(self.span)
        around = range(first - low, last - low + size + 1, step)
        return ",".join(str(low + value % size) for value in around)

    def _number(self, word: str | None) -> int | None:
        """The value of a number or name; None where it is neither."""
        if word in self.names:
            return self.span[self.names.index(word)]
        value = int(word) if word and word.isdigit() else None
        known = value in self.span or value == 7 and "SUN" in self.names
        return value if known else None


CRON_FIELDS = (
    CronField("minute", range(60)),
    CronField("hour", range(24)),
    CronField("day-of-month", range(1, 32)),
    CronField("month", range(1, 13), (
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN",
        "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    CronField("day-of-week", range(7), (
        "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)
TERM = re.compile(r"(?P<first>\w+|\*)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")
EVERY = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
NICKNAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}
LONGEST_TEXT = 1000  # Sixty minutes written one by one are 170 characters.


def _words(text: str) -> list[str]:
    if not isinstance(text, str):
        raise BadSchedule(f"cron text cannot be {text!r}; give a string")
    if len(text) > LONGEST_TEXT or not text.isascii():
        raise BadSchedule(f"{text[:40]!r} is no cron text: it has other than"
                          f" plain letters, or more than {LONGEST_TEXT}")
    return text.split()


def _normal(text: str) -> str:
    """*text* as cronsim understands it; BadSchedule if it means nothing."""
    words = _words(text)
    if words and words[0].startswith("@"):
        nickname = " ".join(words).lower()
        if nickname not in NICKNAMES:
            raise BadSchedule(f"{text!r} is unknown; there are"
                              f" {', '.join(NICKNAMES)}, and for intervals"
                              " '@every 90s', which parse() reads")
        return NICKNAMES[nickname]
    if len(words) != len(CRON_FIELDS):
        seconds = " (there is no field for seconds)" * (len(words) == 6)
        raise BadSchedule(
            f"{text!r} has {len(words)} fields{seconds}; give five:"
            " minute, hour, day-of-month, month, day-of-week")
    parts = [each.normal(word.upper())
             for each, word in zip(CRON_FIELDS, words)]
    normal = " ".join(parts)
    try:
        CronSim(normal, TRIAL)
    except CronSimError as error:
        for place, each in enumerate(CRON_FIELDS):
            if not _understood(place, parts[place]):
                raise BadSchedule(f"{each.name} cannot be {words[place][:40]!r};"
                                  f" {each.wanted()}") from error
        raise BadSchedule(
            f"{text!r} never comes: no month {words[3]!r} has a day"
            f" {words[2]!r}; give a day that the month has") from error
    return normal


def _understood(place: int, part: str) -> bool:
    """Whether cronsim takes *part* when all else is open."""
    stars = ["*"] * len(CRON_FIELDS)
    stars[place] = part
    try:
        CronSim(" ".join(stars), TRIAL)
    except CronSimError:
        return False
    return True
