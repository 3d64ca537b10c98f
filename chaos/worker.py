"""A worker process: `remotetask work`, armed with what the environment names.

    CHAOS_POINT=voted:3      die at the third passing of that point (points.py)
    CHAOS_STOP=voted:3       be stopped there, as by SIGSTOP
    CHAOS_STATS=1            say at the end how many commits met conflicts
"""
import os
import signal
import sys

from lovely.remotetask import cli
from lovely.remotetask.runtime.publication import Publication


def count_conflicts():
    """Count, over all threads, the transactions of dispatchers and the conflicts."""
    transact = Publication.transact
    counts = {"dispatch": 0, "conflicts": 0}

    def counting(self, verb, *args, **kwargs):
        before = self.conflicts
        result = transact(self, verb, *args, **kwargs)
        counts["conflicts"] += self.conflicts - before
        counts["dispatch"] += verb == "dispatch" and bool(result.claims)
        return result

    Publication.transact = counting
    return counts


def main():
    for name, number in (("CHAOS_POINT", signal.SIGKILL), ("CHAOS_STOP", signal.SIGSTOP)):
        if name in os.environ:
            from chaos import points
            point, _, passings = os.environ[name].partition(":")
            points.arm(point, int(passings), number)
    counts = count_conflicts() if "CHAOS_STATS" in os.environ else None
    code = cli.main(sys.argv[1:])
    if counts is not None:
        print("counted", counts["dispatch"], counts["conflicts"], flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
