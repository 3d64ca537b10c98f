"""Cron jobs through the changes of twenty zones, downtimes, and four schedulers."""
import unittest

from lovely.remotetask.tests import crons


class Fired(unittest.TestCase):

    number = 3

    def test_no_instant_is_missed_beyond_its_policy_and_none_fires_twice(self):
        conflicts = fired = missed = 0
        for season in crons.seasons(self.number):
            self.assertEqual(season.run(), [])
            conflicts += season.conflicts
            missed += season.missed
            fired += len(season.fired)
        self.assertGreater(fired, 30 * self.number)
        # Without these nothing would have been shown.
        self.assertGreater(conflicts, 10 * self.number)
        self.assertGreater(missed, 0)


class FiredAtEveryChange(Fired):

    level = 2
    number = None

    def test_no_instant_is_missed_beyond_its_policy_and_none_fires_twice(self):
        for season in crons.seasons():
            self.assertEqual(season.run(), [])


class NextRuns(unittest.TestCase):

    number = 4_000

    def test_they_are_what_looking_at_the_wall_each_minute_finds(self):
        wrong, asked = crons.check_next(1, self.number)
        self.assertEqual(wrong, [])
        self.assertGreaterEqual(asked, self.number)


class ManyNextRuns(NextRuns):

    level = 2
    number = 50_000
