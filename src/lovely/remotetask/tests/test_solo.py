"""A suspect runs alone in its process, whatever services that works for."""
import unittest
from unittest import mock

import transaction

from lovely.remotetask import processor
from lovely.remotetask.clerk import Want
from lovely.remotetask.runtime import solo
from lovely.remotetask.runtime.wakeup import Bell
from lovely.remotetask.service import TaskService
from lovely.remotetask.tests.support import Gate, ServiceCase


class TwoServices(ServiceCase):

    factory = processor.MultiProcessor
    arguments = {"waitTime": 0.05}

    def setUp(self):
        super().setUp()
        self.gate, self.other_gate = Gate(self), Gate(self)
        self.task("suspect", self.gate)
        self.task("other", self.other_gate)
        self.task("quick", lambda input: input)
        self.other = self.connection.root()["others"] = TaskService()
        self.other.processorFactory = self.factory
        self.other.processorArguments = dict(self.arguments)
        transaction.commit()

    def tearDown(self):
        for gate in self.gates:
            gate.open()
        super().tearDown()

    def suspect(self):
        """A job whose process has died."""
        jobid = self.add("suspect")
        self.service.dispatch("gone", want=Want(1, 1, alone=True))
        transaction.commit()
        self.look().dispatch("another", rescuing=True)
        transaction.commit()
        self.assertTrue(self.service.getJob(jobid).suspect)
        return jobid

    def to_other(self, task):
        self.look()
        jobid = self.other.add(task)
        transaction.commit()
        return jobid

    def looks_of(self, service):
        """How often its dispatcher has asked for room."""
        dispatcher = processor._threads[self.db, service._p_oid][1].dispatcher
        return self.asked.count(dispatcher)

    def start(self, *services):
        if not hasattr(self, "asked"):
            self.asked = []
            ask = solo.SOLO.ask

            def asking(dispatcher):
                self.asked.append(dispatcher)
                return ask(dispatcher)
            spy = mock.patch.object(solo.SOLO, "ask", asking)
            spy.start()
            self.addCleanup(spy.stop)
        for service in services:
            service.startProcessing()

    def busy_with_the_other(self):
        """The other service has a job in hand, and a suspect waits in this one."""
        first = self.to_other("other")
        self.start(self.other)
        self.other_gate.arrival()
        jobid = self.suspect()
        self.start(self.service)
        self.wait_looks(self.service)
        return first, jobid

    def wait_looks(self, service, more=5):
        self.wait_for(lambda: self.looks_of(service))
        before = self.looks_of(service)
        self.wait_for(lambda: self.looks_of(service) >= before + more)

    def test_it_waits_for_what_another_service_has_in_hand(self):
        first, jobid = self.busy_with_the_other()
        self.assertEqual(self.look().getStatus(jobid), "queued")
        next = self.to_other("quick")       # it would have a thread
        self.wait_looks(self.other)
        self.assertEqual(self.other.getStatus(next), "queued")
        self.other_gate.open()
        self.gate.arrival()                 # now it runs
        self.look()
        self.assertEqual(self.other.getStatus(first), "completed")
        self.assertEqual(self.other.getStatus(next), "queued")
        self.gate.open()
        self.wait_for(lambda: self.other.getStatus(next) == "completed")
        self.wait_status(jobid)

    def test_while_it_runs_nothing_of_another_service_begins(self):
        jobid = self.suspect()
        self.start(self.service, self.other)
        self.gate.arrival()
        next = self.to_other("quick")
        self.runs_alone(jobid, next)

    def test_who_starts_later_begins_nothing_either(self):
        jobid = self.suspect()
        self.start(self.service)
        self.gate.arrival()
        next = self.to_other("quick")
        self.start(self.other)
        self.runs_alone(jobid, next)

    def runs_alone(self, jobid, next):
        """The suspect does: what is added to the other service waits until its end."""
        self.wait_looks(self.other)
        self.assertEqual(self.other.getStatus(next), "queued")
        self.gate.open()
        self.wait_for(lambda: self.other.getStatus(next) == "completed")
        self.wait_status(jobid)

    def test_who_stumbles_keeps_nobody_waiting(self):
        """The only service of a process fails at each look; another one starts."""
        failed, oid = Gate(self), self.service._p_oid
        dispatch = TaskService.dispatch

        def dispatched(service, *args, **options):
            if service._p_oid == oid:
                failed(None)
                raise ValueError("a service that is broken")
            return dispatch(service, *args, **options)

        with self.assertLogs("lovely.remotetask", "ERROR"), \
                mock.patch.object(TaskService, "dispatch", dispatched):
            failed.open()
            self.start(self.service)
            failed.arrival()
            next = self.to_other("quick")
            self.start(self.other)
            self.wait_for(lambda: self.other.getStatus(next) == "completed")

    def test_who_waits_for_too_long_lets_the_others_work(self):
        patience = mock.patch.object(solo, "PATIENCE_SECONDS", 0.0)
        patience.start()
        self.addCleanup(patience.stop)
        first, jobid = self.busy_with_the_other()
        quick, here = self.to_other("quick"), self.add("quick")
        self.wait_for(lambda: self.other.getStatus(quick) == "completed")
        self.wait_status(here)
        self.assertEqual(self.service.getStatus(jobid), "queued")
        self.other_gate.open()
        self.gate.arrival()
        self.gate.open()
        self.wait_status(jobid)
        self.assertEqual(self.other.getStatus(first), "completed")

    def test_who_ends_while_he_waits_holds_up_nobody(self):
        first, jobid = self.busy_with_the_other()
        self.service.stopProcessing()
        quick = self.to_other("quick")
        self.wait_for(lambda: self.other.getStatus(quick) == "completed")
        self.assertEqual(self.service.getStatus(jobid), "queued")
        self.assertEqual(self.other.getStatus(first), "processing")

    def test_who_is_paused_after_his_suspect_holds_up_nobody(self):
        """He asks for no more room, and was waited for."""
        jobid = self.suspect()
        self.start(self.other, self.service)
        self.gate.arrival()
        self.service.pauseProcessing()
        transaction.commit()
        self.gate.open()
        self.wait_status(jobid)
        quick = self.to_other("quick")
        self.wait_for(lambda: self.other.getStatus(quick) == "completed")

    def test_without_suspects_they_do_not_meet(self):
        self.start(self.service, self.other)
        self.to_other("other")
        self.other_gate.arrival()
        self.wait_status([self.add("quick") for _ in range(5)])


