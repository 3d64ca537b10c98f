"""The time, and its stored form.

A moment is an aware UTC datetime.  It is stored as a 64-bit number of
microseconds since 1970: 9 bytes in a pickle where a datetime takes 70.
"""
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# The zone in which naive datetimes stored by release 0.5 are read: the setting
# `naive_timezone` of this process.
naive_zone: tzinfo | None = None  # None: the local zone of this process.


class Clock(Protocol):
    """Whatever tells the time."""

    def micros(self) -> int:
        """Microseconds since 1970."""


class SystemClock:
    """The time of this machine."""

    def micros(self) -> int:
        return time.time_ns() // 1000


# Asked by everybody, replaced in tests only: `clock.current = SimulatedClock()`.
current: Clock = SystemClock()


def micros() -> int:
    """Now, in microseconds since 1970."""
    return current.micros()


def now() -> datetime:
    return from_micros(current.micros())


def from_micros(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def to_micros(moment: datetime | int | float) -> int:
    """The stored form of a moment; numbers are seconds since 1970."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            moment = moment.astimezone() if naive_zone is None \
                else moment.replace(tzinfo=naive_zone)
        return (moment - EPOCH) // MICROSECOND
    return round(moment * 1_000_000)


def zone(name: str) -> tzinfo | None:
    """The zone of that IANA name; None for ''.  Raises ValueError."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error


class Moment:
    """An attribute that reads as an aware datetime and is stored as a number.

    Naive datetimes that release 0.5 stored are read in `naive_zone`.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> datetime | None:
        if instance is None:
            return None
        value = instance.__dict__.get(self.name)
        if value is None:
            return None
        return from_micros(value if isinstance(value, int) else to_micros(value))

    def __set__(self, instance: Any, moment: datetime | int | float | None) -> None:
        instance.__dict__[self.name] = None if moment is None else to_micros(moment)
        instance._p_changed = True
