"""Simulated processes, faults from a seed: see the package `simulation`."""
import unittest

from lovely.remotetask.tests import mutants

try:
    from lovely.remotetask.tests.simulation import play
except ImportError:  # greenlet, or ZEO for its errors
    play = None

FEW, MANY = 20, 500
FOUND_IN = range(200, 400)   # each planted bug is found by one of these seeds


@unittest.skipIf(play is None, "greenlet or ZEO is not installed")
class SimulationCase(unittest.TestCase):

    seeds = range(0)

    def play_all(self):
        for seed in self.seeds:
            result = play.run(seed)
            self.assertEqual(
                result.violations, [],
                f"replay it: bin/py chaos/simulate.py --first {seed} --seeds 1 --trace 200")
            yield result


class FewSeeds(SimulationCase):

    seeds = range(FEW)

    def test_nothing_is_lost_and_nothing_done_twice(self):
        results = list(self.play_all())
        faults = {name for result in results for name in result.faults}
        self.assertGreater(sum(result.kills for result in results), FEW)
        self.assertGreater(sum(result.completed for result in results), 10 * FEW)
        self.assertLessEqual({"lost reply", "lost request", "pause", "jump", "lag"}, faults)

    def test_a_seed_tells_the_same_story_each_time(self):
        first, second = (play.run(3, tracing=True).trace for _ in range(2))
        self.assertGreater(len(first), 500)
        self.assertEqual(first, second)


class ManySeeds(SimulationCase):

    level = 2
    seeds = range(FEW, MANY)

    def test_nothing_is_lost_and_nothing_done_twice(self):
        for _ in self.play_all():
            pass


@unittest.skipIf(play is None, "greenlet or ZEO is not installed")
class PlantedBugs(unittest.TestCase):
    """`bin/py chaos/simulate.py --mutants --first 200` shows which seed finds which."""

    level = 2

    def test_each_is_found_within_200_seeds(self):
        self.assertGreaterEqual(len(mutants.MUTANTS), 12)
        for name in mutants.MUTANTS:
            with self.subTest(bug=name), mutants.planted(name):
                self.assertTrue(any(
                    play.run(seed).violations for seed in FOUND_IN))

    def test_a_bug_that_cannot_be_planted_any_more_is_an_error(self):
        with self.assertRaisesRegex(AssertionError, "no 'never there' to be broken"):
            with mutants.edited(play.Play, "run", ("never there", "")):
                pass
