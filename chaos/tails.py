"""What is left of a Data.fs whose last transaction was not written whole (C25).

The file is cut at every byte of its last transaction; then its last bytes are zeros,
from one byte to all of the transaction.  It must open as it was before (or whole, when
nothing is missing), or be refused with a hint at fsrecover; never be silently wrong.
"""
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402
from lovely.remotetask.cli import databases  # noqa: E402
from lovely.remotetask.cli.problems import NoDatabase  # noqa: E402

HINT = "fsrecover"


def look(path, jobs):
    """What a file shows: 'before', 'whole', 'refused', 'refused without a hint', or
    'WRONG' and how."""
    try:
        db = databases.find(f"file://{path}").open()
    except NoDatabase as error:
        return "refused" if HINT in str(error) else f"refused without a hint: {error}"
    try:
        desk = harness.Desk(db.open())
        faults = desk.service.check()
        found = set(desk.service.jobs)
        if faults:
            return f"WRONG: {faults[0]}"
        return "before" if found == jobs[0] else "whole" if found == jobs[1] else \
            f"WRONG: {len(found)} jobs"
    except Exception as error:
        return f"WRONG: {type(error).__name__}"
    finally:
        db.close()


def main():
    options = harness.arguments(
        __doc__, storages=("file",), step=(1, 97, "bytes from one cut to the next"))
    report = harness.Report("cut and zeroed tails", options)
    with harness.Arena(options) as arena:
        arena.add_many(20, task="chaos.transfer")
        before, size = set(arena.jobs()), arena.data.stat().st_size
        arena.add_many(5, task="chaos.transfer")
        jobs = before, set(arena.jobs())
        whole = arena.data.read_bytes()
        path = arena.directory / "copy.fs"
        found = {"cut": [], "zeros": []}
        for left in range(size, len(whole) + 1, options.step):
            for kind, data in (("cut", whole[:left]),
                               ("zeros", whole[:left] + b"\0" * (len(whole) - left))):
                for each in arena.directory.glob("copy.fs*"):
                    if each.is_file():
                        each.unlink()
                path.write_bytes(data)
                found[kind].append(look(path, jobs))
        for kind, words in found.items():
            report.add(f"{kind}: files", len(words))
            wrong = [word for word in words if word not in ("before", "whole", "refused")]
            report.add(f"{kind}: silently wrong, or refused without a hint", len(wrong),
                       "0", not wrong)
            report.note(kind, [word.split(":")[0] for word in words])
            report.texts += [f"{kind}: {number} times {word}" for word, number in
                             Counter(wrong).most_common(5)]
    return report.show()


if __name__ == "__main__":
    harness.command(main)
