"""Poison: jobs that take their process down, among innocent ones (C08, G9).

Twenty kinds, each alone among fifty innocents on four threads.  A supervisor starts
a new process whenever one has died.  The pill must be set aside by the fourth death
at the latest (one that makes all suspects, three that it has to itself), and no
innocent may be charged.
"""
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import deaths, harness  # noqa: E402

DEATHS = 4        # the first makes suspects; three convict
PROCESSES = 8     # more are not started for one pill


def swallow(arena, kind, innocents):
    """Work with one pill until all is done; how many processes it took."""
    before = arena.add_many(innocents // 2, 0.01)
    pill, = arena.add_many(1, task="chaos.pill", input=kind)
    after = arena.add_many(innocents - innocents // 2, 0.01)
    died = 0
    while died < PROCESSES:
        worker = arena.worker()
        harness.wait_until(partial(_ended, arena, worker), "the end", 60)
        if worker.alive:
            arena.stop_workers()
            break
        died += 1
    facts = arena.jobs()
    charged = [id for id in before + after if facts[id].status != "completed"
               or facts[id].crashes or facts[id].failures]
    return died, facts[pill], charged


def _ended(arena, worker):
    """Whether the process has died, or all is done."""
    if not worker.alive:
        return True
    counts = arena.counts()
    return counts is not None and not (
        counts["queued"] or counts["processing"] or counts["delayed"])


def main():
    options = harness.arguments(
        __doc__, kinds=(20, 4, "how many kinds of poison"),
        innocents=(50, 20, "jobs around each"))
    report = harness.Report(f"{options.kinds} kinds of poison", options)
    harness.Arena.threads = 4
    kinds = list(deaths.KINDS)
    if options.brief:
        kinds = options.chance.sample(kinds, options.kinds)
    kinds = kinds[:options.kinds]
    most = aside = charged = 0
    with harness.Arena(options) as arena:
        for kind in kinds:
            died, pill, others = swallow(arena, kind, options.innocents)
            most = max(most, died)
            good = pill.reason == "crashed" and 0 < died <= DEATHS
            aside += good
            charged += len(others)
            if not good:
                report.texts.append(f"{kind}: {died} processes died, it is {pill}")
        report.add("set aside", aside, str(len(kinds)), aside == len(kinds))
        report.add("deaths for one, at most", most, str(DEATHS), most <= DEATHS)
        report.add("innocents charged", charged, "0", charged == 0)
        report.judge(arena.verdict(), errors=len(kinds), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
