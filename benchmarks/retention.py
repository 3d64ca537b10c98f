"""What it takes to remove a hundred thousand finished jobs.

They are older than the settings allow, and go by themselves while the service runs.
Shown are the largest transaction, how long it takes in all, and how long a job that
is added meanwhile waits for its start.
"""
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import latency  # noqa: E402
from tools import measure  # noqa: E402
from transaction.interfaces import TransientError  # noqa: E402

from lovely.remotetask import clock  # noqa: E402
from lovely.remotetask.processor import SimpleProcessor  # noqa: E402

AIM = 1_000_000  # bytes of the largest transaction
DAY = 86_400_000_000


def main():
    options = measure.arguments(__doc__).parse_args()
    measure.quiet()
    number, rows = (3_000, 1_000) if options.brief else (100_000, 5_000)
    report = measure.Report("Retention", options)
    with measure.Bare() as bare, measure.Desk() as desk:
        before = 1e6 / bare.add(rows)
        desk.fill(number, clock.micros() - 8 * DAY)
        desk.mark()
        size = desk.bytes
        begun = time.perf_counter()
        waits, conflicts = meanwhile(desk)
        taken = time.perf_counter() - begun
        unit = (before + 1e6 / bare.add(rows)) / 2
        each = taken / number * 1e6
        largest, commits = desk.largest_commit(), desk.commits
        report.add("bare commit", unit, "us", 1.0)
        report.add(f"{number:,} jobs removed in", taken, "s")
        report.add("  a job", each, "us", each / unit)
        report.add("  largest transaction", largest / 1000, "kB", None,
                   "less than 1,000 kB", largest < AIM)
        report.add("  transactions", commits, "")
        report.add("  written, a job", (desk.bytes - size) / number, "bytes")
        report.add("a job added meanwhile starts after, median",
                   measure.median(waits), "ms", measure.median(waits) * 1000 / unit)
        report.add("  longest", max(waits), "ms")
        report.add("  conflicts of such an add with the removing", conflicts / len(waits),
                   "an add")
        desk.manager.begin()
        faults = desk.service.check()
        if faults:
            raise SystemExit("\n".join(["the books do not agree:", *faults[:10]]))
    report.show()


def meanwhile(desk):
    """Start the service, and add a job now and then until all old ones are gone."""
    runner = SimpleProcessor(desk.db, ["tasks"])
    thread = threading.Thread(target=runner, daemon=True)
    waits, conflicts = [], 0
    thread.start()
    while True:
        try:
            waits.append(latency.one(desk)[0] * 1000)
        except TransientError:
            desk.manager.abort()
            conflicts += 1
            continue
        if desk.service.index.sizes["completed"]() <= len(waits):
            break
        time.sleep(0.05)
    runner.stop(5.0)
    thread.join(30)
    return waits, conflicts


if __name__ == "__main__":
    main()
