"""Cron jobs through the changes of twenty zones; next runs against looking at the wall (G6).

First four schedulers, on a connection each, look what is due around each of more than
a hundred changes of the clocks of twenty zones, at the same moments, so that their
commits meet; now and then all of them are down across instants.  Each instant that its
policy keeps must make one run: none is missed, none is doubled.

Then random schedules in random zones are asked for their next run at random moments,
half of them around such changes; the judge looks at the wall minute by minute.

    bin/py chaos/cron.py                    all changes, 1,000,000 questions
    bin/py chaos/cron.py --brief            five changes, 20,000 questions
"""
import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lovely.remotetask.tests import crons  # noqa: E402


def arguments():
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--changes", type=int, help="how many, all by default")
    found.add_argument("--questions", type=int, default=1_000_000)
    found.add_argument("--seed", type=int, default=7)
    found.add_argument("--brief", action="store_true", help="a short form")
    found.add_argument("--json", action="store_true", help="the figures for a program")
    return found.parse_args()


def main():
    options = arguments()
    if options.brief:
        options.changes, options.questions = 5, 20_000
    began, faults = time.monotonic(), []
    figures = dict(zones=0, changes=0, looks=0, lost_races=0, downtimes=0,
                   instants_missed_by_all=0, runs=0)
    zones = set()
    for season in crons.seasons(options.changes, options.seed):
        faults += season.run()
        zones.add(season.zone)
        for name, number in dict(
                changes=1, looks=season.looks, lost_races=season.conflicts,
                downtimes=season.downtimes, instants_missed_by_all=season.missed,
                runs=len(season.fired)).items():
            figures[name] += number
    figures["zones"] = len(zones)
    figures["missed_or_doubled"] = len(faults)
    wrong, asked = crons.check_next(options.seed, options.questions)
    figures.update(questions=asked, wrong_answers=len(wrong),
                   seconds=round(time.monotonic() - began, 1))
    for text in (faults + wrong)[:20]:
        print(text)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):24} {value}")
    sys.exit(bool(faults or wrong))


if __name__ == "__main__":
    main()
