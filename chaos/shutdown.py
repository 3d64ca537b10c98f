"""Stops under load, by SIGTERM, SIGINT and SIGHUP, some of them twice (C46, G11).

A worker with jobs in hand, some short and some longer than the grace time, is asked
to stop.  It must end within the grace time and two seconds; what it could not finish
is back in the queue with its attempt refunded.  With --hang the jobs in hand are in
C code that nothing stops (C09): the process must end all the same.
"""
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import deaths, harness  # noqa: E402

GRACE = 1.0
LEEWAY = 2.0         # seconds after the grace time
HANG_LEEWAY = 5.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stop_once(arena):
    """Stop a worker at some moment; (seconds to its end, its code)."""
    chance = arena.chance
    arena.add_many(12, 0.03)
    arena.add_many(2, 0.5)
    arena.add_many(1, 1.5)    # often longer than the grace time
    worker = arena.worker(grace=f"{GRACE}s")
    if chance.random() < 0.9:
        worker.wait_said("At")
        time.sleep(chance.uniform(0, 0.7))
    else:  # while it starts, at the earliest when it knows of signals
        time.sleep(chance.uniform(0.5, 1.2))
    moment = time.monotonic()
    worker.signal(chance.choice(SIGNALS))
    code = worker.end(harness.BOUND)
    return time.monotonic() - moment, code


def hang_once(arena, kind):
    """Stop a worker whose thread is in code that nothing stops."""
    with arena.desk() as desk:
        id = desk.service.add("chaos.hang", kind)
    arena.acknowledged.add(id)
    worker = arena.ready(grace=f"{GRACE}s")
    worker.wait_said("hangs")
    moment = time.monotonic()
    worker.signal(signal.SIGTERM)
    code = worker.end(harness.BOUND)
    seconds = time.monotonic() - moment
    with arena.desk() as desk:
        job = desk.service.jobs[id]
        back = job.status == "queued" and job.startedCount == 0
        desk.service.cancel(id)
    return seconds, code, back


def twice(arena):
    """A second signal stops at once, as a kill does."""
    arena.add_many(3, 1.5)
    worker = arena.ready(grace="30s")
    time.sleep(arena.chance.uniform(0.2, 0.5))
    worker.signal(signal.SIGTERM)
    worker.wait_said("Stopping;", seconds=5)
    moment = time.monotonic()
    worker.signal(signal.SIGINT)
    code = worker.end(harness.BOUND)
    return time.monotonic() - moment, code


def main():
    options = harness.arguments(
        __doc__, stops=(200, 5, "stops under load"),
        doubles=(20, 1, "stops by two signals"),
        hangs=(20, 1, "stops with each kind of code that hangs"))
    report = harness.Report(f"{options.stops} stops under load", options)
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        ends = [stop_once(arena) for _ in range(options.stops)]
        report.times("until the end", [seconds for seconds, _ in ends],
                     slowest=GRACE + LEEWAY)
        report.note("codes", [code for _, code in ends])
        arena.finish(seconds=600)
        jobs = arena.jobs().values()
        # Who rests long on an account meets more conflicts than an attempt allows.
        refused = sum(facts.started > 1 + facts.crashes + facts.failures for facts in jobs)
        report.add("handed back", sum(facts.handbacks for facts in jobs))
        report.add("attempts not refunded", refused, "0", refused == 0)
        doubles = [twice(arena) for _ in range(options.doubles)]
        report.times("until the end, second signal", [each[0] for each in doubles],
                     slowest=1.0)
        arena.finish(seconds=600)    # what was in hand is suspect, and runs alone
        hangs = [hang_once(arena, kind) for _ in range(options.hangs)
                 for kind in deaths.HANGS]
        report.times("until the end, in C code", [each[0] for each in hangs],
                     slowest=GRACE + HANG_LEEWAY)
        ended = sum(code == 0 and back for _, code, back in hangs)
        report.add("with code 0, and their job back", ended, str(len(hangs)),
                   ended == len(hangs))
        arena.finish()
        report.judge(arena.verdict())
    return report.show()


if __name__ == "__main__":
    harness.command(main)