if __name__ == "__main__":
    unittest.main()


class Dispatcher:
    """What the agreement asks a dispatcher."""

    def __init__(self, solo, suspect=False, busy=False):
        self.bell, self.suspect, self.busy = Bell(), suspect, busy
        solo.enter(self)

    def has_in_hand(self):
        return self.busy or self.suspect

    def has_suspect(self):
        return self.suspect


class Agreement(unittest.TestCase):

    def setUp(self):
        self.solo = solo.Solo()
        self.first = Dispatcher(self.solo)
        self.assertEqual(self.solo.ask(self.first), solo.ANY)
        self.second = Dispatcher(self.solo)     # while the first one claims
        self.assertEqual(self.solo.ask(self.second), solo.NOTHING)

    def test_the_first_one_took_a_suspect(self):
        self.first.suspect = True
        self.solo.tell(self.first, False)
        self.assertEqual(self.solo.ask(self.second), solo.NOTHING)
        self.first.suspect = False
        self.assertEqual(self.solo.ask(self.first), solo.SHARED)
        self.assertTrue(self.second.bell.rings)
        self.assertEqual(self.solo.ask(self.second), solo.SHARED)

    def test_the_first_one_took_none_and_calls(self):
        self.first.busy = True
        rings = self.second.bell.rings
        self.solo.tell(self.first, False)
        self.assertGreater(self.second.bell.rings, rings)
        self.assertEqual(self.solo.ask(self.second), solo.SHARED)

    def test_what_is_taken_alone_was_no_suspect(self):
        self.solo.tell(self.first, True)
        self.assertEqual(self.solo.ask(self.first), solo.ALONE)
        self.first.busy = True                  # somebody else was quicker
        self.solo.tell(self.first, False)
        self.assertEqual(self.solo.ask(self.second), solo.SHARED)
