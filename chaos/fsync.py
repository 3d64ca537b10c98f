"""fsync fails with EIO, every so often (C24).

Whether what was written is durable nobody knows then.  A FileStorage closes itself,
so its process must end with a code other than 0 within two seconds of it, and a
supervisor starts another, which looks up what was committed.  On ZEO it is the
server whose disk fails, on SQLite a worker.
"""
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import disk, harness  # noqa: E402

END_SECONDS = 2.0


def fail_worker(arena, at):
    """Have a worker's disk fail at the so-manieth sync; (seconds to its end, code), or
    None when it went on."""
    arena.add_many(20, 0.01)
    mark = arena.server.directory / "failed"
    mark.unlink(missing_ok=True)
    worker = arena.worker(**disk.environment(
        arena.directory, arena.server.directory, CHAOS_FSYNC_FAIL=str(at)))
    harness.wait_until(lambda: not worker.alive or _idle(arena), "an end", 60)
    if worker.alive:
        arena.stop_workers()
        return None
    code = worker.end()
    return worker.ended - mark.stat().st_mtime, code


def fail_server(arena, at):
    """Have the server's disk fail under two workers; seconds to its end, or None."""
    arena.close_database()
    arena.server.stop()
    mark = arena.server.directory / "failed"
    mark.unlink(missing_ok=True)
    with mock.patch.dict(os.environ, disk.environment(
            arena.directory, arena.server.directory, CHAOS_FSYNC_FAIL=str(at))):
        arena.server.start()
    while not mark.exists():
        with suppress(*harness.TROUBLE):
            arena.add_many(5, 0.01)
    try:
        harness.wait_until(lambda: not arena.server.running(), "the server to end", 10)
        seconds = time.time() - mark.stat().st_mtime
    except AssertionError:
        seconds = None
    arena.close_database()
    arena.server.kill()
    arena.server.start()
    return seconds


def _idle(arena):
    counts = arena.counts()
    return counts is not None and not counts["queued"] and not counts["processing"]


def main():
    options = harness.arguments(
        __doc__, storages=("file", "zeo", "sqlite"),
        failures=(30, 3, "how often a sync fails"))
    report = harness.Report(f"{options.failures} failing syncs", options)
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        chance = options.chance
        if options.storage == "zeo":
            for _ in range(2):
                arena.ready()
            ends = [fail_server(arena, chance.randrange(2, 30))
                    for _ in range(options.failures)]
            seconds = [each for each in ends if each is not None]
        else:
            ends = [fail_worker(arena, chance.randrange(3, 30))
                    for _ in range(options.failures)]
            seconds = [each[0] for each in ends if each is not None]
            codes = [each[1] for each in ends if each is not None]
            report.note("codes", codes)
            report.add("ended with code 0", codes.count(0), "0", 0 not in codes)
        # A SQLite database goes on: the statement has failed, and was undone.
        all_end = options.storage != "sqlite"
        report.add("ended by themselves", len(seconds),
                   str(options.failures) if all_end else "",
                   len(seconds) == options.failures if all_end else None)
        if seconds:
            report.times("from the failure to the end", seconds, slowest=END_SECONDS)
        arena.finish()
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
