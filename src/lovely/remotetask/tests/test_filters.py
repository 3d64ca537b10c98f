"""Which jobs a worker takes."""
import unittest

from hypothesis import given
from hypothesis import strategies as st

from lovely.remotetask import filters
from lovely.remotetask.errors import BadOption
from lovely.remotetask.filters import ALL, Filter, read


class TheFilter(unittest.TestCase):

    def test_by_default_everything_is_taken(self):
        self.assertEqual(read(), ALL)
        self.assertEqual(read("", " ", ""), ALL)
        self.assertFalse(ALL)
        self.assertEqual(str(ALL), "")
        self.assertTrue(ALL.admits_task("any") and ALL.admits_tags(())
                        and ALL.admits_priority(-5))

    def test_names_are_lists_or_texts(self):
        for names in ("a,b", " a , b", ["a", "b"], ("b", "a"), {"a", "b"}):
            found = read(tasks=names)
            self.assertEqual(found.tasks, {"a", "b"})
            self.assertTrue(found)
        self.assertTrue(found.admits_task("a"))
        self.assertFalse(found.admits_task("c"))

    def test_one_tag_of_several_is_enough(self):
        found = read(tags="x,y")
        self.assertTrue(found.admits_tags(("y", "z")))
        self.assertFalse(found.admits_tags(("z",)))
        self.assertFalse(found.admits_tags(()))

    def test_ranges_of_priorities(self):
        for text, bounds in (
                ("0-5", (0, 5)), ("0..5", (0, 5)), ("-5..-1", (-5, -1)), ("-5--1", (-5, -1)),
                ("..5", (None, 5)), ("3..", (3, None)), ("3-", (3, None)), ("7", (7, 7)),
                ("-7", (-7, -7)), (7, (7, 7)), ((1, 2), (1, 2)), ([None, 2], (None, 2)),
                (" 1 - 2 ", (1, 2)), (None, (None, None)), ("", (None, None))):
            with self.subTest(text):
                found = read(priorities=text)
                self.assertEqual((found.lowest, found.highest), bounds)

    def test_what_means_nothing_is_refused(self):
        for options in (dict(priorities="a"), dict(priorities="5-0"), dict(priorities=".."),
                        dict(priorities="1 2"), dict(priorities="-"),
                        dict(priorities=(1, 2, 3)), dict(priorities=1.5),
                        dict(priorities=True), dict(tasks="a,,b"), dict(tasks=[]),
                        dict(tasks=[1]), dict(tags=5), dict(tags="x" * 300),
                        dict(tags=["a\nb\0"])):
            with self.subTest(options), self.assertRaises(BadOption):
                read(**options)

    def test_a_job_must_pass_all_of_it(self):
        class Job:
            task, tags, priority = "a", ("x",), 3

        self.assertTrue(read("a", "x", "0-5").admits(Job))
        for options in (("b", "x", "0-5"), ("a", "y", "0-5"), ("a", "x", "4-5")):
            self.assertFalse(read(*options).admits(Job))

    def test_its_text_says_it_all(self):
        self.assertEqual(str(read("b,a", "t", "0-5")), "task a,b; tag t; priority 0..5")
        self.assertEqual(str(read(priorities="7")), "priority 7")
        self.assertEqual(str(read(priorities="..7")), "priority ..7")

    @given(st.none() | st.integers(-99, 99), st.none() | st.integers(-99, 99))
    def test_the_text_of_a_range_is_read_as_that_range(self, low, high):
        if low is not None and high is not None and low > high:
            low, high = high, low
        made = Filter(lowest=low, highest=high)
        text = str(made).removeprefix("priority ")
        self.assertEqual(filters.read(priorities=text), made)


if __name__ == "__main__":
    unittest.main()
