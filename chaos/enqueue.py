"""kill -9 in the middle of adding (C07): what was acknowledged is there.

Three processes add jobs, one a commit, and say each number after its commit; they
are killed at random moments and replaced, while a worker works.  On a FileStorage the
one process that may have it is killed instead, while others send it requests.
Jepsen's set checker judges: acknowledged and gone is lost; present though nobody was
told is recovered, which is allowed.
"""
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

ADDERS = 3


def kill_adders(arena, kills):
    def adder():
        return arena.start(["-m", "chaos.adder", arena.uri, str(arena.chance.random())[2:]])
    arena.ready()
    living = [adder() for _ in range(ADDERS)]
    for _ in range(kills):
        victim = living.pop(0)
        victim.wait_said("added", arena.chance.randrange(1, 40))
        victim.kill()
        living.append(adder())
    for each in living:
        each.kill()
    for process in arena.processes:
        arena.acknowledged.update(int(line[1]) for line in process.said("added"))


def kill_server(arena, kills):
    over, lock = threading.Event(), threading.Lock()

    def ask():
        while not over.is_set():
            with lock:
                input = arena.transfer(0)
            if arena.add(input=input) is None:
                over.wait(0.02)
    worker = arena.ready()
    threads = [threading.Thread(target=ask) for _ in range(ADDERS)]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        known = len(arena.acknowledged)
        harness.wait_until(lambda known=known: len(arena.acknowledged) > known, "an answer")
        time.sleep(arena.chance.uniform(0, 0.3))
        worker.kill()
        worker = arena.ready()
    over.set()
    for thread in threads:
        thread.join(harness.BOUND)


def main():
    options = harness.arguments(__doc__, kills=(200, 8, "how many processes to kill"))
    report = harness.Report(f"{options.kills} kills of who adds", options)
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        (kill_adders if arena.shared else kill_server)(arena, options.kills)
        arena.finish()
        report.add("requests without an answer", arena.unknown)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
