"""Limits under race, and with kills (C14): none is exceeded, all recover.

Jobs of a task of which two may run in the whole cluster, jobs that need one of three
locks, and jobs of a task that may begin twenty times in two seconds, on several
processes of which one is killed now and then.  Each job tells when it begins and ends;
from that it is counted how many ran at the same time.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness, tasks  # noqa: E402

LOCKS = ("a", "b", "c")


def spans(processes):
    """(begin, end, task, lock) of each time that a job ran, on the common clock."""
    found = []
    for process in processes:
        open_spans = {}
        for line in process.lines:
            if line[:1] == ["in"]:
                id, task, lock, moment = line[1], line[2], line[3], float(line[4])
                open_spans[id] = [moment, None, task, lock]
                found.append(open_spans[id])
            elif line[:1] == ["out"]:
                open_spans.pop(line[1])[1] = float(line[2])
        for span in open_spans.values():
            span[1] = process.killed_at   # it ran until then
    return found


def most_at_once(found):
    """How many of some spans there were at one moment."""
    events = [(begin, 1) for begin, end, _, _ in found if end is not None]
    events += [(end, -1) for _, end, _, _ in found if end is not None]
    most = number = 0
    for _, change in sorted(events, key=lambda event: (event[0], event[1])):
        number += change
        most = max(most, number)
    return most


def most_in(found, seconds):
    """How many began within so many seconds, at most."""
    moments, first, most = sorted(span[0] for span in found), 0, 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def main():
    options = harness.arguments(
        __doc__, default="zeo", jobs=(3_000, 120, "of each kind; of rated ones a tenth"),
        workers=(4, 3, "processes"), kills=(20, 2, "of them that are killed"))
    report = harness.Report(f"limits, {options.workers} processes", options)
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        arena.add_many(options.jobs, task="chaos.capped", input=0)
        for lock in LOCKS:
            arena.add_many(options.jobs // len(LOCKS), task="chaos.locked", input=lock,
                           locks=[lock])
        arena.add_many(max(50, options.jobs // 10), task="chaos.rated", input=0)
        number = options.workers if arena.shared else 1
        living = [arena.ready() for _ in range(number)]
        for _ in range(options.kills):
            time.sleep(arena.chance.uniform(0.3, 1.5))
            victim = living.pop(arena.chance.randrange(number))
            victim.killed_at = time.monotonic()
            victim.kill()
            living.append(arena.ready())
        arena.finish(workers=number, seconds=600)
        found = spans(arena.processes)
        capped = most_at_once([span for span in found if span[2] == "capped"])
        report.add("at once under a cap of 2", capped, str(tasks.CAP), capped <= tasks.CAP)
        locked = max(most_at_once([span for span in found if span[3] == lock])
                     for lock in LOCKS)
        report.add("at once with one lock", locked, "1", locked <= 1)
        rated = [span for span in found if span[2] == "rated"]
        # A start is counted when the job is claimed, and begins a little later.
        report.add(f"begun in {tasks.RATE[1]:.0f} s at a rate of {tasks.RATE[0]}, at most",
                   most_in(rated, tasks.RATE[1]))
        periods = (max(span[0] for span in rated) - min(span[0] for span in rated)) \
            / tasks.RATE[1]
        most = int(tasks.RATE[0] * (periods + 2))
        report.add("begun at that rate in all", len(rated), f"<= {most}",
                   len(rated) <= most)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
