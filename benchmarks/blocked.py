"""What jobs cost others that wait behind a limit: a thousand, and 100,000 of them.

All are of a task of which one may run at once, and one runs.  They are alike, and make
one line of the queue; or each has a lock of its own, and makes a line of its own.
Beside them single jobs without a limit are claimed, and the only slot is handed on.
All sizes are open at once and take turns, a bare commit between them.
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tools import measure  # noqa: E402

from lovely.remotetask.clerk import Want  # noqa: E402
from lovely.remotetask.runtime import rescue  # noqa: E402
from lovely.remotetask.runtime.context import JobContext  # noqa: E402
from lovely.remotetask.runtime.publication import Publication  # noqa: E402
from lovely.remotetask.task import task  # noqa: E402

SIZES, BRIEF_SIZES = (1_000, 10_000, 100_000), (200, 1_000)
KINDS = {"alike": "alike", "keyed": "with a lock each"}
PER_COMMIT = 1_000


@task("benchmarks.capped", concurrency=1)
def capped(input):
    """Do nothing, one at a time."""


class Blocked(measure.Desk):
    """A service with so many jobs behind one limit, and two workers."""

    def __init__(self, size, kind):
        super().__init__()
        rescue.living.update(("one", "two"))
        for first in range(0, size, PER_COMMIT):
            self.manager.begin()
            number = min(PER_COMMIT, size - first)
            if kind == "alike":
                self.service.addMany("benchmarks.capped", range(number))
            for each in range(number if kind == "keyed" else 0):
                self.service.add("benchmarks.capped", each, locks=[f"key-{first + each}"])
            self.manager.commit()
        self.settle()
        self.desk = Publication(self.db, ["tasks"])
        self.claims = {"one": [], "two": []}
        self.look("one")
        # What waits is set aside by those that look at it first, some at a time.
        self.first = []
        while True:
            found, micros = self.look("two")
            self.first.append(micros)
            if not found.more:
                break

    def close(self):
        self.desk.close()
        super().close()

    def look(self, name, finished=()):
        """What a dispatcher finds that has one free thread; and microseconds."""
        held = self.claims[name]
        begun = time.perf_counter()
        found = self.desk.transact(
            "dispatch", name, finished=finished, fold=bool(finished),
            want=Want(1, 1, lines=dict.fromkeys((each.line for each in held), 1)),
            known={claim.id for claim in held})
        self.claims[name] = held + found.claims
        return found, (time.perf_counter() - begun) * 1e6

    def end(self, name):
        """Run and end what a worker has claimed."""
        outcomes = [self.desk.attempt(claim, JobContext(claim.id), name)
                    for claim in self.claims[name]]
        self.claims[name] = []
        return outcomes

    def verbs(self, count):
        """Microseconds of each, the median of so many."""
        spent = {"claim of a job without a limit": [], "a look that finds nothing": [],
                 "the slot is handed on to the next": []}
        for _ in range(count):
            self.add(1)
            self.settle()
            found, micros = self.look("two")
            assert len(found.claims) == 1, "it is not found behind the others"
            spent["claim of a job without a limit"].append(micros)
            self.look("two", self.end("two"))
            spent["a look that finds nothing"].append(self.look("two")[1])
            found, micros = self.look("one", self.end("one"))
            assert len(found.claims) == 1, "nobody has the slot"
            spent["the slot is handed on to the next"].append(micros)
        return {name: measure.median(values) for name, values in spent.items()}


def main():
    options = measure.arguments(__doc__).parse_args()
    measure.quiet()
    sizes, number, count = (BRIEF_SIZES, 2, 5) if options.brief else (SIZES, 7, 20)
    report = measure.Report("Jobs behind a limit", options)
    with measure.Bare() as bare:
        for kind in KINDS:
            one_kind(report, bare, kind, sizes, number, count)
    report.show()


def one_kind(report, bare, kind, sizes, number, count):
    stores = {size: Blocked(size, kind) for size in sizes}
    found, unit = {size: [] for size in sizes}, []
    for _ in range(number):
        for size, store in stores.items():
            unit.append(1e6 / bare.add(count))
            found[size].append(store.verbs(count))
    lines = []
    for name in found[sizes[0]][0]:
        values = {size: [round[name] for round in found[size]] for size in sizes}
        lines.append((name, {size: measure.median(values[size]) for size in sizes},
                      measure.ratio(values[sizes[-1]], values[sizes[0]])))
    report.grid(f"{KINDS[kind]}, us", sizes, lines)
    report.add(f"{KINDS[kind]}: bare commit meanwhile", measure.median(unit), "us")
    first = stores[sizes[-1]].first
    report.add(f"{KINDS[kind]}: looks until all {sizes[-1]:,} are set aside",
               len(first), "")
    report.add(f"{KINDS[kind]}: the longest of them", max(first) / 1000, "ms")
    for store in stores.values():
        store.close()


if __name__ == "__main__":
    main()
