"""What the clock on the wall shows in a time zone, and when it shows it."""
import difflib
import functools
import zoneinfo
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from lovely.remotetask.errors import BadSchedule

SECOND = timedelta(seconds=1)


@functools.cache
def zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def zone_name(name: str | None) -> str | None:
    """*name* if it is an IANA zone, None for UTC; else BadSchedule."""
    if name is None or name in ("", "UTC"):
        return None
    # These names mean the server's own zone, or count leap seconds.
    odd = ("localtime", "posix/", "posixrules", "right/")
    try:
        if not isinstance(name, str) or name.startswith(odd):
            raise ValueError(name)
        zone(name)
    except (LookupError, ValueError, OSError) as error:
        close = difflib.get_close_matches(
            str(name), zoneinfo.available_timezones(), 1)
        hint = f"did you mean {close[0]!r}?" if close else (
            "use an IANA name such as 'Europe/Berlin', or 'UTC'")
        raise BadSchedule(f"timezone cannot be {name!r}; {hint}") from error
    return name


def naive(instant: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """What the wall shows at *instant*."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def instants_shown(wall: datetime, zone: zoneinfo.ZoneInfo
                    ) -> Iterator[datetime]:
    """When the wall shows *wall*: twice, once, or never in a jump."""
    for fold in 0, 1:
        instant = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if naive(instant, zone) == wall:
            yield instant


def instant_of_fixed(wall: datetime, zone: zoneinfo.ZoneInfo
                      ) -> Iterator[datetime]:
    """When *wall* is shown first, or when the clock has jumped over it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if naive(instant, zone) == wall:
        yield instant
    else:
        before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        yield change_between(before, instant, zone)


def second_pass(since: datetime, zone: zoneinfo.ZoneInfo
                 ) -> tuple[datetime, datetime] | None:
    """The naive span the wall will show again, if it is being shown first."""
    here = since.astimezone(zone)
    now, then = here.utcoffset(), here.replace(fold=1).utcoffset()
    assert now is not None and then is not None
    if now <= then:
        return None
    change = change_between(since, since + (now - then), zone).replace(tzinfo=None)
    return change + then, change + now


def change_between(before: datetime, after: datetime,
            zone: zoneinfo.ZoneInfo) -> datetime:
    """The first instant, in whole seconds, that has the offset of *after*."""
    old = before.astimezone(zone).utcoffset()

    def changed(second: int) -> bool:
        instant = before + second * SECOND
        return instant.astimezone(zone).utcoffset() != old

    seconds = range((after - before) // SECOND)
    return before + bisect_left(seconds, True, key=changed) * SECOND
