"""How many jobs a second: added one by one, added in bulk, and worked off.

Everything is durable: an add is a commit, and so is the end of each job.  Ratios
are to a bare commit of one object and one entry of a BTree, made in turns with
it on the same disk by one thread that does nothing else.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tools import measure  # noqa: E402

from lovely.remotetask.processor import (  # noqa: E402
    MultiProcessor, SimpleProcessor)


def main():
    options = measure.arguments(__doc__).parse_args()
    measure.quiet()
    number, count = (3, 300) if options.brief else (9, 2_000)
    report = measure.Report("Jobs per second", options)
    with measure.Bare() as bare, measure.Desk() as adding, measure.Desk() as draining:
        def drain(kind, **arguments):
            draining.add_bulk(count, name="benchmarks.counted")
            draining.settle()
            draining.mark()
            before = draining.bytes
            rate = draining.drain(count, kind, **arguments)
            costs[kind].append(((draining.bytes - before) / count,
                                draining.commits / count))
            return rate

        costs = {SimpleProcessor: [], MultiProcessor: []}
        bare.add(count // 4)
        adding.add(count // 4)
        drain(SimpleProcessor)
        adding.mark()
        bytes_before = adding.bytes
        figures = measure.rounds({
            "bare": lambda: bare.add(count),
            "add": lambda: adding.add(count),
            "bare bulk": lambda: bare.add(count * 5, 1_000),
            "bulk": lambda: adding.add_bulk(count * 5),
            "one": lambda: drain(SimpleProcessor),
            "several": lambda: drain(MultiProcessor, maxThreads=4),
        }, number)
        added = number * count * 6
        add_bytes = (adding.bytes - bytes_before) / added
        base = figures["bare"]

        def row(what, name, against, aim=None, least=None, rate=None):
            found = measure.ratio(figures[name], figures[against])
            figure = measure.median(figures[name])
            met = None if aim is None else \
                found >= least if rate is None else figure >= rate
            report.add(what, figure, "a second", found, aim, met)

        report.add("bare commit, an object and an entry", measure.median(base),
                   "a second", 1.0)
        row("add, a transaction each", "add", "bare", "ratio 0.60", 0.60)
        report.add("bare, 1,000 a commit", measure.median(figures["bare bulk"]),
                   "a second", measure.ratio(figures["bare bulk"], base))
        row("addMany, 1,000 a transaction", "bulk", "bare", "20,000 a second",
            rate=20_000)
        row("drain, SimpleProcessor", "one", "bare", "ratio 0.50", 0.50)
        row("drain, MultiProcessor, 4 threads", "several", "bare")
        for kind, name in ((SimpleProcessor, "SimpleProcessor"),
                           (MultiProcessor, "MultiProcessor")):
            size, commits = zip(*costs[kind])
            report.add(f"claim to end, {name}: written", measure.median(size),
                       "bytes/job")
            report.add(f"claim to end, {name}: commits", measure.median(commits),
                       "a job")
        report.add("adding, both kinds: written", add_bytes, "bytes/job")
    report.show()


if __name__ == "__main__":
    main()
