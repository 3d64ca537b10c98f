"""Other task queues and ours, beside each other in one run.

How many short jobs a second a worker gets through that finds a backlog, by one slot
and with what makes it faster (ours: short jobs that share a transaction; others: eight
slots), as a ratio to a bare ZODB loop on FileStorage; from the enqueue's return to the
start of the job by an idle worker; and 500 jobs that sleep 20 ms on ten slots.

Each worker is a process of its own, but for FileStorage, which has one.  Servers are
private.  Redis runs with appendonly yes and appendfsync always, SQLite and PostgreSQL
sync each commit.  What is not installed (pip install lovely.remotetask[peers]) is left
out, with a line that says so.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import engines  # noqa: E402
from tools import measure  # noqa: E402
from tools import peers as queues  # noqa: E402

from lovely.remotetask.tests import servers  # noqa: E402

SLOTS = 8           # of others, where ours share transactions
SILENCE = 0.05      # seconds between a job and the next, for the latency
GROUPED = 500       # jobs at least that share transactions: fewer tell nothing
WARM = 10           # one in so many jobs of a backlog is not counted: the first ones
GRACE = 2.0         # seconds that a worker without work may take to end
BOUND = 120.0       # seconds for a backlog
AIMS = {"ours-file": 1.0, "ours-zeo": 3.0}  # milliseconds of latency, median


class Party:
    """A peer, with the file that its jobs write to."""

    def __init__(self, name, where, directory):
        self.name, self.where = name, where
        self.kind = queues.PEERS[name]
        self.peer = self.kind(where)
        self.stamps = directory / f"{name}.stamps"
        self.log = directory / f"{name}.log"
        self.ours = isinstance(self.peer, queues.Ours)

    def empty(self):
        self.stamps.write_bytes(b"")
        os.environ[queues.STAMPS] = str(self.stamps)

    def wait(self, count, glance=0.005):
        """Wait for so many effects; their moments."""
        end = time.monotonic() + BOUND
        while self.stamps.stat().st_size < count * 8:
            if time.monotonic() > end:
                raise SystemExit(
                    f"{self.name}: {count} jobs are not done in {BOUND:.0f} s\n"
                    + self.log.read_text(errors="replace")[-2000:])
            time.sleep(glance)
        return queues.stamps(self.stamps)

    @contextmanager
    def working(self, slots):
        """With a worker of so many slots."""
        if not self.kind.own_process:
            with self.peer.working(slots):
                yield
            return
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, "--work", self.name, self.where, str(slots)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        try:
            yield
        finally:
            end(process)

    # -- the questions

    def drain(self, count, kind="stamp", slots=1):
        """Jobs a second of a backlog, and how many a second were added before."""
        self.empty()
        begun = time.perf_counter()
        self.peer.fill(count, self.named(kind))
        added = count / (time.perf_counter() - begun)
        if self.ours:
            self.peer.settle()
        with self.working(slots):
            found = self.wait(count)
        first = count // WARM
        return (count - first) / (found[-1] - found[first - 1]), added

    def latency(self, count):
        """Milliseconds from the enqueue's return to the start, of each job."""
        self.empty()
        found = []
        if self.ours:
            self.peer.open()
        with self.working(1):
            for number in range(count + 3):
                self.peer.fill(1, "stamp")
                returned = time.perf_counter()
                found.append((self.wait(number + 1, 0.002)[-1] - returned) * 1000)
                time.sleep(SILENCE)
        return found[3:]

    def sleepers(self, count):
        """Seconds for so many jobs that sleep, on ten slots which are idle before."""
        self.empty()
        if self.ours:
            self.peer.open()
        with self.working(10):
            self.peer.fill(20, "stamp")
            self.wait(20)
            begun = time.perf_counter()
            self.peer.fill(count, "pause")
            return self.wait(count + 20)[-1] - begun

    def named(self, kind):
        """Ours: what is compared with a loop that writes an effect writes one."""
        return "effect" if self.ours and kind == "stamp" else kind


