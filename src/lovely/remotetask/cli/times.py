"""Moments and durations, as people write and read them."""
import re
from datetime import datetime, timedelta

from lovely.remotetask.cli.problems import BadArgument

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
PART = r"(\d+(?:\.\d+)?)([smhdw]?)"


def duration(text: str) -> float:
    """Seconds: '90', '1.5h', '1h30m', '2d'.  Raises BadArgument."""
    words = text.replace(" ", "").lower()
    parts = re.findall(PART, words)
    if not re.fullmatch(f"(?:{PART})+", words) \
            or len(parts) > 1 and not all(unit for _, unit in parts):
        raise BadArgument(
            f"{text!r} is no duration; write seconds, or 90s, 5m, 1h30m, 2d, 1w")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def moment(text: str) -> datetime:
    """An aware datetime: ISO 8601, in local time where it names no offset; or
    '14:30', the next time that clocks show it.  Raises BadArgument."""
    try:
        found = datetime.fromisoformat(text.strip())
        return found.astimezone() if found.tzinfo is None else found
    except (ValueError, OverflowError):
        pass
    clock = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip())
    if clock and int(clock[1]) < 24 and int(clock[2]) < 60:
        now = datetime.now()
        found = now.replace(
            hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        if found <= now:
            found += timedelta(days=1)
        return found.astimezone()
    raise BadArgument(
        f"{text!r} is no time; write 2027-01-31T14:30, 2027-01-31T14:30+01:00, or "
        "14:30 for the next time it is that late")


def local(text: str | None) -> str:
    """A moment of an answer in the zone of the reader, with its offset."""
    if not text:
        return ""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def span(seconds: float) -> str:
    """A duration to be read: '0.2 s', '3 min', '5 h', '2 days'."""
    for unit, size, limit in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < limit:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 10 and unit == "s" \
                else f"{number:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
