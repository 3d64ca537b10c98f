"""Values that belong to one: inputs, schedules, options, settings and frames."""
import transaction
from persistent.mapping import PersistentMapping

from lovely.remotetask.errors import BadInput
from lovely.remotetask.payload import lend, pack
from lovely.remotetask.tests.support import ServiceCase

SMALL = {"names": ["a", "b"], "pair": (1, [2])}
LARGE = {"names": ["a", "b"], "rest": list(range(500))}


class InputsAreNobodysElse(ServiceCase):
    """A task, a caller or a run that changes a value changes its own."""

    storage = "mapping"

    def greedy(self, failures):
        """A task that changes its input, and fails so many times first."""
        seen = []

        @self.task("greedy", retries=failures)
        def greedy(input):
            seen.append(len(input["names"]))
            input["names"].pop()
            if len(seen) <= failures:
                raise ValueError("not yet")

        return seen

    def test_each_attempt_of_a_thread_sees_the_input_that_was_added(self):
        for input in SMALL, LARGE:
            with self.subTest(large=input is LARGE):
                seen = self.greedy(failures=2)
                jobid = self.add("greedy", input)
                self.start()
                self.wait_status(jobid)
                self.assertEqual(seen, [2, 2, 2])
                self.assertEqual(self.job(jobid).input, input)

    def test_each_attempt_by_hand_sees_the_input_that_was_added(self):
        for input in SMALL, LARGE:
            for commit in True, False:
                with self.subTest(large=input is LARGE, commit=commit):
                    seen = self.greedy(failures=2)
                    jobid = self.service.add("greedy", input)
                    if commit:
                        transaction.commit()
                    self.service.process()
                    self.assertEqual(seen, [2, 2, 2])
                    self.assertEqual(self.job(jobid).input, input)
                    transaction.commit()

    def test_each_run_of_a_cron_job_sees_the_input_that_was_added(self):
        for input in SMALL, LARGE:
            with self.subTest(large=input is LARGE):
                seen = self.greedy(failures=0)
                cron = self.service.addCronJob("greedy", input, schedule="@yearly")
                transaction.commit()
                for _ in range(3):
                    self.service.runNow(cron)
                    self.service.process()
                    transaction.commit()
                self.assertEqual(seen, [2, 2, 2])

    def test_what_the_caller_does_to_a_value_after_add_changes_no_job(self):
        for first in SMALL, LARGE:
            with self.subTest(large=first is LARGE):
                self.task("any", lambda input: None)
                input = {**first, "names": ["a"]}
                jobs = []
                for name in "bcd":
                    jobs.append(self.service.add("any", input))
                    input["names"].append(name)
                input["broken"] = lambda: None
                transaction.commit()
                self.assertEqual([len(self.job(each).input["names"]) for each in jobs],
                                 [1, 2, 3])

    def test_what_a_task_does_to_a_value_after_its_end_changes_no_output(self):
        kept = []

        @self.task("kept")
        def keep(input):
            kept.append({"names": []})
            return kept[-1]

        jobid = self.service.add("kept")
        self.service.process()
        kept[0]["names"].append("late")
        transaction.commit()
        self.assertEqual(self.job(jobid).output, {"names": []})

    def test_a_value_is_not_lost_when_it_is_lent_before_it_was_ever_stored(self):
        stored, _ = pack(LARGE, 1_000_000, "input")
        self.connection.add(stored)
        lend(stored)["names"].pop()
        self.assertEqual(lend(stored), LARGE)

    def test_a_persistent_object_in_an_input_stays_itself(self):
        given = []
        self.task("any", given.append)
        object = self.connection.root()["object"] = PersistentMapping()
        for input in object, [object], {"object": object, **LARGE}:
            self.service.add("any", input)
        for commit in False, True:
            if commit:
                transaction.commit()
            self.service.process()
        self.assertIs(given[0], object)
        self.assertIs(given[1][0], object)
        self.assertIs(given[2]["object"], object)

    def test_a_new_persistent_object_that_cannot_be_stored_is_refused_at_once(self):
        self.task("any", lambda input: None)
        for input in PersistentMapping(x=lambda: 1), [PersistentMapping(x=lambda: 1)]:
            with self.assertRaises(BadInput):
                self.service.add("any", input)
        self.assertEqual(len(self.service.jobs), 0)
