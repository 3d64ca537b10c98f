"""Four workers, their users and all kinds of faults in one thread, from a seed (G4).

The real code of service, clerk, desk, dispatcher, workers, publication and rescue runs
over ZODB's own MappingStorage and MVCC adapter, one connection per thread, with a
simulated clock and scheduler.  Processes are killed, before, during and after commits,
frozen, stopped and taken for dead; requests and replies of commits are lost,
invalidations late, clocks wrong by up to ten years.  After each commit the stored
records must agree with each other, and at the end every job that was acknowledged is
at its end, with exactly one effect if it is completed.

    bin/py chaos/simulate.py --seeds 10000 --first 0
    bin/py chaos/simulate.py --first 4711 --seeds 1 --trace 200    what happened there
    bin/py chaos/simulate.py --mutants        which seed finds which planted bug

The same seed plays the same story, always.
"""
import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lovely.remotetask.tests import mutants  # noqa: E402
from lovely.remotetask.tests.simulation import play  # noqa: E402


def arguments():
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--seeds", type=int, default=500, help="how many")
    found.add_argument("--first", type=int, default=0, help="the first of them")
    found.add_argument("--trace", type=int, default=0, metavar="LINES",
                       help="the last so many lines of what happened in each")
    found.add_argument("--mutant", choices=sorted(mutants.MUTANTS),
                       help="plant this bug, and stop at the seed that finds it")
    found.add_argument("--mutants", action="store_true",
                       help="plant each bug in turn, and tell which seed finds it")
    found.add_argument("--brief", action="store_true", help="20 seeds")
    found.add_argument("--json", action="store_true", help="the figures for a program")
    return found.parse_args()


def sums(results):
    """The figures of all seeds together."""
    faults, found = Counter(), Counter()
    for result in results:
        faults.update(result.faults)
        for name in ("steps", "commits", "jobs", "completed", "acknowledged", "recovered",
                     "repeated", "kills", "simulated"):
            found[name] += getattr(result, name)
    return dict(found), dict(sorted(faults.items()))


def find_each(first, number):
    """Plant each bug, and play until it is found; how many are not."""
    missing = 0
    for name in mutants.MUTANTS:
        with mutants.planted(name):
            for seed in range(first, first + number):
                violations = play.run(seed).violations
                if violations:
                    print(f"{name:24} seed {seed:4}  {violations[0][:90]}", flush=True)
                    break
            else:
                missing += 1
                print(f"{name:24} not found by {number} seeds", flush=True)
    return missing


def main():
    options = arguments()
    if options.mutants:
        sys.exit(bool(find_each(options.first, min(options.seeds, 200))))
    number = 20 if options.brief else options.seeds
    began, results, failed = time.monotonic(), [], []
    with mutants.planted(options.mutant):
        for seed in range(options.first, options.first + number):
            result = play.run(seed, tracing=bool(options.trace))
            results.append(result)
            if options.trace:
                print("\n".join(result.trace[-options.trace:]))
            result.trace = None
            if result.violations:
                failed.append(seed)
                print(f"seed {seed}: " + "\n    ".join(result.violations[:10]), flush=True)
                if options.mutant:
                    break
            elif not options.json and len(results) % 500 == 0:
                print(f"{len(results)} seeds, {len(failed)} with violations", flush=True)
    found, faults = sums(results)
    took = time.monotonic() - began
    figures = dict(seeds=len(results), violations=len(failed), failed=failed, **found,
                   faults=faults, seconds=round(took, 1),
                   milliseconds_per_seed=round(
                       sum(each.seconds for each in results) / len(results) * 1000))
    figures["simulated"] = round(figures["simulated"])
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):22} {value}")
    sys.exit(bool(failed) != bool(options.mutant))


if __name__ == "__main__":
    main()
