"""How long a schedule takes to say when it is due next.

Each schedule is asked a thousand times in a row for the moment after the one
before, so that all hours, months and daylight-saving changes come by.
"""
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tools import measure  # noqa: E402

from lovely.remotetask.schedule import Schedule, parse  # noqa: E402

AIM = 100  # microseconds
START = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
SCHEDULES = {
    "every minute, Schedule()": Schedule(),
    "minute=(0, 15, 30, 45)": Schedule(minute=(0, 15, 30, 45)),
    "hour=(2, 13)": Schedule(hour=(2, 13)),
    "hour=(2,), Europe/Berlin": Schedule(hour=(2,), timezone="Europe/Berlin"),
    "dayOfWeek=(0,)": Schedule(dayOfWeek=(0,)),
    "dayOfMonth=(1,)": Schedule(dayOfMonth=(1,)),
    "dayOfMonth=(13,), dayOfWeek=(4,)": Schedule(dayOfMonth=(13,), dayOfWeek=(4,)),
    "dayOfMonth=(31,), month=(12,)": Schedule(dayOfMonth=(31,), month=(12,)),
    "29 February": Schedule(dayOfMonth=(29,), month=(2,)),
    "29 February, a Monday": Schedule(dayOfMonth=(29,), month=(2,), dayOfWeek=(0,)),
    "*/5 2-4 * * mon": parse("*/5 2-4 * * mon"),
    "30 8 * * mon-fri, America/New_York": parse("30 8 * * mon-fri", "America/New_York"),
    "0 0 29 2 *": parse("0 0 29 2 *"),
    "@daily": parse("@daily"),
    "@every 90s": parse("@every 90s"),
}


def main():
    options = measure.arguments(__doc__).parse_args()
    measure.quiet()
    number, rounds = (100, 2) if options.brief else (1_000, 7)
    report = measure.Report("Microseconds per next_after", options)
    with measure.Bare() as bare:
        figures = measure.rounds({
            "bare": lambda: 1e6 / bare.add(200),
            **{name: (lambda schedule=schedule: each(schedule, number))
               for name, schedule in SCHEDULES.items()}}, rounds)
    unit = measure.median(figures["bare"])
    for name in SCHEDULES:
        figure = measure.median(figures[name])
        report.add(name, figure, "us", measure.ratio(figures[name], figures["bare"]),
                   f"{AIM} us", figure < AIM)
    report.add("bare commit", unit, "us", 1.0)
    report.show()


def each(schedule, number):
    """Microseconds per answer, over so many answers in a row."""
    moment, asked = START, 0
    begun = time.perf_counter()
    while asked < number:
        asked += 1
        found = schedule.next_after(moment)
        moment = START if found is None or found.year > 2200 \
            else found + timedelta(seconds=1)
    return (time.perf_counter() - begun) / asked * 1e6


if __name__ == "__main__":
    main()
