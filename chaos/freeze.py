"""Processes that stand still, and go on later as if nothing had been (C22, C28).

A worker stops itself, as by SIGSTOP, between its vote and the end of its commit, and
so has the commit lock of a ZEO server: the others must be able to commit once the
server's transaction-timeout is over.  On PostgreSQL it has only the rows that it
writes.  Then a worker stands still for a while and wakes up with an old view.
"""
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

TIMEOUT = 3          # seconds: transaction-timeout of the ZEO server
VISIBLE = 1.0        # seconds until a job is seen by who was asleep


def freeze_in_commit(arena):
    """Seconds until somebody else can commit, and until the frozen one has ended."""
    arena.add_many(10, 0.01)
    frozen = arena.ready(CHAOS_STOP="voted:3")
    frozen.wait_said("at")
    begun = time.monotonic()
    arena.add_many(1, 0.01)
    waited = time.monotonic() - begun
    other = arena.ready()
    arena.add_many(5, task="chaos.tick")
    other.wait_said("ticks", 5)
    time.sleep(arena.chance.uniform(0, 1))
    frozen.signal(signal.SIGCONT)
    arena.finish()
    return waited


def asleep(arena, seconds):
    """Seconds until one that was asleep sees a new job."""
    sleeper, other = arena.ready(), arena.ready()
    arena.add_many(30, 0.02)
    time.sleep(0.2)
    sleeper.signal(signal.SIGSTOP)
    arena.add_many(60, 0.02)
    time.sleep(seconds)
    other.signal(signal.SIGTERM)
    other.end()
    sleeper.signal(signal.SIGCONT)
    begun = time.monotonic()
    arena.add_many(1, task="chaos.tick", priority=1)
    line = sleeper.wait_said("ticks")
    arena.finish()
    return line.moment - begun


def main():
    options = harness.arguments(
        __doc__, storages=("zeo", "postgresql"), default="zeo",
        commits=(10, 2, "workers that stop in their commit"),
        naps=(5, 2, "workers that sleep"), seconds=(30, 3, "of a nap"))
    report = harness.Report(f"{options.commits + options.naps} workers stand still", options)
    with harness.Arena(options, zeo_options=["-t", TIMEOUT]) as arena:
        waits = [freeze_in_commit(arena) for _ in range(options.commits)]
        report.times("until others can commit", waits, slowest=TIMEOUT + 1)
        seen = [asleep(arena, options.seconds) for _ in range(options.naps)]
        report.times("until a new job is seen", seen, slowest=VISIBLE)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
