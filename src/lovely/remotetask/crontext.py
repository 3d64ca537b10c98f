"""What cron text means: five fields, brought into the form that cronsim reads."""
import re
from datetime import UTC, datetime
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from lovely.remotetask.errors import BadSchedule

# cron text is tried once, when it is read, from here on: no clock is asked.
TRIAL = datetime(2026, 1, 1, tzinfo=UTC)


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
NICKNAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}
LONGEST_TEXT = 1000  # Sixty minutes written one by one are 170 characters.


def words_of(text: str) -> list[str]:
    if not isinstance(text, str):
        raise BadSchedule(f"cron text cannot be {text!r}; give a string")
    if len(text) > LONGEST_TEXT or not text.isascii():
        raise BadSchedule(f"{text[:40]!r} is no cron text: it has other than"
                          f" plain letters, or more than {LONGEST_TEXT}")
    return text.split()


def normal(text: str) -> str:
    """*text* as cronsim understands it; BadSchedule if it means nothing."""
    words = words_of(text)
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
            if not understood(place, parts[place]):
                raise BadSchedule(f"{each.name} cannot be {words[place][:40]!r};"
                                  f" {each.wanted()}") from error
        raise BadSchedule(
            f"{text!r} never comes: no month {words[3]!r} has a day"
            f" {words[2]!r}; give a day that the month has") from error
    return normal


def understood(place: int, part: str) -> bool:
    """Whether cronsim takes *part* when all else is open."""
    stars = ["*"] * len(CRON_FIELDS)
    stars[place] = part
    try:
        CronSim(" ".join(stars), TRIAL)
    except CronSimError:
        return False
    return True
