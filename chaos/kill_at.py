"""kill -9 at each named point of a job's life (C02); with --sweeper also while the
jobs of a dead process are taken over (C06), and while a stop hands them back.

A worker is armed with a point and a number of passings, works until it dies there,
and is replaced; the points are those of points.py.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness, points  # noqa: E402

JOBS = 6         # added for each kill
PASSINGS = 3     # the point is passed up to so often before
PATIENCE = 60.0


def kill_at(arena, point, report_missed):
    """Have a worker die at a point."""
    arena.add_many(JOBS, 0.005)
    passings = arena.chance.randrange(1, PASSINGS + 1)
    worker = arena.ready(CHAOS_POINT=f"{point}:{passings}")
    try:
        worker.wait_said("at", seconds=PATIENCE)
        return worker.end(PATIENCE) == -9
    except AssertionError:
        report_missed.append(point)
        worker.kill()
        return False


def kill_sweeper(arena, point, report_missed):
    """Have a worker die while it takes over the jobs of another that was killed."""
    held = [arena.add(task="chaos.hold")] if arena.shared else arena.add_many(
        1, task="chaos.hold")
    first = arena.ready()
    first.wait_said("holds")
    sweeper = arena.worker(CHAOS_POINT=f"{point}:1") if arena.shared else None
    first.kill()
    if sweeper is None:
        sweeper = arena.worker(CHAOS_POINT=f"{point}:1")
    try:
        sweeper.wait_said("at", seconds=PATIENCE)
        found = sweeper.end(PATIENCE) == -9
    except AssertionError:
        report_missed.append(point)
        sweeper.kill()
        found = False
    last = arena.ready()
    last.wait_said("begins")
    last.signal(15)
    last.end()
    return found and bool(held)


def kill_leaver(arena, report_missed):
    """Have a worker die while it stops and hands back what it holds."""
    arena.add_many(1, task="chaos.hold")
    worker = arena.ready(CHAOS_POINT="returning:1", grace="0s")
    worker.wait_said("holds")
    worker.signal(15)
    code = worker.end()
    if code != -9:
        report_missed.append("returning")
    return code == -9


def main():
    options = harness.arguments(
        __doc__, rounds=(20, 1, "kills at each point"),
        sweeper=(20, 1, "kills of a process that takes over or hands back"))
    report = harness.Report(f"{options.rounds} kills at each of {len(points.NAMES)} points",
                            options)
    missed, died = [], []
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        for _ in range(options.rounds):
            for point in points.NAMES:
                if kill_at(arena, point, missed):
                    died.append(point)
        arena.finish()
        for _ in range(options.sweeper):
            for point in ("rescuing", "rescued"):
                if kill_sweeper(arena, point, missed):
                    died.append(point)
            if kill_leaver(arena, missed):
                died.append("returning")
            arena.finish()
        wanted = options.rounds * len(points.NAMES) + 3 * options.sweeper
        report.add("deaths at their point", len(died), str(wanted), len(died) == wanted)
        report.note("died at", died)
        if missed:
            report.note("missed", missed)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
