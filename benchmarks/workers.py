"""One to four worker processes on one queue: how they scale, and how often they meet.

Jobs that wait 20 ms, one thread a process: the ideal is that twice the processes take
half the time.  Then jobs that do nothing but write an effect, drained by four processes
while four others add: how many conflicts a job.
"""
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import engines  # noqa: E402
import transaction  # noqa: E402
from tools import measure  # noqa: E402

from lovely.remotetask import lifecycle  # noqa: E402
from lovely.remotetask.cli import databases  # noqa: E402
from lovely.remotetask.processor import SimpleProcessor  # noqa: E402
from lovely.remotetask.runtime.publication import Publication  # noqa: E402
from lovely.remotetask.task import task  # noqa: E402
from lovely.remotetask.tests import servers  # noqa: E402

PAUSE = 0.02     # seconds that a job waits
SCALE = 0.9      # of ideal, at least
CONFLICTS = 0.05


@task("benchmarks.wait")
def wait(input):
    """Wait for something outside."""
    threading.Event().wait(PAUSE)


# -- in processes of their own: commands come in on standard input, answers go out


def work(uri):
    """Work until the input ends; tell how many conflicts there were."""
    meetings = []
    transact = Publication.transact

    def counted(self, *args, **kwargs):
        before = self.conflicts
        try:
            return transact(self, *args, **kwargs)
        finally:
            meetings.append(self.conflicts - before)
    Publication.transact = counted
    measure.countdown.start(-1)
    db = databases.find(uri).open()
    runner = SimpleProcessor(db, ["tasks"])
    thread = threading.Thread(target=runner)
    thread.start()
    say(ready=True)
    sys.stdin.read()
    runner.stop(grace=5.0)
    thread.join()
    dispatcher = runner.dispatcher
    say(done=dispatcher.done_count, runs=dispatcher.conflicts, books=sum(meetings))
    db.close()


def add(uri, count):
    """Add so many jobs, each in a transaction of its own; tell of conflicts."""
    db = databases.find(uri).open()
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    measure.countdown.start(-1)
    say(ready=True)
    sys.stdin.readline()
    conflicts = 0
    for number in range(count):
        for attempt in manager.attempts(50):
            with attempt:
                conflicts += 1
                connection.root()["tasks"].add("benchmarks.apart", {"number": number})
        conflicts -= 1
    say(added=count, conflicts=conflicts)
    manager.abort()
    connection.close()
    db.close()


def say(**facts):
    print(json.dumps(facts), flush=True)


class Process:
    """One of these, seen from outside."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, __file__, *map(str, arguments)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark has died")
        return json.loads(line)

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        answer = self.answer()
        self.process.wait(30)
        return answer


# -- the questions


def scaling(bench, uri, processes, count):
    """Jobs a second of so many processes, as part of the ideal of one that only waits."""
    workers = [Process("--work", uri) for _ in range(processes)]
    bench.bulk(count, "benchmarks.wait", "tasks")
    begun = time.perf_counter()
    finished(bench, count)
    taken = time.perf_counter() - begun
    answers = [each.end() for each in workers]
    ideal = count * PAUSE / processes
    return ideal / taken, answers


def meeting(bench, uri, count):
    """Conflicts a job with four workers: in a drain, and while four add."""
    found = {}
    for adders in (0, 4):
        workers = [Process("--work", uri) for _ in range(4)]
        adding = [Process("--add", uri, count // 4) for _ in range(adders)]
        if adders:
            for each in adding:
                each.go()
            answers = [each.end() for each in adding]
            found["adders"] = sum(each["conflicts"] for each in answers) / count
        else:
            bench.bulk(count, "benchmarks.apart", "tasks")
        finished(bench, count)
        answers = [each.end() for each in workers]
        found["adding" if adders else "drain"] = sum(
            each["runs"] + each["books"] for each in answers) / count
        found["shares" if adders else "drain shares"] = [each["done"] for each in answers]
    return found


def finished(bench, count):
    """Wait until so many more jobs are completed."""
    service = bench.root["tasks"]
    goal = bench.done = getattr(bench, "done", 0) + count
    while True:
        bench.manager.begin()
        if service.counts()[lifecycle.COMPLETED] >= goal:
            return
        threading.Event().wait(0.2)  # looking costs those who work


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--storage", choices=servers.NAMES[1:], action="append",
                        help="only these; all by default")
    parser.add_argument("--work", help=measure.argparse.SUPPRESS)
    parser.add_argument("--add", nargs=2, help=measure.argparse.SUPPRESS)
    options = parser.parse_args()
    measure.quiet()
    if options.work:
        return work(options.work)
    if options.add:
        return add(options.add[0], int(options.add[1]))
    measure.end_tidily()
    report = measure.Report("Worker processes", options)
    number, count = (40, 200) if options.brief else (250, 2_000)
    for name in options.storage or servers.NAMES[1:]:
        with tempfile.TemporaryDirectory(prefix="remotetask-bench-") as directory, \
                servers.storages(directory)[name] as server, \
                closing(engines.Bench(server.uri)) as bench:
            bench.root["tasks"].configure(retain_count=0, retain_completed=0)
            bench.manager.commit()
            alone = None
            for processes in (1, 2, 4) if options.brief else (1, 2, 3, 4):
                found, _ = scaling(bench, server.uri, processes, number * processes)
                alone = alone or found
                report.add(f"{name}: {processes} workers, jobs that wait 20 ms",
                           found * processes / PAUSE, "a second", found / alone,
                           f"{SCALE} of {processes} times one" if processes > 1 else None,
                           found / alone >= SCALE if processes > 1 else None)
            found = meeting(bench, server.uri, count)
            for what, label in (("drain", "in a drain"), ("adding", "while four add"),
                                ("adders", "of the adders")):
                report.add(f"{name}: conflicts {label}, four workers", found[what],
                           "a job", None, f"{CONFLICTS} or fewer",
                           found[what] <= CONFLICTS)
            bench.manager.begin()
            faults = bench.root["tasks"].check()
            if faults:
                raise SystemExit(f"the books are wrong: {faults}")
    report.show()


if __name__ == "__main__":
    main()
