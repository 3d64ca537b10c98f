"""How much of one kind may run at once, or begin in a time; and the lines it makes.

A limit has a name with its kind in front:

    lane:mail        jobs in a lane               laneWidth, rate of its tasks
    task:report      jobs of a task               concurrency, rate of the task
    lock:invoice-7   jobs that name this lock     locks= of add

A line of the queue is named by what its jobs have in common: lane, task, locks.
So all of one line are stopped by the same limits, and a claim looks at none of them.
"""
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lovely.remotetask.errors import BadOption

PART, WIDTH = "\x1f", "\x1e"
SUSPECT = "\x1d"  # in front of the lines of jobs whose process died: they run alone
UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60,
         "h": 3600, "hour": 3600, "d": 86_400, "day": 86_400}
SLICES = 100       # a period is counted in so many slices
MOST = 1_000_000
NAME_LIMIT = 200   # characters of the name of a lock
LOCKS = 20         # of one job, at most
LONGEST = 366 * 86_400


class Rate(NamedTuple):
    """So many starts in any period of so many seconds."""

    number: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.number} per {self.seconds:g} s"


class Limit(NamedTuple):
    """What holds for one name: how many at once, how many in a time; None: no limit."""

    name: str
    width: int | None = None
    rate: Rate | None = None


def rate(given: Any) -> Rate | None:
    """'100/h', '5/10s', (100, 3600) or None, as a Rate.  Raises BadOption."""
    if given is None or isinstance(given, Rate):
        return given
    try:
        if isinstance(given, str):
            number, slash, period = given.partition("/")
            if not slash:
                raise ValueError
            count = period.strip().rstrip("abcdefghijklmnopqrstuvwxyz ")
            unit = period.strip()[len(count):].strip() or "s"
            found = Rate(int(number), float(count or 1) * UNITS[unit])
        else:
            number, seconds = given
            found = Rate(int(number), float(seconds))
            if isinstance(number, bool) or found.number != number:
                raise ValueError
    except (TypeError, ValueError, KeyError):
        raise BadOption("rate", given, "'100/h', '5/10s' or (number, seconds)") from None
    if not (1 <= found.number <= MOST and 0 < found.seconds <= LONGEST):
        raise BadOption("rate", given,
                        f"1 to {MOST:,} in more than 0 and up to {LONGEST:,} seconds")
    return found


def locks(given: Any) -> tuple[tuple[str, int], ...]:
    """Names, or {name: how many jobs may hold it at once}, in order.

    Raises BadOption.
    """
    if isinstance(given, str):
        given = (given,)
    try:
        pairs = list(given.items()) if isinstance(given, Mapping) \
            else [(name, 1) for name in given]
    except TypeError:
        raise BadOption("locks", given, "names, or {name: width}") from None
    for name, width in pairs:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT \
                or not name.isprintable():
            raise BadOption("locks", name, f"plain text of up to {NAME_LIMIT} characters")
        if not isinstance(width, int) or isinstance(width, bool) or not 0 < width <= MOST:
            raise BadOption("locks", width, "how many jobs may hold it at once: 1 or more")
    if len(pairs) > LOCKS:
        raise BadOption("locks", given, f"up to {LOCKS} names")
    return tuple(sorted(dict(pairs).items()))


def lock_of(text: str) -> tuple[str, int]:
    """(name, width) of what people type: 'shelf-1', or 'shelf-1=3'."""
    name, sign, width = text.rpartition("=")
    if name and width.isascii() and width.isdigit() and len(width) < 10:
        return name, int(width)
    return text, 1


def lock_text(name: str, width: int) -> str:
    """A lock as people type it."""
    return name if (name, width) == lock_of(name) else f"{name}={width}"


def line_name(lane: str, task: str, held: Iterable[tuple[str, int]] = ()) -> str:
    """The line of jobs of that lane and task which need these locks."""
    name = f"{lane}{PART}{task}"
    for lock, width in held:
        name += f"{PART}{lock}{WIDTH}{width}"
    return name


def line_of(job: Any) -> str:
    """The line in which a job waits."""
    name = line_name(job.lane, job.task, job.locks)
    return SUSPECT + name if job.suspect else name


def parts(line: str) -> tuple[str, str, tuple[tuple[str, int], ...]]:
    """(lane, task, locks) of a line's name."""
    lane, task, *held = line.removeprefix(SUSPECT).split(PART)
    pairs = (each.split(WIDTH) for each in held)
    return lane, task, tuple((name, int(width)) for name, width in pairs)


def names_of(line: str) -> list[str]:
    """The names of all limits that may hold for the jobs of a line."""
    lane, task, held = parts(line)
    return [f"lane:{lane}"] * bool(lane) + [f"task:{task}"] + [
        f"lock:{name}" for name, _ in held]


def is_bounded(line: str) -> bool:
    """Whether the line is one of many, which come and go with their jobs."""
    return line.count(PART) > 1 or line.startswith(SUSPECT)


def spread_key(lane: str, task: str, held: tuple[tuple[str, int], ...],
               known: Mapping[str, Limit]) -> str | None:
    """What decides where jobs with limits wait, so that one worker at a time is
    home to them; None for jobs without limits."""
    if held:
        return f"lock:{held[0][0]}"
    for name in (f"lane:{lane}", f"task:{task}"):
        if name in known:
            return name
    return None


def of_line(line: str, known: Mapping[str, Limit]) -> tuple[Limit, ...]:
    """The limits that hold for the jobs of a line."""
    if not known and not is_bounded(line):
        return ()
    lane, task, held = parts(line)
    found = [known[name] for name in (f"lane:{lane}", f"task:{task}") if name in known]
    found += [Limit(f"lock:{name}", width) for name, width in held]
    return tuple(found)


class Starts(NamedTuple):
    """When jobs of one limit have begun, in slices of its period: ((slice, number),)."""

    slices: tuple[tuple[int, int], ...] = ()

    def left(self, rate: Rate, now: int) -> int:
        """How many may begin now (microseconds)."""
        return max(0, rate.number - sum(number for _, number in self._recent(rate, now)))

    def begun(self, rate: Rate, now: int) -> "Starts":
        """With one more that begins now."""
        recent, present = dict(self._recent(rate, now)), now // _slice(rate)
        recent[present] = recent.get(present, 0) + 1
        return Starts(tuple(sorted(recent.items())))

    def free_at(self, rate: Rate, now: int) -> int:
        """Microseconds: when the oldest that counts does not count any more."""
        recent = self._recent(rate, now)
        return now if not recent else (recent[0][0] + SLICES + 1) * _slice(rate)

    def _recent(self, rate: Rate, now: int) -> list[tuple[int, int]]:
        """A slice counts until all of it is a period ago: never too many begin.

        Those ahead were noted by another clock; those of more than a period ahead before
        a clock was put back, and they count for nothing.
        """
        present = now // _slice(rate)
        return [each for each in self.slices
                if present - SLICES <= each[0] <= present + SLICES]


def _slice(rate: Rate) -> int:
    return max(1, round(rate.seconds * 1_000_000 / SLICES))
