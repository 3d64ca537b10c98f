"""The server goes down and comes back, under load (C20, C21, G10).

A ZEO server is killed by -9, a PostgreSQL is stopped as by `-m immediate`; after a
moment it is started again on its port.  The workers wait, charge nobody, and go on.
It is measured from the moment at which the server answers again to the next job
that begins.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

RESUME = 5.0     # seconds, at most
BACKLOG = 60


def outage(arena, workers, down_seconds):
    """Take the server down for so long; seconds from its return to the next job."""
    jobs = len(arena.acknowledged)
    arena.add_many(BACKLOG, 0.05)
    time.sleep(arena.chance.uniform(0.05, 0.6))
    if arena.storage == "zeo":
        arena.server.kill()
    else:
        arena.server.crash()
    arena.close_database()
    time.sleep(down_seconds)
    arena.server.start()
    back = time.monotonic()
    arena.add_many(10, task="chaos.tick", priority=1)
    harness.wait_until(lambda: any(
        line.moment > back for worker in workers for line in worker.said("ticks")),
        "work after the outage")
    begun = min(line.moment for worker in workers for line in worker.said("ticks")
                if line.moment > back)
    assert len(arena.acknowledged) > jobs
    return begun - back


def main():
    options = harness.arguments(
        __doc__, storages=("zeo", "postgresql"), default="zeo",
        outages=(50, 3, "how often the server goes down"))
    report = harness.Report(f"{options.outages} outages of the server", options)
    with harness.Arena(options) as arena:
        workers = [arena.ready() for _ in range(2)]
        seconds = []
        for _ in range(options.outages):
            seconds.append(outage(arena, workers, options.chance.uniform(0, 2)))
            counts = arena.counts()
            while counts is None or counts["queued"] > BACKLOG:
                time.sleep(0.2)
                counts = arena.counts()
        stumbled = [each for each in workers if not each.alive]
        arena.finish()
        report.times("until work goes on", seconds, slowest=RESUME)
        report.add("workers that ended", len(stumbled), "0", not stumbled)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
