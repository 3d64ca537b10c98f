"""The disk is full for a minute (C23).

The database lies on a file system of its own, in memory, which is filled to the last
byte while jobs wait and run, and emptied again.  Needs to be root, to mount it.
"""
import os
import subprocess
import sys
import time
import unittest
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402

SIZE = "24m"
RESUME = 5.0     # seconds after there is room again, at most


@contextmanager
def small_disk(directory):
    """Mount a small file system there."""
    directory.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "chaos",
                           str(directory)], capture_output=True, text=True)
    if done.returncode != 0:
        raise unittest.SkipTest(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def fill(directory):
    """Leave no byte; the file that has them."""
    path = directory / "junk"
    with suppress(OSError), open(path, "ab", buffering=0) as junk:
        for size in (65_536, 512, 1):
            with suppress(OSError):
                while junk.write(b"\0" * size):
                    pass
    return path


def be_full(arena, workers, seconds):
    """Work, be full for so long, be free; seconds until a job begins again."""
    for _ in range(40):
        arena.add(input=arena.transfer(0.03))
    time.sleep(0.3)
    junk, end = fill(arena.server.directory), time.monotonic() + seconds
    refused = 0
    while time.monotonic() < end:
        refused += arena.add(input=arena.transfer(0)) is None
        fill(arena.server.directory)    # what was freed in between
        time.sleep(0.2)
    os.unlink(junk)
    free = time.monotonic()
    while arena.add(task="chaos.tick", priority=1) is None:
        time.sleep(0.05)

    def ticked():
        return [line.moment for worker in workers for line in worker.said("ticks")
                if line.moment > free]
    harness.wait_until(ticked, "work after the disk was full")
    return min(ticked()) - free, refused


def main():
    options = harness.arguments(
        __doc__, storages=("file", "zeo", "sqlite"),
        times=(3, 1, "how often it is full"), seconds=(60, 6, "for how long"))
    if os.geteuid() != 0:
        raise unittest.SkipTest("only root can mount the file system")
    report = harness.Report(f"a full disk for {options.seconds} s", options)
    arena = harness.Arena(options)
    with small_disk(arena.server.directory), arena:
        workers = [arena.ready() for _ in range(2 if arena.shared else 1)]
        found = [be_full(arena, workers, options.seconds) for _ in range(options.times)]
        stumbled = [each for each in workers if not each.alive]
        arena.finish()
        report.add("adds refused", sum(refused for _, refused in found))
        report.times("until work goes on", [seconds for seconds, _ in found],
                     slowest=RESUME)
        report.add("workers that ended", len(stumbled), "0", not stumbled)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
