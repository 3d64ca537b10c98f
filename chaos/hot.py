"""Eight processes on one hot queue of jobs that do nothing (C11).

Each job is claimed once and takes effect once; conflicts are counted in the workers,
over all commits that claim.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

MOST_CONFLICTS = 0.2     # a job claimed


def main():
    options = harness.arguments(
        __doc__, storages=("zeo", "postgresql", "sqlite"), default="zeo",
        jobs=(10_000, 800, "jobs that do nothing"), workers=(8, 4, "processes"))
    report = harness.Report(f"{options.jobs} jobs, {options.workers} processes", options)
    with harness.Arena(options) as arena:
        for _ in range(0, options.jobs, 200):
            arena.add_many(200, task="chaos.nothing", input=0)
        begun = time.monotonic()
        workers = [arena.worker(CHAOS_STATS="1") for _ in range(options.workers)]
        for worker in workers:
            worker.wait_said("At")
        arena.finish(workers=options.workers, seconds=600)
        taken = time.monotonic() - begun
        counted = [list(map(int, worker.said("counted")[0][1:])) for worker in workers]
        claims, conflicts = (sum(each) for each in zip(*counted))
        jobs = arena.jobs().values()
        report.add("jobs a second, starts of the processes included",
                   round(options.jobs / taken))
        report.add("commits that claim", claims)
        report.add("conflicts of the books", conflicts)
        report.add("conflicts a job claimed", round(conflicts / options.jobs, 4),
                   str(MOST_CONFLICTS), conflicts / options.jobs <= MOST_CONFLICTS)
        report.add("jobs started more than once",
                   sum(facts.started > 1 for facts in jobs), "0",
                   all(facts.started <= 1 for facts in jobs))
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
