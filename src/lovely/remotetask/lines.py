"""What a task writes into the log, kept with its job: the last lines, bounded."""
from collections.abc import Iterable
from typing import NamedTuple

KEPT = 200        # lines of a job
ROOM = 20_000     # bytes of their texts
LONGEST = 4_000   # characters of one, a traceback in it counted


class Line(NamedTuple):
    """One entry of the log."""

    attempt: int
    moment: int   # microseconds
    level: int    # of logging: 20 is INFO
    text: str


class Written(NamedTuple):
    """What one try has written: the last lines, and how many went before them."""

    lines: tuple[Line, ...] = ()
    lost: int = 0


def last(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The last of these lines, as many as there is room for."""
    room, kept = ROOM, []
    for line in reversed(tuple(lines)[-KEPT:]):
        room -= len(line.text.encode())
        if room < 0:
            break
        kept.append(line)
    return tuple(reversed(kept))
