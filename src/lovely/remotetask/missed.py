"""Which instants of a schedule to fire now, also after a downtime."""
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from lovely.remotetask.errors import BadSchedule
from lovely.remotetask.schedule import Recurrence

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LOOKS = 200  # More only for a schedule that answers otherwise each time.

# What becomes of the instants nobody was there to fire, and of an instant
# that comes while the run before it goes on.
SKIP, ONCE, ALL = MISSED = ("skip", "once", "all")
ALLOW, SKIP, QUEUE_ONE = OVERLAP = ("allow", "skip", "queue one")


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
    for _ in range(LOOKS):
        later = schedule.next_after(found)
        if later is None or later > until:
            break
        middle = later + (end - later) / 2
        beyond = schedule.next_after(middle)
        if beyond is None or beyond > until:
            found, end = later, middle
        else:
            found = beyond
    return found
