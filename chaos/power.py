"""The power fails (C10): only what was synced is on the disk.

A library between the database and the system copies each file whenever it is synced
(disk.c).  At a random moment everything is killed, and each file is put back to its
copy; in other rounds some of what was written later is kept: zeros, or a torn tail.
What was acknowledged must be there, or the database refuses to be opened and says so;
then its synced part is used, as fsrecover would.
"""
import shutil
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import disk, harness  # noqa: E402

ENDS = ("cut", "zeros", "torn")


def add_until_killed(arena, worker, chance):
    """Ask for jobs until the power fails."""
    over = threading.Event()

    def ask():
        while not over.is_set():
            if arena.add(input=arena.transfer(0)) is None:
                return
    asker = threading.Thread(target=ask)
    asker.start()
    time.sleep(chance.uniform(0.2, 1.0))
    worker.kill()
    over.set()
    asker.join(harness.BOUND)


def fail_power(directory, end, chance):
    """Leave of each file what was synced, and perhaps something of the rest."""
    for path in list(directory.iterdir()):
        if not path.is_file() or ".durable" in path.name:
            continue
        durable = path.with_name(path.name + ".durable")
        if path.suffix in (".lock", ".index", ".tmp") or path.name.endswith("-shm"):
            path.unlink()
        elif not durable.exists():
            path.write_bytes(b"")    # it was made, and nothing of it was synced
        else:
            written, kept = path.read_bytes(), durable.read_bytes()
            tail = written[len(kept):]
            if end == "zeros":
                kept += b"\0" * len(tail)
            elif end == "torn":
                kept += tail[:chance.randrange(len(tail) + 1)]
            path.write_bytes(kept)


def opens(arena):
    try:
        with arena.desk() as desk:
            return desk.service.check() == []
    except Exception as error:
        arena.close_database()
        arena.refusals.append(type(error).__name__)
        return False


def round_of(arena, end, chance):
    """Work, lose the power; whether the database could be opened at once."""
    directory = arena.server.directory
    arena.close_database()
    for path in directory.glob("*.durable*"):
        path.unlink()
    for path in directory.iterdir():    # all that there was is on the disk
        if path.is_file():
            shutil.copyfile(path, path.with_name(path.name + ".durable"))
    environment = disk.environment(arena.directory, directory, CHAOS_FSYNC_COPY="1")
    worker = arena.ready(**environment)
    if arena.shared:
        adder = arena.start(["-m", "chaos.adder", arena.uri,
                             str(chance.random())[2:]], environment)
        adder.wait_said("added", chance.randrange(5, 60))
        worker.kill()
        adder.kill()
        arena.acknowledged.update(int(line[1]) for line in adder.said("added"))
    else:
        add_until_killed(arena, worker, chance)
    fail_power(directory, end, chance)
    opened = opens(arena)
    if not opened:
        for path in directory.glob("*.durable"):
            shutil.copyfile(path, path.with_suffix(""))
        if not opens(arena):
            raise AssertionError(f"not even what was synced can be opened: "
                                 f"{arena.refusals[-1]}")
    return opened


def main():
    options = harness.arguments(
        __doc__, storages=("file", "sqlite"),
        failures=(60, 6, "how often the power fails"))
    report = harness.Report(f"{options.failures} power failures", options)
    with harness.Arena(options, settings={"crash_limit": 100}) as arena:
        arena.refusals = []
        # The pages of SQLite's log have sums of their own; its tail is as good as cut.
        opened = [round_of(arena, ENDS[number % len(ENDS)], options.chance)
                  for number in range(options.failures)]
        arena.finish()
        report.add("opened at once", sum(opened))
        report.add("refused, then cut", len(opened) - sum(opened))
        report.note("refused by", arena.refusals)
        report.judge(arena.verdict(), charged=0)
    return report.show()


if __name__ == "__main__":
    harness.command(main)
