"""fsync fails with EIO, every so often (C24).

Whether what was written is durable nobody knows then.  A FileStorage closes itself,
so its process must end with a code other than 0 within two seconds of it, and a
supervisor starts another, which looks up what was committed.  On ZEO it is the
server whose disk fails, on SQLite a worker.
"""
import os
import sys
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import disk, harness  # noqa: E402

END_SECONDS = 2.0


def fail_worker(arena, at):
    """Have a worker's disk fail at the so-manieth sync; (seconds to its end, code)."""
    arena.add_many(20, 0.01)
    worker = arena.worker(**disk.environment(
        arena.directory, arena.server.directory, CHAOS_FSYNC_FAIL=str(at)))
    harness.wait_until(lambda: not worker.alive or _idle(arena), "an end", 60)
    if worker.alive:
        arena.stop_workers()
        return None
    return _seconds_after(worker.log), worker.end()


def _seconds_after(log):
    """From the storage's word of its failure, in the log, to the end of the process."""
    return max(0.0, time.time() - os.stat(log).st_mtime) if log.exists() else 0.0


def fail_server(arena, at):
    """Have the server's disk fail; whether it has ended by itself."""
    arena.stop_workers()
    arena.close_database()
    arena.server.stop()
    with mock.patch.dict(os.environ, disk.environment(
            arena.directory, arena.server.directory, CHAOS_FSYNC_FAIL=str(at))):
        arena.server.start()
    for _ in range(2):
        arena.ready()
    try:
        arena.add_many(20, 0.01)
    except harness.TROUBLE:
        pass
    try:
        harness.wait_until(lambda: not arena.server.running(), "the server to end", 10)
        ended = True
    except AssertionError:
        ended = False
    arena.close_database()
    arena.server.kill()
    arena.server.start()
    return ended


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
            ended = sum(fail_server(arena, chance.randrange(2, 30))
                        for _ in range(options.failures))
            report.add("servers that ended by themselves", ended, str(options.failures),
                       ended == options.failures)
        else:
            ends = [fail_worker(arena, chance.randrange(3, 30))
                    for _ in range(options.failures)]
            ended = [each for each in ends if each is not None]
            report.add("workers that ended by themselves", len(ended),
                       str(options.failures) if options.storage == "file" else "",
                       options.storage != "file" or len(ended) == options.failures)
            report.note("codes", [code for _, code in ended])
            report.add("of them with code 0", sum(code == 0 for _, code in ended), "0",
                       all(code != 0 for _, code in ended))
        arena.finish()
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
