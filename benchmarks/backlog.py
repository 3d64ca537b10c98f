"""What a backlog costs: the same verbs with a thousand, 100,000 and a million jobs.

Each size comes twice: that many jobs that wait, and that many that are finished.
All are open at once and take turns, a bare commit between them.  Ratios are to the
case of a thousand jobs.  At the end a process of its own opens the largest
database, with its index and as kill -9 leaves it, and tells its memory.
"""
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tools import measure  # noqa: E402

from lovely.remotetask import clock  # noqa: E402
from lovely.remotetask.clerk import Want  # noqa: E402
from lovely.remotetask.runtime import rescue  # noqa: E402
from lovely.remotetask.runtime.context import JobContext  # noqa: E402
from lovely.remotetask.runtime.publication import Publication  # noqa: E402

SIZES, BRIEF_SIZES = (1_000, 100_000, 1_000_000), (1_000, 5_000)
AIM_VERB = 5_000     # microseconds: an add and a claim, 99 % of them
AIM_MEMORY = 120     # MiB of a process that has opened the largest
AIM_START = 5.0      # seconds to open it and add a job, after kill -9
NAME = "the dispatcher of this benchmark"
KINDS = ("waiting", "finished")
READS = {
    "counts()": lambda service: service.counts(),
    "queueLength()": lambda service: service.queueLength(),
    "oldestWaiting()": lambda service: service.oldestWaiting(),
    "listJobs(), a page of 50": lambda service: service.listJobs(),
    "listJobs(status=…)": lambda service: service.listJobs(status="queued"),
    "listJobs(task=…)": lambda service: service.listJobs(task="benchmarks.nothing"),
}


class Backlog(measure.Desk):
    """A service with so many jobs that wait, or are finished."""

    def __init__(self, size, kind):
        super().__init__()
        self.size, self.kind = size, kind
        self.spent = {"add": [], "claim of one": []}  # microseconds of each
        begun = time.perf_counter()
        self.fill(size, clock.micros() if kind == "finished" else None)
        self.filled = time.perf_counter() - begun
        rescue.living.add(NAME)

    def verbs(self, count):
        """Microseconds of an add, of a claim, and of a run with its end."""
        adds = [1e6 / self.add(1) for _ in range(count)]
        micros = {"add": sum(adds) / count}
        self.spent["add"] += adds
        self.settle()
        desk = Publication(self.db, ["tasks"])
        claims, spent = [], []
        for _ in range(count):
            begun = time.perf_counter()
            claims += desk.transact("dispatch", NAME, want=Want(1, 1, alone=True),
                                    known={claim.id for claim in claims}).claims
            spent.append((time.perf_counter() - begun) * 1e6)
        micros["claim of one"] = sum(spent) / count
        self.spent["claim of one"] += spent
        begun = time.perf_counter()
        outcomes = [desk.attempt(claim, JobContext(claim.id), NAME) for claim in claims]
        micros["run and end of one"] = (time.perf_counter() - begun) / count * 1e6
        begun = time.perf_counter()
        desk.transact("dispatch", NAME, finished=outcomes, fold=True)
        micros["folding in, each"] = (time.perf_counter() - begun) / count * 1e6
        desk.transact("handBack", NAME, close=True)
        desk.close()
        return micros

    def reads(self, times, cold=False):
        """Microseconds of each reading verb."""
        micros = {}
        self.manager.begin()
        for name, read in READS.items():
            read(self.service)
            spent = []
            for _ in range(times):
                if cold:
                    self.connection.cacheMinimize()
                begun = time.perf_counter()
                read(self.service)
                spent.append(time.perf_counter() - begun)
            micros[name + (", cold" if cold else "")] = measure.median(spent) * 1e6
        return micros


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append",
                        help="only these jobs; both by default")
    parser.add_argument("--child", help="for the script's own use")
    options = parser.parse_args()
    measure.quiet()
    if options.child:
        return child(options.child)
    sizes, number, count = (BRIEF_SIZES, 2, 30) if options.brief else (SIZES, 7, 100)
    report = measure.Report("The same with a thousand jobs and with a million", options)
    with measure.Bare() as bare:
        for kind in options.kind or KINDS:
            one_kind(report, bare, kind, sizes, number, count)
    report.show()


def one_kind(report, bare, kind, sizes, number, count):
    stores = {size: Backlog(size, kind) for size in sizes}
    found = {size: [] for size in sizes}
    unit = []
    for _ in range(number):
        for size, store in stores.items():
            unit.append(1e6 / bare.add(count))
            found[size].append({**store.verbs(count), **store.reads(10),
                                **store.reads(3, cold=True)})
    report.add(f"{kind}: bare commit meanwhile", measure.median(unit), "us")
    figures = {name: {size: [round[name] for round in found[size]] for size in sizes}
               for name in found[sizes[0]][0]}
    report.grid(f"{kind} jobs, us", sizes, [
        (name, {size: measure.median(values[size]) for size in sizes},
         measure.ratio(values[sizes[-1]], values[sizes[0]]))
        for name, values in figures.items()])
    largest = stores[sizes[-1]]
    for verb, spent in largest.spent.items():
        figure = measure.percentile(spent, 99)
        report.add(f"{kind} {sizes[-1]:>9,}: {verb}, 99 % are below", figure, "us", None,
                   f"{AIM_VERB:,} us", figure <= AIM_VERB)
    for size, store in stores.items():
        store.manager.begin()
        faults = store.service.check() if size <= 100_000 else []
        if faults:
            raise SystemExit("\n".join(["the books do not agree:", *faults[:10]]))
    report.add(f"{kind} {sizes[-1]:>9,}: jobs a second while filling",
               largest.size / largest.filled, "a second")
    report.add(f"{kind} {sizes[-1]:>9,}: Data.fs", largest.bytes / 2**20, "MiB")
    directory, largest.own = largest.directory, False
    try:
        for store in stores.values():
            store.close()
        for killed in (False, True):
            told = open_once(directory, killed)
            how = "after kill -9, no index file" if killed else "clean"
            for what, unit in (("open and first add", "s"), ("memory at once", "MiB"),
                               ("memory after 200 adds and 20 pages", "MiB")):
                aim = AIM_START if unit == "s" else AIM_MEMORY
                report.add(f"{kind} {sizes[-1]:>9,}: {how}, {what}", told[what], unit,
                           None, f"{aim:g} {unit}", told[what] <= aim)
    finally:
        measure.shutil.rmtree(directory, ignore_errors=True)


def open_once(directory, killed):
    """What a process of its own tells of opening a database; it kills itself."""
    if killed:
        (directory / "Data.fs.index").unlink(missing_ok=True)
    run = subprocess.run(
        [sys.executable, __file__, "--child", str(directory)], text=True,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    if run.returncode != -signal.SIGKILL:
        raise SystemExit(f"the child has ended with {run.returncode}")
    return json.loads(run.stdout)


def child(directory):
    began = time.perf_counter()
    desk = measure.Desk(directory)
    desk.add(1)
    opened, memory = time.perf_counter() - began, resident()
    desk.add(200)
    for read in READS.values():
        for _ in range(4):
            read(desk.service)
    print(json.dumps({"open and first add": opened, "memory at once": memory,
                      "memory after 200 adds and 20 pages": resident()}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def resident():
    """MiB of memory that this process holds now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
