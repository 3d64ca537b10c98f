"""How soon the jobs of a killed worker run again (C03, C04, C05, G2).

    --from restart    the only process dies, and a new one is started
    --from sibling    another process of the same host goes on
    --from elsewhere  the dead one was on another host, as far as the other can see

Each time one job is in hand.  It is measured from the kill to the moment at which
its task begins again; after a restart, from the moment at which the new process is
at work.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

#: Aims in seconds: median, p99.
AIMS = {"restart": (1, 1), "sibling": (1, 2), "elsewhere": (31, 32)}


def after_restart(arena):
    arena.add_many(1, task="chaos.hold")
    worker = arena.ready()
    worker.wait_said("holds")
    worker.kill()
    worker = arena.worker()
    at_work = worker.wait_said("At").moment
    begun = worker.wait_said("begins")
    seconds = float(begun[2]) - at_work
    _until_settled(arena)
    arena.stop_workers()
    return seconds


def with_sibling(arena, living):
    while len(living) < 2:
        living.append(arena.ready())
    before = {worker: len(worker.said("holds")) for worker in living}
    arena.add_many(1, task="chaos.hold")
    holder = harness.wait_until(
        lambda: next((each for each in living if len(each.said("holds")) > before[each]),
                     None), "a worker to hold the job")
    living.remove(holder)
    known = len(living[0].said("begins"))
    _until_settled(arena, holding=1)
    time.sleep(arena.chance.uniform(0, 1))  # at any time between two sweeps
    moment = time.monotonic()
    holder.kill()
    begun = living[0].wait_said("begins", known + 1)
    _until_settled(arena)
    return float(begun[2]) - moment


def from_elsewhere(arena):
    arena.add_many(1, task="chaos.hold")
    there = arena.ready(REMOTETASK_HOST="elsewhere.example")
    there.wait_said("holds")
    here = arena.ready()
    moment = time.monotonic()
    there.kill()
    begun = here.wait_said("begins")
    _until_settled(arena)
    arena.stop_workers()
    return float(begun[2]) - moment


def _until_settled(arena, holding=0):
    """Until nothing but so many jobs is in hand."""
    def look():
        counts = arena.counts()
        return counts is not None and counts["queued"] == 0 \
            and counts["processing"] == holding
    harness.wait_until(look, "the jobs to end")


def main():
    options = harness.arguments(
        __doc__, kills=(100, 3, "how many processes to kill"),
        choices={"from": ("restart", "sibling", "elsewhere")})
    where = vars(options)["from"] or (
        "restart" if options.storage == "file" else "sibling")
    if options.storage == "file":
        where = "restart"  # it admits no second process
    report = harness.Report(f"recovery, {where}", options)
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        living: list = []
        seconds = [
            with_sibling(arena, living) if where == "sibling"
            else from_elsewhere(arena) if where == "elsewhere" else after_restart(arena)
            for _ in range(options.kills)]
        arena.finish()
        median, p99 = AIMS[where]
        report.times("until it runs again", seconds, median=median, p99=p99)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
