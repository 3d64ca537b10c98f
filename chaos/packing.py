"""The database is packed while jobs run (C26).

A long job reads, rests, and reads something that was changed and packed away
meanwhile: that is no error of the job, it is run again and not charged.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness, tasks  # noqa: E402


def main():
    options = harness.arguments(
        __doc__, storages=("zeo", "postgresql", "sqlite"), default="zeo",
        packs=(20, 2, "how often it is packed"), seconds=(5, 2, "that a reader rests"))
    report = harness.Report(f"{options.packs} packs under jobs", options)
    with harness.Arena(options) as arena:
        workers = [arena.ready() for _ in range(2)]
        for _ in range(options.packs):
            known = sum(len(worker.said("reads")) for worker in workers)
            for _reader in range(3):
                giver, taker = options.chance.sample(range(tasks.ACCOUNTS), 2)
                arena.add(task="chaos.read", input={
                    "from": giver, "to": taker, "seconds": options.seconds})
            harness.wait_until(lambda known=known: sum(
                len(worker.said("reads")) for worker in workers) >= known + 3, "readers")
            arena.add_many(3 * tasks.ACCOUNTS, 0)
            time.sleep(options.seconds / 2)
            arena.database().pack()
            harness.wait_until(lambda: not (arena.counts() or {"queued": 1})["queued"],
                               "the jobs to run")
        arena.finish()
        again = sum(len(worker.said("reads")) for worker in workers) - 3 * options.packs
        report.add("readers", 3 * options.packs)
        report.add("read again", again)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
