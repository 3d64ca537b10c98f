"""kill -9 of workers at random moments, under load (C01, G1).

Jobs that move amounts between accounts are added one by one all the time, while
four processes of three threads (on a FileStorage one process) work on them, and again
and again one of them is killed and replaced by a new one.
"""
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

BACKLOG = 60     # jobs that wait, at least
# A job that is killed three times while it runs alone is set aside as poison: who
# kills at random for ten minutes does that to innocents, so here it takes more.
CRASH_LIMIT = 100


def feed(arena, over):
    """Keep a backlog, by single requests; each answer counts."""
    while not over.is_set():
        counts = arena.counts()
        if counts is None or counts["queued"] >= BACKLOG:
            over.wait(0.1)
            continue
        for _ in range(BACKLOG // 3):
            if not over.is_set():
                arena.add(input=arena.transfer(0.03))


def pick(living, chance):
    """One of those at work; now and then any, also one that is just starting."""
    if chance.random() < 0.15:
        return chance.choice(living)
    return chance.choice(harness.wait_until(
        lambda: [each for each in living if each.said("At")], "a worker at work"))


def main():
    options = harness.arguments(
        __doc__, kills=(500, 10, "how many processes to kill"),
        minutes=(60, 5, "after which no more are killed"))
    report = harness.Report("kills at random moments", options)
    chance, killed, at_work = options.chance, 0, 0
    with harness.Arena(options, settings={"crash_limit": CRASH_LIMIT}) as arena:
        arena.add_many(BACKLOG, 0.03)
        number = 4 if arena.shared else 1
        living = [arena.ready() for _ in range(number)]
        over = threading.Event()
        feeder = threading.Thread(target=feed, args=(arena, over))
        feeder.start()
        try:
            end = time.monotonic() + 60 * options.minutes
            while killed < options.kills and time.monotonic() < end:
                victim = pick(living, chance)
                time.sleep(chance.uniform(0, 0.8))
                at_work += bool(victim.said("At"))
                victim.kill()
                killed += 1
                living.remove(victim)
                living.append(arena.worker())
        finally:
            over.set()
            feeder.join(harness.BOUND)
        seconds = arena.finish()
        jobs = arena.jobs()
        report.add("kills", killed)
        report.add("of them at work", at_work)
        report.add("adds without an answer", arena.unknown)
        report.add("jobs that lost a process",
                   sum(facts.started > 1 for facts in jobs.values()))
        report.add("starts a job, at most", max(facts.started for facts in jobs.values()))
        report.add("seconds to work off the rest", f"{seconds:.1f}")
        report.judge(arena.verdict())
    return report.show()


if __name__ == "__main__":
    harness.command(main)