def end(process):
    """End a worker and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE if number == signal.SIGTERM else None)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


@contextmanager
def parties(names, directory):
    """{name: Party} of those that there are, with their servers."""
    kinds = {**servers.KINDS, "redis": queues.RedisServer}
    found, running, absent = {}, {}, {}
    with ExitStack() as stack:
        for name in names:
            kind = queues.PEERS[name]
            lacks = kind.missing() and f"the package {kind.missing()} is not installed"
            server = None if lacks else kind.server
            if server is not None and server not in running and server not in absent:
                try:
                    running[server] = stack.enter_context(
                        kinds[server](directory / server))
                except unittest.SkipTest as error:
                    absent[server] = str(error)
            lacks = lacks or absent.get(server)
            if lacks:
                print(f"{kind.title} is left out: {lacks}", file=sys.stderr)
                continue
            where = directory / name if server is None else running[server].uri
            if server is None:
                where.mkdir()
            found[name] = Party(name, str(where), directory)
            stack.callback(found[name].peer.close)
        yield found


def main():
    parser = measure.arguments(__doc__)
    parser.add_argument("--peer", choices=queues.PEERS, action="append",
                        help="only these; all by default")
    parser.add_argument("--rounds", type=int, default=3,
                        help="how often the backlogs take turns; 3 by default")
    parser.add_argument("--work", nargs=3, help=measure.argparse.SUPPRESS)
    options = parser.parse_args()
    measure.quiet()
    if options.work:
        name, where, slots = options.work
        return queues.PEERS[name](where).work(int(slots))
    measure.end_tidily()
    report = measure.Report("Beside other task queues", options)
    with tempfile.TemporaryDirectory(prefix="remotetask-bench-") as folder, \
            parties(options.peer or asked(options), Path(folder)) as found:
        (Path(folder) / "bare").mkdir()
        with closing(engines.Bench(f"file://{folder}/bare/Data.fs")) as bench:
            drains(report, found, bench, options)
        for party in found.values():
            latency(report, party, 3 if options.brief else 50)
        for party in found.values():
            if not options.brief:
                sleepers(report, party, 500)
    report.show()


def asked(options):
    """Names of all; a short look is content with two of ours."""
    return [name for name in queues.PEERS if not options.brief
            or name not in ("ours-postgresql", "ours-sqlite")]


def drains(report, found, bench, options):
    """Backlogs: the yardstick and all the others take turns."""
    number, count = (1, 50) if options.brief else (options.rounds, 1_000)

    def sized(party):
        return max(int(count * party.kind.backlog), 50)

    cases = {"bare": lambda: bench.bare_drain(count)}
    for name, party in found.items():
        cases[name] = lambda party=party: party.drain(sized(party))
        if party.ours:
            cases[name, "best"] = lambda party=party: party.drain(
                max(count, GROUPED), "grouped")
        elif not options.brief:
            cases[name, "best"] = lambda party=party: party.drain(
                sized(party), slots=SLOTS)
    figures = measure.rounds(cases, number)
    base = figures.pop("bare")
    report.add("bare loop, FileStorage", measure.median(base), "a second", 1.0)
    for name, party in found.items():
        title = party.kind.title
        rates, added = zip(*figures[name])
        report.add(f"{title}: one by one", measure.median(rates), "a second",
                   measure.ratio(rates, base))
        if (name, "best") in figures:
            rates, _ = zip(*figures[name, "best"])
            how = "grouped" if party.ours else f"{SLOTS} slots"
            report.add(f"{title}: {how}", measure.median(rates), "a second",
                       measure.ratio(rates, base))
        report.add(f"{title}: added, each by itself", measure.median(added), "a second")


def latency(report, party, count):
    figures = party.latency(count)
    middle, aim = measure.median(figures), AIMS.get(party.name)
    report.add(f"{party.kind.title}: enqueued -> starts, median", middle, "ms", None,
               aim and f"{aim:.0f} ms", None if aim is None else middle <= aim)


def sleepers(report, party, count):
    taken = party.sleepers(count)
    report.add(f"{party.kind.title}: {count} jobs sleep 20 ms on ten slots", taken, "s",
               count * queues.PAUSE / 10 / taken)


if __name__ == "__main__":
    main()
