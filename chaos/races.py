"""Verbs against each other, from several processes and threads (C12 to C17).

    cancel   a job is cancelled while it is claimed, run and completed
    clean    finished jobs are removed while others retry them
    unique   of jobs of one key one waits or runs, and the others are told of it
    wake     single jobs for idle workers: no bell is missed
    count    every job writes the same object: the sum is exact
    cost     what a commit costs an adder who meets a claim, with a long queue
"""
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import transaction  # noqa: E402

from chaos import caps, harness  # noqa: E402
from lovely.remotetask.errors import RemoteTaskError  # noqa: E402

RACES = ("cancel", "clean", "unique", "wake", "count", "cost")
WAKE_SECONDS = 2.0     # from an add's commit to the start: a nap of one, and some
KEYS = 5               # of unique jobs
COST_SECONDS = 0.010   # of an adder's commit beyond that with an empty queue
QUEUED = 100_000


def race_cancel(arena, report, options):
    """One outcome each, and the canceller was told which."""
    for _ in range(2):
        arena.ready()
    told, lock = {}, threading.Lock()

    def race(number):
        for _ in range(number):
            with lock:
                pause, input = arena.chance.uniform(0, 0.03), arena.transfer(0.005)
            id = arena.add(input=input)
            time.sleep(pause)
            answer, = arena.ask("cancel", ids=[id])
            told[id] = answer["error"] is None
    _threads(race, options.races // 4)
    arena.finish()
    with arena.desk() as desk:
        effects = desk.effects
        status = {id: desk.service.getStatus(id) for id in told}
    wrong = [id for id, word in status.items() if effects.get(id, 0) != (word == "completed")
             or told[id] != (word == "cancelled")]
    report.add("cancel: races", len(told))
    report.add("cancel: cancelled", sum(word == "cancelled" for word in status.values()))
    report.add("cancel: both, neither or told wrongly", len(wrong), "0", not wrong)


def race_clean(arena, report, options):
    """A job that is removed and retried at once is either gone or runs."""
    arena.ready()
    ids = arena.add_many(options.races, task="chaos.fail", input=0)
    harness.wait_until(lambda: not (arena.counts() or {"queued": 1})["queued"],
                       "the jobs to fail")
    time.sleep(1)    # what ended is folded in
    removed, retried, lock = set(), set(), threading.Lock()
    wanted = set(ids)

    def race(_):
        while True:
            with lock:
                if not ids:
                    return
                id, remove = ids.pop(), arena.chance.random() < 0.5
            threads = [threading.Thread(target=verb, args=(id,)) for verb in (
                (take_out, retry) if remove else (retry, take_out))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def take_out(id):
        if _done(arena, lambda service: service.remove(id)):
            removed.add(id)

    def retry(id):
        if _done(arena, lambda service: service.retry(id)):
            retried.add(id)

    _threads(race, 0)
    arena.finish()
    jobs = arena.jobs()
    wrong = [id for id in wanted if (id in jobs) == (id in removed)
             or id in jobs and (jobs[id].status == "completed") != (id in retried)]
    arena.acknowledged -= removed
    report.add("clean: races", len(wanted))
    report.add("clean: removed", len(removed))
    report.add("clean: retried", len(retried))
    report.add("clean: both or neither", len(wrong), "0", not wrong)


def _done(arena, verb):
    """Whether a verb was done, or else refused."""
    def attempt():
        with arena.desk() as desk:
            verb(desk.service)
    try:
        harness.again(attempt)
    except (RemoteTaskError, KeyError):
        return False
    return True


def race_unique(arena, report, options):
    """All that add one of the same key at once find one job, and only one of it runs."""
    workers = [arena.ready() for _ in range(2)]
    found = []

    def race(number):
        for turn in range(number):
            key = f"key-{turn % KEYS}"
            id = arena.add("chaos.locked", key, unique=key)
            if id is not None:
                found.append(id)
    _threads(race, options.races // 4)
    arena.finish()
    untold = set(arena.jobs()) - set(found)
    spans = caps.spans(workers)
    most = max(caps.most_at_once([span for span in spans if span[3] == f"key-{number}"])
               for number in range(KEYS))
    report.add("unique: adds", len(found))
    report.add("unique: jobs made", len(set(found)))
    report.add("unique: jobs of which nobody was told", len(untold), "0", not untold)
    report.add("unique: at once of one key", most, "1", most <= 1)


def race_wake(arena, report, options):
    """A single job is begun soon, whenever it comes."""
    workers = [arena.ready() for _ in range(2)]
    seconds = []
    for number in range(min(options.races, 200)):
        time.sleep(arena.chance.uniform(0, 0.3))
        arena.add(task="chaos.tick")
        moment = time.monotonic()
        harness.wait_until(lambda number=number: sum(
            len(worker.said("ticks")) for worker in workers) > number, "a tick")
        seconds.append(max(0, max(
            line.moment for worker in workers for line in worker.said("ticks")) - moment))
    arena.finish()
    report.times("wake: until it begins", seconds, slowest=WAKE_SECONDS)


def race_count(arena, report, options):
    """All write one object: conflicts are repeated, and each counts once."""
    for _ in range(2):
        arena.ready()
    arena.add_many(options.races // 4, task="chaos.count", input=0.001, retries=100)
    arena.finish(seconds=600)
    with arena.desk() as desk:
        value = desk.ledger["counter"]["value"]
    report.add("count: jobs on one counter", options.races // 4)
    report.add("count: its value", value, str(options.races // 4),
               value == options.races // 4)


def race_cost(arena, report, options):
    """An adder commits after a claim that it has not seen; nobody else is there."""
    few = _cost(arena, 0)
    queued = QUEUED if not options.brief else QUEUED // 20
    many = _cost(arena, queued)
    report.add("cost: commit of an adder, empty", f"{few * 1000:.1f} ms")
    report.add(f"cost: with {queued:,} queued", f"{many * 1000:.1f} ms",
               f"{(few + COST_SECONDS) * 1000:.1f} ms",
               None if options.brief else many <= few + COST_SECONDS)


def _cost(arena, queued):
    """Seconds of such a commit, the median of some."""
    for _ in range(0, queued, 5_000):
        with arena.desk() as desk:
            desk.service.addMany("chaos.nothing", [0] * 5_000)
    db, seconds = arena.database(), []
    managers = [transaction.TransactionManager() for _ in range(2)]
    connections = [db.open(manager) for manager in managers]
    adder, claimer = (connection.root()["tasks"] for connection in connections)
    for _ in range(15):
        managers[0].begin()
        adder.add("chaos.nothing", 0)
        managers[1].begin()
        claimer.claimNextJob()
        managers[1].commit()
        begun = time.monotonic()
        try:
            managers[0].commit()
        except transaction.interfaces.TransientError:
            managers[0].abort()
        seconds.append(time.monotonic() - begun)
    for manager, connection in zip(managers, connections):
        manager.abort()
        connection.close()
    with arena.desk() as desk:
        for id in list(desk.service.jobs):
            desk.service.cancel(id)
    return sorted(seconds)[len(seconds) // 2]


def _threads(target, number):
    threads = [threading.Thread(target=target, args=(number,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    options = harness.arguments(
        __doc__, storages=("zeo", "postgresql", "sqlite"), default="zeo",
        races=(2_000, 120, "of each kind"), choices={"race": RACES})
    report = harness.Report("races", options)
    for name in [options.race] if options.race else RACES:
        with harness.Arena(options) as arena:
            globals()[f"race_{name}"](arena, report, options)
            verdict = arena.verdict() if name != "cost" else None
        if verdict is not None:
            wrong = {key: number for key, number in verdict._asdict().items()
                     if number and key in ("lost", "duplicated", "missing", "unearned",
                                           "orphaned", "unbalanced")}
            report.add(f"{name}: wrong at the end", wrong or 0, "0", not wrong)
            report.texts += verdict.texts if wrong else ()
    return report.show()


if __name__ == "__main__":
    harness.command(main)
