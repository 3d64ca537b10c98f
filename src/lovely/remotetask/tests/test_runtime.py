"""The runtime: real threads on a real FileStorage."""
import asyncio
import logging
import sys
import threading
import time
from decimal import Decimal

import transaction
from persistent import Persistent
from transaction.interfaces import DoomedTransaction
from ZODB.POSException import ConflictError, POSKeyError, StorageError
from zope.authentication.interfaces import IAuthentication, PrincipalLookupError
from zope.component import provideAdapter, provideHandler, provideUtility
from zope.component import provideSubscriptionAdapter
from zope.component.hooks import getSite, setSite
from zope.interface import implementer
from zope.security.interfaces import Unauthorized
from zope.security.management import endInteraction, newInteraction, queryInteraction
from zope.site.folder import Folder
from zope.site.site import LocalSiteManager

from lovely.remotetask.clerk import Want
from lovely.remotetask import errors, events, lifecycle, processor, task
from lovely.remotetask.errors import NotMine, StorageClosed, TaskError
from lovely.remotetask.interfaces import (
    IAttemptFrame, IJob, IJobEvent, IRetryPolicy, ITask)
from lovely.remotetask.processor import MultiProcessor
from lovely.remotetask.retry import RetryPolicy
from lovely.remotetask.runtime import dispatcher, frames
from lovely.remotetask.tests.support import BOUND, Gate, ServiceCase, effect


class Number(Persistent):
    value = 0


class RuntimeCase(ServiceCase):

    def setUp(self):
        super().setUp()
        self.task("effect", effect, wantsContext=True)


class MultiCase(RuntimeCase):
    factory = MultiProcessor
    arguments = {"maxThreads": 4}


class Order(RuntimeCase):

    def test_a_simple_processor_runs_jobs_in_the_order_of_adding(self):
        ran = []
        self.task("note", ran.append)
        for number in range(30):
            self.add("note", number)
        jobs = self.service.addMany("note", range(30, 60))
        jobs += [self.service.add("note", number) for number in range(60, 70)]
        transaction.commit()
        self.start()
        self.wait_status(jobs)
        self.assertEqual(ran, list(range(70)))

    def test_jobs_added_while_it_runs_keep_their_order(self):
        ran, gate = [], Gate(self)
        self.task("note", ran.append)
        self.task("gate", gate)
        self.add("gate")
        self.start()
        gate.arrival()
        jobs = [self.add("note", number) for number in range(40)]
        gate.open()
        self.wait_status(jobs)
        self.assertEqual(ran, list(range(40)))

    def test_a_smaller_priority_number_goes_first(self):
        ran = []
        self.task("note", ran.append)
        jobs = [self.add("note", priority, priority=priority)
                for priority in (10, 5, 20, -3, 10, 5)]
        self.start()
        self.wait_status(jobs)
        self.assertEqual(ran, [-3, 5, 5, 10, 10, 20])

    def test_the_thread_bears_the_name_of_the_service(self):
        self.start()
        names = [thread.name for thread in threading.enumerate()
                 if thread.name.startswith("remotetasks.")]
        self.assertEqual(names, ["remotetasks.tasks"])
        self.assertTrue(self.service.isProcessing())
        self.service.startProcessing()
        self.assertEqual(names, [thread.name for thread in threading.enumerate()
                                 if thread.name.startswith("remotetasks.")])

    def test_it_sees_what_was_committed_just_before(self):
        seen = []

        @self.task("read", wantsContext=True)
        def read(input, context):
            seen.append(context.service._p_jar.root()["word"])

        for number in range(20):
            self.connection.root()["word"] = number
            jobid = self.add("read")
            if not number:
                self.start()
            self.wait_status(jobid)
        self.assertEqual(seen, list(range(20)))


class Several(MultiCase):

    def test_as_many_jobs_run_at_once_as_it_has_threads_and_never_more(self):
        lock, most, now = threading.Lock(), [0], [0]
        four = threading.Barrier(4)

        @self.task("busy")
        def busy(input):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            four.wait(BOUND)  # passes in fours: none is alone, none is missing
            with lock:
                now[0] -= 1

        jobs = self.service.addMany("busy", range(40))
        transaction.commit()
        self.start()
        self.wait_status(jobs)
        self.assertEqual(most, [4])

    def test_each_job_takes_effect_once(self):
        jobs = self.service.addMany("effect", range(300))
        transaction.commit()
        self.start()
        self.wait_status(jobs)
        self.assertEqual(dict(self.effects()), dict.fromkeys(jobs, 1))
        self.assertEqual({self.job(jobid).startedCount for jobid in jobs}, {1})

    def test_threads_shows_who_has_a_job_in_hand(self):
        gate = Gate(self)
        self.task("gate", gate)
        self.service.addMany("gate", range(2))
        transaction.commit()
        running = self.start()
        gate.arrival()
        gate.arrival()
        self.assertEqual(len(running.threads), 2)
        self.assertEqual(running.maxThreads, 4)


class Adding(RuntimeCase):

    def test_an_aborted_add_leaves_nothing(self):
        self.start()
        jobid = self.service.add("effect")
        transaction.abort()
        self.assertNotIn(jobid, self.service.jobs)
        after = self.add("effect")
        self.wait_status(after)
        self.assertEqual(list(self.service.jobs), [after])
        self.assertEqual(dict(self.effects()), {after: 1})

    def test_a_savepoint_rolled_back_takes_its_jobs_along(self):
        self.start()
        first = self.service.add("effect")
        savepoint = transaction.savepoint()
        lost = self.service.addMany("effect", range(5))
        savepoint.rollback()
        last = self.service.add("effect")
        transaction.commit()
        self.wait_status([first, last])
        self.assertEqual(set(self.service.jobs), {first, last})
        self.assertFalse(set(lost) - {last} & set(self.service.jobs))

    def test_an_adder_that_is_repeated_for_conflicts_adds_exactly_one(self):
        root = self.connection.root()
        root["number"] = Number()
        transaction.commit()
        self.start()
        tries = []
        for attempt in transaction.manager.attempts(5):
            with attempt:
                tries.append(self.service.add("effect"))
                root["number"].value += 1
                if len(tries) < 3:
                    with self.elsewhere() as service:
                        service._p_jar.root()["number"].value += 1
        self.assertEqual(len(tries), 3)
        self.wait_status(tries[-1])
        self.assertEqual(list(self.service.jobs), [tries[-1]])
        self.assertEqual(dict(self.effects()), {tries[-1]: 1})

    def test_a_job_added_by_a_task_goes_with_its_transaction(self):
        @self.task("mother", wantsContext=True)
        def mother(input, context):
            context.service.add("effect", input)
            if context.attempt < 3:
                raise ValueError("not yet")

        self.start()
        jobid = self.add("mother")
        self.wait_status(jobid)
        self.wait_for(lambda: len(self.effects()) == 1)
        self.wait_settled()
        self.assertEqual(len(self.service.jobs), 2)


class Conflicts(MultiCase):

    def setUp(self):
        super().setUp()
        self.connection.root()["number"] = Number()
        transaction.commit()

    def test_a_contended_counter_is_exact_and_conflicts_are_not_attempts(self):
        both, attempts = threading.Barrier(2), []

        @self.task("count", wantsContext=True)
        def count(input, context):
            number = context.service._p_jar.root()["number"]
            seen = number.value
            attempts.append(context.attempt)
            if len(attempts) <= 2:
                both.wait(BOUND)  # both have read, none has written
            number.value = seen + 1

        jobs = self.service.addMany("count", range(2))
        transaction.commit()
        running = self.start()
        self.wait_status(jobs)
        self.wait_settled()
        self.assertEqual(self.connection.root()["number"].value, 2)
        self.assertEqual(attempts, [1, 1, 1])
        self.assertEqual(running.dispatcher.conflicts, 1)
        for jobid in jobs:
            self.assertEqual((self.job(jobid).startedCount, self.job(jobid).failures,
                              self.job(jobid).attempts), (1, 0, ()))

    def test_a_hundred_contenders_count_to_a_hundred(self):
        self.service.configure(conflict_tries=100)

        @self.task("count", wantsContext=True)
        def count(input, context):
            context.service._p_jar.root()["number"].value += 1

        jobs = self.service.addMany("count", range(100))
        transaction.commit()
        self.start()
        self.wait_status(jobs)
        self.assertEqual(self.connection.root()["number"].value, 100)

    def test_conflicts_without_end_count_as_an_error(self):
        self.service.configure(conflict_tries=2)
        tries = []

        @self.task("conflict", retries=1, wantsContext=True)
        def conflict(input, context):
            tries.append(context.attempt)
            raise ConflictError("always")

        self.start()
        jobid = self.add("conflict")
        self.wait_status(jobid, "error")
        self.assertEqual(tries, [1, 1, 1, 2, 2, 2])
        self.assertEqual(self.job(jobid).failures, 2)
        self.assertIn("always", self.job(jobid).error)


class Retrying(RuntimeCase):

    def test_an_error_is_tried_three_more_times_at_once(self):
        attempts = []

        @self.task("fail", wantsContext=True)
        def fail(input, context):
            effect(input, context)
            attempts.append(context.attempt)
            raise ValueError(f"number {context.attempt}")

        self.start()
        jobid = self.add("fail")
        self.wait_status(jobid, "error")
        self.assertEqual(attempts, [1, 2, 3, 4])
        job = self.job(jobid)
        self.assertEqual((job.error, job.failures, job.startedCount),
                         ("number 4", 4, 4))
        self.assertEqual([each.error for each in job.attempts],
                         [f"number {number}" for number in (1, 2, 3, 4)])
        self.assertIn("raise ValueError", job.attempts[0].traceback)
        self.assertEqual(dict(self.effects()), {})

    def test_a_task_error_is_final(self):
        attempts = []

        @self.task("fail")
        def fail(input):
            attempts.append(input)
            raise TaskError("no use")

        self.start()
        jobid = self.add("fail")
        self.wait_status(jobid, "error")
        self.assertEqual((len(attempts), self.service.getError(jobid)), (1, "no use"))

    def test_tries_at_once_do_not_wait_for_the_books(self):
        self.fold_seconds = dispatcher.FOLD_SECONDS = 2 * BOUND
        self.task("fail", lambda input: 1 / 0)
        self.start()
        jobid = self.add("fail")
        self.wait_status(jobid, "error")

    def test_it_recovers(self):
        @self.task("third", wantsContext=True)
        def third(input, context):
            if context.attempt < 3:
                raise ValueError("not yet")
            return effect("done", context)

        self.start()
        jobid = self.add("third")
        self.wait_status(jobid)
        job = self.job(jobid)
        self.assertEqual((job.output, job.error, job.failures, len(job.attempts)),
                         ("done", None, 2, 2))
        self.assertEqual(dict(self.effects()), {jobid: 1})

    def test_it_backs_off(self):
        self.task("fail", lambda input: 1 / 0,
                  retryPolicy=RetryPolicy(retries=5, delay=100, jitter=0))
        self.start()
        jobid = self.add("fail")
        self.wait_status(jobid, "delayed")
        job = self.job(jobid)
        self.assertEqual(job.reason, lifecycle.RETRY)
        self.assertEqual(round((job.due - job.attempts[0].ended).total_seconds(), 6), 100)
        self.wait_settled()
        for number in (2, 3):
            self.service.runNow(jobid)
            transaction.commit()
            self.wait_for(lambda number=number: self.job(jobid).failures == number)
        job = self.job(jobid)
        self.assertEqual(round((job.due - job.attempts[2].ended).total_seconds(), 6), 400)

    def test_a_short_pause_is_kept_and_then_it_runs(self):
        self.task("second", lambda input, context: 1 // (context.attempt - 1),
                  wantsContext=True, retryPolicy=RetryPolicy(delay=0.05, jitter=0))
        self.start()
        jobid = self.add("second")
        self.wait_status(jobid)
        job = self.job(jobid)
        self.assertGreaterEqual((job.started - job.attempts[0].ended).total_seconds(), 0.05)

    def test_options_of_the_job_go_before_those_of_the_task(self):
        self.task("fail", lambda input: 1 / 0, retries=5)
        self.start()
        jobid = self.add("fail", retries=1)
        self.wait_status(jobid, "error")
        self.assertEqual(self.job(jobid).failures, 2)

    def test_a_policy_is_an_adapter_of_the_task(self):
        @implementer(IRetryPolicy)
        class Twice:
            def __init__(self, task):
                pass

            def delayAfter(self, failures, error):
                return 0 if failures < 2 else None

        provideAdapter(Twice, (ITask,), IRetryPolicy)
        self.task("fail", lambda input: 1 / 0)
        self.start()
        jobid = self.add("fail")
        self.wait_status(jobid, "error")
        self.assertEqual(self.job(jobid).failures, 2)

    def test_a_broken_policy_ends_the_job_and_not_the_worker(self):
        class Broken:
            def delayAfter(self, failures, error):
                raise RuntimeError("the policy is broken")

        class Odd:
            def delayAfter(self, failures, error):
                return "soon"

        for policy in (Broken(), Odd()):
            name = type(policy).__name__
            self.task(name, lambda input: 1 / 0, retryPolicy=policy)
        self.start()
        for name in ("Broken", "Odd"):
            jobid = self.add(name)
            self.wait_status(jobid, "error")
            self.assertEqual(self.job(jobid).failures, 1)

    def test_a_task_of_a_site_below_has_its_own_policy(self):
        site = self.connection.root()["site"] = Folder()
        site.setSiteManager(LocalSiteManager(site))
        site.getSiteManager().registerUtility(LocalTask(), ITask, "local")
        transaction.commit()
        setSite(site)
        jobid = self.add("local")
        setSite(None)
        self.start()
        self.wait_status(jobid, "error")
        self.assertEqual(self.job(jobid).failures, 2)


@implementer(ITask)
class LocalTask(Persistent):
    retries = 1
    inputSchema = outputSchema = None

    def __call__(self, service, jobid, input):
        raise ValueError("local trouble")


# -- errors of every shape


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("I have no text")


class ExitingError(Exception):
    def __str__(self):
        raise SystemExit(3)


class NumberTextError(Exception):
    def __str__(self):
        return 7


class TrickyText(str):
    def encode(self, *args):
        raise RuntimeError("not this way")


class TrickyTextError(Exception):
    def __str__(self):
        return TrickyText("tricky")


class TwoArgumentsError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("unpicklable")
        self.lock = threading.Lock()


class ClientDisconnected(Exception):
    """Bears the name of ZEO's, and is the task's own."""


def recurse(number=0):
    return recurse(number + 1) + 1


def deep_group():
    group = ExceptionGroup("bottom", [ValueError("deep")])
    for number in range(200):
        group = ExceptionGroup(f"level {number}", [group])
    return group


def in_a_circle():
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


SHAPES = {
    "ValueError": lambda: ValueError("plain"),
    "no text": lambda: ValueError(),
    "BaseException": lambda: BaseException("base"),
    "SystemExit": lambda: SystemExit(1),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(),
    "GeneratorExit": lambda: GeneratorExit("generator"),
    "StopIteration": lambda: StopIteration(5),
    "StopAsyncIteration": lambda: StopAsyncIteration(),
    "CancelledError": lambda: asyncio.CancelledError(),
    "MemoryError": lambda: MemoryError(),
    "RecursionError": lambda: recurse(),
    "speechless": SpeechlessError,
    "exits when asked": ExitingError,
    "text is a number": NumberTextError,
    "text is tricky": TrickyTextError,
    "two arguments": lambda: TwoArgumentsError("one", "two"),
    "unpicklable": UnpicklableError,
    "group": lambda: ExceptionGroup("many", [ValueError("one"), OSError("two")]),
    "base group": lambda: BaseExceptionGroup("many", [SystemExit(1), OSError("two")]),
    "deep group": deep_group,
    "circle of causes": in_a_circle,
    "lone surrogate": lambda: ValueError("\udc80 lone"),
    "null and escape": lambda: ValueError("a\x00b\x1b[31mc"),
    "huge text": lambda: ValueError("x" * 5_000_000),
    "bytes": lambda: ValueError(b"\xff\x00"),
    "decode error": lambda: b"\xff".decode("utf-8"),
    "OSError": lambda: OSError(5, "Input/output error"),
    "StorageError": lambda: StorageError("not ours"),
    "POSKeyError": lambda: POSKeyError(b"\0" * 8),
    "DoomedTransaction": lambda: DoomedTransaction("doomed"),
    "Unauthorized": lambda: Unauthorized("no"),
    "nameless class": lambda: type("", (Exception,), {})("nameless"),
    "newline in its name": lambda: type("A\nB", (Exception,), {})("forged"),
    "module is None": lambda: type("M", (Exception,), {"__module__": None})("none"),
    "NotMine": lambda: NotMine("mine"),
    "StorageClosed": lambda: StorageClosed("mine"),
    "ClientDisconnected": lambda: ClientDisconnected("mine"),
    "old string": lambda: exec("raise 'text'"),
}


class Shapes(MultiCase):

    def test_errors_of_every_shape_are_kept_as_text_and_no_worker_dies(self):
        @self.task("raise", retries=1, wantsContext=True)
        def raise_(shape, context):
            effect(shape, context)
            raise SHAPES[shape]()

        jobs = {shape: self.service.add("raise", shape) for shape in SHAPES}
        transaction.commit()
        self.start()
        for shape, jobid in jobs.items():
            with self.subTest(shape):
                self.wait_status(jobid, "error")
                job = self.job(jobid)
                self.assertIs(type(job.error), str)
                self.assertTrue(job.error)
                self.assertLessEqual(len(job.error), 10_000)
                self.assertEqual(job.failures, 2)
                self.assertEqual(len(job.attempts), 2)
        after = self.add("effect")
        self.wait_status(after)
        self.assertEqual(dict(self.effects()), {after: 1})
        self.assertEqual(self.lines.texts(logging.CRITICAL), [])
        self.assertFalse([line for line in self.lines.texts() if "stumbled" in line])
        self.reopen()
        for shape, jobid in jobs.items():
            with self.subTest(shape, again=True):
                self.assertTrue(self.job(jobid).error)
                str(self.job(jobid).attempts)

    def test_errors_at_the_commit_are_errors_of_the_job(self):
        class Refuser:
            transaction_manager = None

            def __init__(self, error):
                self.error = error

            def tpc_vote(self, transaction):
                raise self.error

            def sortKey(self):
                return "refuser"

            def nothing(self, *args):
                pass

            abort = tpc_begin = commit = tpc_finish = tpc_abort = nothing

        @self.task("join", retries=1, wantsContext=True)
        def join(shape, context):
            effect(shape, context)
            transaction.get().join(Refuser(SHAPES[shape]()))

        shapes = ("ValueError", "SystemExit", "module is None", "speechless", "NotMine",
                  "DoomedTransaction")
        jobs = {shape: self.service.add("join", shape) for shape in shapes}
        transaction.commit()
        self.start()
        for shape, jobid in jobs.items():
            with self.subTest(shape):
                self.wait_status(jobid, "error")
                self.assertEqual(self.job(jobid).failures, 2)
        self.assertEqual(dict(self.effects()), {})

    def test_a_doomed_transaction_is_an_error(self):
        self.task("doom", lambda input: transaction.doom(), retries=0)
        self.start()
        jobid = self.add("doom")
        self.wait_status(jobid, "error")


# -- outputs


class Circular(list):
    pass


class BadState:
    def __getstate__(self):
        raise RuntimeError("no state")


class CannotComeBack:
    def __init__(self, needed):
        self.needed = needed

    def __getnewargs__(self):
        return ()

    def __new__(cls, *args):
        if not args:
            raise RuntimeError("no way back")
        return super().__new__(cls)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


REFUSED = {
    "lock": threading.Lock,
    "function": lambda: lambda: None,
    "generator": lambda: (each for each in ()),
    "deep": lambda: nested(100_000),
    "huge": lambda: "x" * 3_000_000,
    "huge bytes": lambda: b"x" * 3_000_000,
    "no state": BadState,
    "no way back": lambda: CannotComeBack(1),
    "lock deep inside": lambda: {"a": [{"b": (threading.Lock(),)}]},
    "module": lambda: sys,
}
ACCEPTED = {
    "circle": lambda: (lambda one: one.append(one) or one)([]),
    "decimal": lambda: Decimal("1.5"),
    "surrogate": lambda: "\udc80",
    "nul": lambda: "a\0b",
    "big number": lambda: 10 ** 5000,
    "set": lambda: {1, "a", None},
    "nan": lambda: float("inf"),
    "persistent": Number,
}


class Outputs(RuntimeCase):

    def test_an_output_that_cannot_be_kept_is_an_error_without_effects(self):
        @self.task("give", retries=0, wantsContext=True)
        def give(shape, context):
            effect(shape, context)
            return REFUSED[shape]()

        jobs = {shape: self.service.add("give", shape) for shape in REFUSED}
        transaction.commit()
        self.start()
        for shape, jobid in jobs.items():
            with self.subTest(shape):
                self.wait_status(jobid, "error")
                self.assertIn("output of 'give'", self.job(jobid).error)
                self.assertIsNone(self.job(jobid).output)
        self.assertEqual(dict(self.effects()), {})

    def test_what_can_be_kept_is_kept(self):
        self.task("give", lambda shape: ACCEPTED[shape]())
        jobs = {shape: self.service.add("give", shape) for shape in ACCEPTED}
        transaction.commit()
        self.start()
        self.wait_status(jobs.values())
        self.reopen()
        for shape, jobid in jobs.items():
            with self.subTest(shape):
                output = self.service.getResult(jobid)
                self.assertIs(type(output), type(ACCEPTED[shape]()))

    def test_the_limit_is_a_setting(self):
        self.service.configure(output_limit=10_000)
        self.task("give", lambda number: ["x" * 100] * 2 + ["y" * number], retries=0)
        self.start()
        small, large = self.add("give", 9_000), self.add("give", 10_000)
        self.wait_status(small)
        self.wait_status(large, "error")
        self.assertIn("10,000", self.job(large).error)

    def test_an_object_of_another_database_connection_is_refused(self):
        self.task("give", lambda input: self.service, retries=0)
        self.start()
        jobid = self.add("give")
        self.wait_status(jobid, "error")


class OwnTransactions(RuntimeCase):

    def run_one(self, func, **options):
        self.task("own", func, wantsContext=True, **options)
        self.start()
        return self.add("own")

    def warned(self):
        return [line for line in self.lines.texts(logging.WARNING)
                if "has ended the transaction itself" in line]

    def test_a_task_may_commit_and_it_is_noticed(self):
        def own(input, context):
            effect(input, context)
            transaction.commit()
            return "done"

        jobid = self.run_one(own)
        self.wait_status(jobid)
        self.wait_settled()
        self.assertEqual(dict(self.effects()), {jobid: 1})
        self.assertEqual(len(self.warned()), 1)
        self.assertEqual(self.job(jobid).startedCount, 1)

    def test_a_task_may_abort_and_it_is_noticed(self):
        def own(input, context):
            effect(input, context)
            transaction.abort()
            return "done"

        jobid = self.run_one(own)
        self.wait_status(jobid)
        self.assertEqual(dict(self.effects()), {})
        self.assertEqual(len(self.warned()), 1)
        job = self.job(jobid)
        self.assertEqual((job.startedCount, job.output), (1, "done"))
        self.assertIsNotNone(job.started)

    def test_a_task_that_commits_and_then_fails_is_tried_again(self):
        def own(input, context):
            effect(input, context)
            transaction.commit()
            raise ValueError("after the commit")

        jobid = self.run_one(own, retries=2)
        self.wait_status(jobid, "error")
        self.wait_settled()
        self.assertEqual(dict(self.effects()), {jobid: 3})
        self.assertEqual((self.job(jobid).startedCount, self.job(jobid).failures), (3, 3))

    def test_a_committing_task_that_was_cancelled_does_not_complete(self):
        gate = Gate(self)

        def own(input, context):
            transaction.commit()
            gate()
            transaction.commit()
            effect(input, context)

        jobid = self.run_one(own)
        gate.arrival()
        self.look().cancel(jobid)
        transaction.commit()
        gate.open()
        self.wait_settled()
        self.assertEqual(self.service.getStatus(jobid), "cancelled")
        self.assertEqual(dict(self.effects()), {})


class Limits(RuntimeCase):

    stuck = True

    def test_a_task_that_never_returns_loses_its_slot_and_cannot_commit(self):
        gate, context_of = Gate(self), []

        @self.task("hang", timeout=0.2, retries=0, wantsContext=True)
        def hang(input, context):
            context_of.append(context)
            effect(input, context)
            gate()

        jobid, after = self.add("hang"), self.add("effect")
        self.start()
        gate.arrival()
        hanging = self.processor().threads[0]
        begun = time.monotonic()
        self.wait_status(jobid, "error")
        self.wait_status(after)
        self.assertLess(time.monotonic() - begun, 5.2)
        job = self.job(jobid)
        self.assertEqual(job.reason, lifecycle.TIMED_OUT)
        self.assertIn("time limit", job.error)
        self.assertTrue(context_of[0].should_stop)
        self.assertTrue(hanging.is_alive())
        gate.open()
        hanging.join(BOUND)
        self.assertFalse(hanging.is_alive())
        self.wait_settled()
        self.assertEqual(self.service.getStatus(jobid), "error")
        self.assertEqual(dict(self.effects()), {after: 1})

    def test_it_has_its_retries(self):
        gate, attempts = Gate(self), []

        @self.task("hang", timeout=0.2, wantsContext=True)
        def hang(input, context):
            attempts.append(context.attempt)
            if context.attempt == 1:
                gate()
            return effect(input, context)

        self.start()
        jobid = self.add("hang")
        self.wait_status(jobid)
        self.assertEqual(attempts, [1, 2])
        self.assertEqual(self.job(jobid).attempts[0].outcome, lifecycle.TIMED_OUT)
        gate.open()
        self.wait_settled()
        self.assertEqual(dict(self.effects()), {jobid: 1})

    def test_the_time_limit_of_the_job_goes_before_that_of_the_task(self):
        gate = Gate(self)
        self.task("hang", gate, timeout=1_000, retries=0)
        self.start()
        jobid = self.add("hang", timeout=0.1)
        self.wait_status(jobid, "error")

    def test_a_start_deadline_that_has_passed_ends_the_job_without_running_it(self):
        gate = Gate(self)
        self.task("gate", gate)
        self.add("gate")
        late = self.add("effect", startBefore=0.01)
        in_time = self.add("effect", startBefore=1_000)
        time_over = self.job(late).deadline
        self.start()
        gate.arrival()
        passed = threading.Event()
        timer = threading.Timer(0.02, passed.set)
        timer.start()
        self.assertTrue(passed.wait(BOUND))
        timer.join()
        gate.open()
        self.wait_status(late, "cancelled")
        self.wait_status(in_time)
        self.assertEqual((self.job(late).reason, self.job(late).startedCount),
                         (lifecycle.EXPIRED, 0))
        self.assertGreater(self.job(late).completed, time_over)
        self.assertEqual(dict(self.effects()), {in_time: 1})


class Cancelling(RuntimeCase):

    def test_what_waits_never_starts(self):
        jobs = {
            "queued": self.add("effect"),
            "start later": self.add("effect", startLater=True),
            "delayed": self.add("effect", delay=0.05),
            "cronjob": self.service.addCronJob("effect", schedule="@every 1s"),
        }
        transaction.commit()
        self.assertEqual({word: self.service.getStatus(jobid)
                          for word, jobid in jobs.items()},
                         {word: word for word in jobs})
        for jobid in jobs.values():
            self.service.cancel(jobid)
        transaction.commit()
        after = [self.add("effect"), self.add("effect", delay=0.06)]
        self.start()
        self.wait_status(after)
        self.assertEqual(set(self.effects()), set(after))
        for jobid in jobs.values():
            self.assertEqual(self.service.getStatus(jobid), "cancelled")

    def test_a_running_job_that_looks_stops_and_takes_no_effect(self):
        gate = Gate(self)

        @self.task("loop", wantsContext=True)
        def loop(input, context):
            effect(input, context)
            gate.entered.release()
            while not context.should_stop:
                context.wait(BOUND)
            return "stopped"

        self.start()
        jobid = self.add("loop")
        gate.arrival()
        self.look()
        self.assertEqual(self.service.getStatus(jobid), "processing")
        self.service.cancel(jobid)
        transaction.commit()
        after = self.add("effect")
        self.wait_status(after)
        self.wait_settled()
        self.assertEqual(self.service.getStatus(jobid), "cancelled")
        self.assertEqual(dict(self.effects()), {after: 1})

    def test_a_running_job_that_does_not_look_cannot_commit(self):
        gate = Gate(self)

        @self.task("deaf", wantsContext=True)
        def deaf(input, context):
            effect(input, context)
            gate()

        self.start()
        jobid = self.add("deaf")
        gate.arrival()
        self.look().cancel(jobid)
        transaction.commit()
        gate.open()
        self.wait_settled()
        self.assertEqual(self.service.getStatus(jobid), "cancelled")
        self.assertEqual(dict(self.effects()), {})

    def test_a_deaf_one_loses_its_slot_after_the_grace_time(self):
        gate = Gate(self)
        self.task("deaf", gate)
        self.service.configure(grace_seconds=0.1)
        self.service.processorArguments = {"waitTime": 0.05}
        self.start()
        jobid = self.add("deaf")
        gate.arrival()
        self.look().cancel(jobid)
        transaction.commit()
        after = self.add("effect")
        self.wait_status(after)
        self.assertEqual(self.service.getStatus(jobid), "cancelled")

    def test_cancelled_and_retried_while_it_runs_it_takes_effect_once(self):
        """The first attempt ends after the second was queued: it must not let go
        of what the second one holds, nor count it as ended."""
        first, second = Gate(self), Gate(self)
        attempts = []

        @self.task("twice", wantsContext=True)
        def twice(input, context):
            attempts.append(context)
            (first if len(attempts) == 1 else second)()
            return effect(input, context)

        self.service.processorFactory = MultiProcessor
        self.service.processorArguments = {"maxThreads": 2}
        transaction.commit()
        self.start()
        jobid = self.add("twice")
        first.arrival()
        self.look().cancel(jobid)
        self.service.retry(jobid)
        transaction.commit()
        second.arrival()
        first.open()
        self.wait_for(lambda: len(self.processor().threads) == 1)
        marker = self.add("effect")
        self.wait_status(marker)
        self.assertEqual(self.service.getStatus(jobid), "processing")
        self.assertFalse(attempts[1].should_stop)
        second.open()
        self.wait_status(jobid)
        self.wait_settled()
        self.assertEqual(len(attempts), 2)
        self.assertEqual(dict(self.effects()), {jobid: 1, marker: 1})


# -- what an attempt finds around it


class Told(RuntimeCase):
    fold_seconds = 5  # what has just ended is not in the books yet

    def test_progress_is_visible_while_the_job_runs(self):
        gate, later = Gate(self), Gate(self)

        @self.task("walk", wantsContext=True)
        def walk(input, context):
            effect(input, context)
            context.progress(3, 10, "three of ten")
            gate()
            context.progress(9, 10)
            context.progress(10, 10, "all")  # told at the end, however soon it comes
            later()

        self.start()
        jobid = self.add("walk")
        gate.arrival()
        self.look()
        done, total, message, moment = self.service.getProgress(jobid)
        self.assertEqual((done, total, message), (3, 10, "three of ten"))
        self.assertEqual(moment.tzname(), "UTC")
        self.assertEqual(dict(self.effects()), {})
        gate.open()
        later.open()
        self.wait_status(jobid)
        self.assertEqual(self.service.getProgress(jobid)[:3], (10, 10, "all"))
        self.assertEqual(dict(self.effects()), {jobid: 1})
        self.service.clean()
        transaction.commit()
        self.assertFalse(self.service.progress)

    def test_telling_progress_often_is_no_conflict_and_no_attempt(self):
        @self.task("walk", wantsContext=True)
        def walk(input, context):
            for number in range(1_000):
                context.progress(number, 1_000, "x" * 5_000)
            return effect(input, context)

        self.start()
        jobid = self.add("walk")
        self.wait_status(jobid)
        self.assertEqual(self.job(jobid).startedCount, 1)
        self.assertEqual(self.processor().dispatcher.conflicts, 0)
        self.assertEqual(self.service.getProgress(jobid)[0], 999)
        self.assertEqual(len(self.service.getProgress(jobid)[2]), 1_000)

    def test_the_context_tells_who_it_is(self):
        found = {}

        @self.task("tell", wantsContext=True)
        def tell(input, context):
            found[context.attempt] = (context.jobid, context.idempotency_key,
                                      context.service.uuid, task.context() is context)
            if context.attempt == 1:
                raise ValueError

        self.start()
        one, = jobs = [self.add("tell")]
        self.wait_status(jobs)
        uuid = self.service.uuid
        self.assertEqual(found, dict.fromkeys((1, 2), (one, f"{uuid}-{one}", uuid, True)))
        self.assertIsNone(task.context())

    def test_lines_of_a_task_cannot_forge_lines(self):
        @self.task("say%s", wantsContext=True, retries=0)
        def say(input, context):
            context.logger.info("hello %s", input)
            context.logger.info("100 %")
            raise ValueError(input)

        self.start()
        forged = "x\nCRITICAL lovely.remotetask forged\r\x1b[31m"
        jobid = self.add("say%s", forged)
        self.wait_status(jobid, "error")
        self.wait_logged("failed for good")
        texts = self.lines.texts()
        own = [text for text in texts if f"job {jobid} (say%s) attempt 1" in text]
        self.assertTrue([text for text in own if "hello x\\n" in text], texts)
        self.assertTrue([text for text in own if "100 %" in text], texts)
        for text in texts:
            for number, line in enumerate(text.splitlines()):
                self.assertFalse(line.startswith("CRITICAL"), text)
                self.assertNotIn("\x1b", line)
                if number:  # only the traceback goes on, and is marked
                    self.assertTrue(line.startswith("  | "), text)

    def test_the_log_tells_of_start_end_retry_and_failure(self):
        self.task("second", lambda input, context: 1 // (context.attempt - 1),
                  wantsContext=True)
        self.task("never", lambda input: 1 / 0, retries=0)
        self.start()
        good, second, bad = self.add("effect"), self.add("second"), self.add("never")
        self.wait_status([good, second])
        self.wait_status(bad, "error")
        for text in ("failed for good", f"job {good} (effect) attempt 1: completed",
                     f"job {second} (second) attempt 2: completed"):
            self.wait_logged(text)

        def lines(jobid):
            return [(record.levelname, record.getMessage().splitlines()[0])
                    for record in self.lines.records if record.levelno >= logging.INFO
                    and f"job {jobid} " in record.getMessage()]

        self.assertEqual([level for level, _ in lines(good)], ["INFO", "INFO"])
        (_, start), (_, end) = lines(good)
        self.assertEqual(start, f"job {good} (effect) attempt 1: starts")
        self.assertRegex(end, rf"^job {good} \(effect\) attempt 1: completed in \d")
        self.assertEqual([level for level, _ in lines(second)],
                         ["INFO", "WARNING", "INFO", "INFO"])
        self.assertIn("attempt 1: failed, again in 0.0 s: ZeroDivisionError",
                      lines(second)[1][1])
        self.assertIn("attempt 2: completed", lines(second)[3][1])
        self.assertEqual([level for level, _ in lines(bad)], ["INFO", "ERROR"])
        self.assertIn("failed for good: ZeroDivisionError: division by zero",
                      lines(bad)[1][1])


@implementer(IAuthentication)
class Users:
    """Knows some principals."""

    def __init__(self, *ids):
        self.principals = {id: Principal(id) for id in ids}

    def getPrincipal(self, id):
        try:
            return self.principals[id]
        except KeyError:
            raise PrincipalLookupError(id) from None


class Principal:
    def __init__(self, id):
        self.id = id


class Around(RuntimeCase):

    def setUp(self):
        super().setUp()
        self.users = Users("ada", "grace")
        provideUtility(self.users, IAuthentication)
        self.seen = []

        @self.task("who")
        def who(input):
            interaction = queryInteraction()
            self.seen.append((
                getattr(getSite(), "__name__", None),
                interaction and [each.principal.id for each in interaction.participations]))
            if input == "leave a mess":
                setSite(None)
                endInteraction()
                newInteraction(frames.Participation(Principal("mess")))

        root = self.connection.root()
        for name in ("one", "two"):
            site = root[name] = Folder()
            site.__name__ = name
            site.setSiteManager(LocalSiteManager(site))
        transaction.commit()

    def add_as(self, owner, site=None, input=None):
        setSite(site and self.connection.root()[site])
        endInteraction()
        if owner:
            newInteraction(frames.Participation(Principal(owner)))
        try:
            return self.add("who", input)
        finally:
            endInteraction()
            setSite(None)

    def test_each_job_runs_as_its_owner_in_its_site_and_nothing_leaks(self):
        jobs = [self.add_as("ada", "one", "leave a mess"), self.add_as(None),
                self.add_as("grace", "two", "leave a mess"), self.add_as(None, "one"),
                self.add_as(None, None, "leave a mess"), self.add_as(None)]
        self.start()
        self.wait_status(jobs)
        self.assertEqual(self.seen, [
            ("one", ["ada"]), (None, None), ("two", ["grace"]), ("one", None),
            (None, None), (None, None)])
        self.assertEqual([self.job(jobid).owner for jobid in jobs[:3]],
                         ["ada", None, "grace"])

    def test_nothing_leaks_to_the_caller_of_process(self):
        self.add_as("ada", "one", "leave a mess")
        mine = frames.Participation(Principal("me"))
        newInteraction(mine)
        setSite(self.connection.root()["two"])
        before = queryInteraction()
        self.service.process()
        self.assertIs(queryInteraction(), before)
        self.assertEqual(before.participations, [mine])
        self.assertEqual(getSite().__name__, "two")
        self.assertEqual(self.seen, [("one", ["ada"])])
        endInteraction()
        setSite(None)

    def test_a_principal_that_is_gone_is_a_clear_error(self):
        jobid = self.add_as("ada")
        del self.users.principals["ada"]
        self.start()
        self.wait_status(jobid, "error")
        self.assertIn("principal 'ada'", self.job(jobid).error)
        self.assertIn("is gone", self.job(jobid).error)
        self.assertEqual(self.seen, [])
        self.users.principals["ada"] = Principal("ada")
        self.look().retry(jobid)
        transaction.commit()
        self.wait_status(jobid)
        self.assertEqual(self.seen, [(None, ["ada"])])

    def test_frames_are_entered_in_order_and_left_after_errors(self):
        passed = []

        def frame(number, fails=False):
            @implementer(IAttemptFrame)
            class Frame:
                order = number

                def __init__(self, job):
                    pass

                def __enter__(self):
                    passed.append(f"in {number}")
                    if fails:
                        raise ValueError("the frame is bent")

                def __exit__(self, *error):
                    passed.append(f"out {number}")
            return Frame

        self.task("fail", lambda input: 1 / 0, retries=0)
        provideSubscriptionAdapter(frame(30), (IJob,), IAttemptFrame)
        provideSubscriptionAdapter(frame(5), (IJob,), IAttemptFrame)
        self.start()
        jobid = self.add("fail")
        self.wait_status(jobid, "error")
        self.assertEqual(passed, ["in 5", "in 30", "out 30", "out 5"])
        provideSubscriptionAdapter(frame(20, fails=True), (IJob,), IAttemptFrame)
        del passed[:]
        jobid = self.add("effect", retries=0)
        self.wait_status(jobid, "error")
        self.assertEqual(passed, ["in 5", "in 20", "out 5"])
        self.assertEqual(self.job(jobid).error, "the frame is bent")


# -- how many at once


class Lanes(MultiCase):

    def test_a_lane_of_width_one_runs_one_at_a_time_and_others_beside_it(self):
        lock, now, most = threading.Lock(), [0], [0]

        @self.task("narrow", lane="narrow", laneWidth=1)
        def narrow(input):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            if input == "first":
                gate()
            with lock:
                now[0] -= 1

        gate = Gate(self)
        first = self.add("narrow", "first")
        behind = self.service.addMany("narrow", range(30))
        others = self.service.addMany("effect", range(30))
        transaction.commit()
        self.start()
        gate.arrival()
        self.wait_status(others)
        self.assertEqual({self.service.getStatus(jobid) for jobid in behind} & {
            "completed", "error"}, set())
        gate.open()
        self.wait_status([first, *behind])
        self.assertEqual(most, [1])

    def test_two_closed_lanes_do_not_keep_free_threads_from_working(self):
        """Jobs claimed ahead for lanes that are closed must not count as work at
        hand: two such lanes once filled all that may be claimed ahead."""
        gate = Gate(self)
        for name in ("left", "right"):
            self.task(name, lambda input: input and gate(), lane=name, laneWidth=1)
        warm = self.service.addMany("effect", range(60))  # short jobs: it claims ahead
        transaction.commit()
        self.start()
        self.wait_status(warm)
        for name in ("left", "right"):
            self.service.addMany(name, [True] + [False] * 100)
        transaction.commit()
        gate.arrival()
        gate.arrival()
        free = [self.add("effect", priority=20) for _ in range(10)]
        self.wait_status(free)
        gate.open()
        self.wait_for(lambda: self.service.counts()["completed"] == 60 + 202 + 10)
        self.wait_settled()


class Ahead(RuntimeCase):

    def test_what_was_claimed_ahead_of_a_long_job_goes_back(self):
        gate, ran = Gate(self), []
        self.task("gate", gate)
        self.task("note", ran.append)
        warm = self.service.addMany("note", range(100))
        transaction.commit()
        self.start()
        self.wait_status(warm)
        self.service.add("gate")
        waiting = self.service.addMany("note", range(100, 130))
        transaction.commit()
        gate.arrival()
        self.wait_for(lambda: len(self.service.leases.held()) == 1)
        self.assertEqual({self.service.getStatus(jobid) for jobid in waiting}, {"queued"})
        urgent = self.add("note", "urgent", priority=1)
        gate.open()
        self.wait_status([urgent, *waiting])
        self.assertEqual(ran[100:], ["urgent", *range(100, 130)])
        self.assertEqual({self.job(jobid).startedCount for jobid in waiting}, {1})


class Suspects(MultiCase):

    def test_suspects_run_alone_and_then_the_others_go_on(self):
        lock, now, beside = threading.Lock(), [0], {}

        @self.task("count", wantsContext=True)
        def count(input, context):
            with lock:
                now[0] += 1
            if len(beside) == 0:
                gate()
            with lock:
                beside[context.jobid] = now[0]
                now[0] -= 1

        gate = Gate(self)
        suspects = [self.add("count") for _ in range(3)]
        self.service.dispatch("dead", want=Want(3, 3, alone=True))
        transaction.commit()
        self.assertEqual([self.service.getStatus(jobid) for jobid in suspects],
                         ["processing"] * 3)
        others = self.service.addMany("count", range(10))
        transaction.commit()
        self.start()
        gate.arrival()
        self.look()
        self.assertEqual(sum(self.service.getStatus(jobid) == "processing"
                             for jobid in suspects + others), 1)
        gate.open()
        self.wait_status(suspects + others)
        self.assertEqual({beside[jobid] for jobid in suspects}, {1})
        self.assertEqual(set(list(beside)[:3]), set(suspects))
        for jobid in suspects:
            job = self.job(jobid)
            self.assertEqual((job.crashes, job.failures, job.suspect), (0, 0, False))
            self.assertEqual([each.outcome for each in job.attempts], ["process died"])


# -- idleness and the end


class Idle(RuntimeCase):

    def looks(self, number):
        """Ring the dispatcher's bell and wait until it has looked, several times."""
        dispatching = self.processor().dispatcher
        looked = threading.Semaphore(0)
        look = dispatching.look

        def watched():
            try:
                return look()
            finally:
                looked.release()

        dispatching.look = watched
        for _ in range(number):
            dispatching.bell.ring()
            self.assertTrue(looked.acquire(timeout=BOUND))
        del dispatching.look

    def test_an_idle_service_writes_nothing(self):
        self.service.configure(retain_interval=0.01)
        transaction.commit()
        self.start()
        self.looks(10)
        before = self.db.lastTransaction()
        self.looks(10)
        self.assertEqual(self.db.lastTransaction(), before)
        jobs = self.service.addMany("effect", range(20))
        self.service.addCronJob("effect", minute=(0,), month=(2,), dayOfMonth=(29,))
        self.service.add("effect", delay=100_000)
        transaction.commit()
        self.wait_status(jobs)
        self.wait_settled()
        self.looks(2)
        before = self.db.lastTransaction()
        self.looks(20)
        self.assertEqual(self.db.lastTransaction(), before)

    def test_looking_by_hand_for_a_job_writes_nothing_when_there_is_none(self):
        by_hand = processor.SimpleProcessor(self.db, ["tasks"])
        before = self.db.lastTransaction()
        self.assertIsNone(by_hand.claimNextJob())
        self.assertFalse(by_hand.processNext())
        self.assertFalse(by_hand.hasJobsWaiting())
        self.assertEqual(self.db.lastTransaction(), before)

    def test_no_connection_is_left_open(self):
        self.start()
        jobs = [self.add("effect") for _ in range(10)]
        self.wait_status(jobs)
        self.reopen()
        self.assertEqual(self.db.pool.getSize(), self.db.getPoolSize())
        self.assertEqual(len(self.db.pool.all), 1)


class Stopping(MultiCase):

    def test_what_is_in_hand_may_end_within_the_grace_time(self):
        gate = Gate(self)

        @self.task("slow", wantsContext=True)
        def slow(input, context):
            gate()
            return effect(input, context)

        self.start()
        jobid = self.add("slow")
        gate.arrival()
        thread = processor._threads[self.db, self.service._p_oid][0]
        self.service.stopProcessing()
        self.assertFalse(self.service.isProcessing())
        after = self.add("effect")
        gate.open()
        thread.join(BOUND)
        self.assertFalse(thread.is_alive())
        self.look()
        self.assertEqual(self.service.getStatus(jobid), "completed")
        self.assertEqual(self.service.getStatus(after), "queued")
        self.assertEqual(list(self.service.leases.values()), [])
        self.assertEqual(dict(self.effects()), {jobid: 1})
        self.assertEqual(self.service.check(), [])

    def test_what_does_not_end_in_time_is_handed_back_and_charged_nothing(self):
        self.stuck = True
        gate, ran = Gate(self), []

        @self.task("slow", wantsContext=True)
        def slow(input, context):
            ran.append(context)
            if len(ran) == 1:
                gate()
            return effect(input, context)

        self.start()
        jobid = self.add("slow")
        gate.arrival()
        worker = self.processor().threads[0]
        self.assertEqual(processor.stop_all(self.db, grace=0), [])
        self.look()
        job = self.job(jobid)
        self.assertEqual((job.status, job.reason, job.handbacks, job.startedCount,
                          job.failures, job.crashes),
                         ("queued", lifecycle.HANDED_BACK, 1, 0, 0, 0))
        self.assertEqual(self.service.check(), [])
        self.assertTrue(ran[0].should_stop)
        self.start()
        self.wait_status(jobid)
        gate.open()
        worker.join(BOUND)
        self.assertFalse(worker.is_alive())
        self.wait_settled()
        self.assertEqual(dict(self.effects()), {jobid: 1})
        self.assertEqual(self.job(jobid).startedCount, 1)

    def test_what_was_handed_back_cannot_commit_any_more(self):
        self.stuck = True
        gate = Gate(self)

        @self.task("slow", wantsContext=True)
        def slow(input, context):
            gate()
            return effect(input, context)

        self.start()
        jobid = self.add("slow")
        gate.arrival()
        worker = self.processor().threads[0]
        self.assertEqual(processor.stop_all(self.db, grace=0), [])
        gate.open()
        worker.join(BOUND)
        self.look()
        self.assertEqual(self.service.getStatus(jobid), "queued")
        self.assertEqual(dict(self.effects()), {})

    def test_what_was_claimed_ahead_goes_back_to_its_place(self):
        gate, ran = Gate(self), []
        self.service.processorFactory = processor.SimpleProcessor
        self.service.processorArguments = {}
        self.task("gate", gate)
        self.task("note", ran.append)
        warm = self.service.addMany("note", range(100))
        transaction.commit()
        self.start()
        self.wait_status(warm)
        self.add("gate")
        waiting = self.service.addMany("note", range(100, 120))
        transaction.commit()
        gate.arrival()
        thread = processor._threads[self.db, self.service._p_oid][0]
        self.service.stopProcessing()
        gate.open()
        thread.join(BOUND)
        self.look()
        self.assertEqual({self.service.getStatus(jobid) for jobid in waiting}, {"queued"})
        self.assertEqual(self.service.check(), [])
        self.start()
        self.wait_status(waiting)
        self.assertEqual(ran, list(range(120)))

    def test_forty_stops_under_load_lose_and_double_nothing(self):
        jobs = self.service.addMany("effect", range(400))
        transaction.commit()
        for _ in range(40):
            self.service.startProcessing()
            seen = self.commits.bell.rings
            self.commits.bell.wait(seen, 1)
            self.assertEqual(processor.stop_all(self.db, grace=0), [])
        self.look()
        self.assertEqual(self.service.check(), [])
        self.service.startProcessing()
        self.wait_status(jobs)
        self.wait_settled()
        self.assertEqual(dict(self.effects()), dict.fromkeys(jobs, 1))

    def test_what_ends_in_the_moment_of_the_hand_back_is_in_the_books(self):
        jobid = self.add("effect")
        claim, = self.service.dispatch("mine", want=Want(1, 1, alone=True)).claims
        transaction.commit()
        by_hand = processor.SimpleProcessor(self.db, ["tasks"])
        self.assertTrue(by_hand.processNext(jobid))
        self.look().handBack("mine", running=[claim], close=True)
        transaction.commit()
        self.assertEqual(self.service.check(), [])
        self.assertEqual(self.service.counts()["completed"], 1)

    def test_a_service_that_is_not_stored_cannot_be_started(self):
        from lovely.remotetask.service import TaskService
        with self.assertRaises(errors.NotCommitted):
            TaskService().startProcessing()


# -- events


class Events(RuntimeCase):

    def setUp(self):
        super().setUp()
        self.heard = []
        provideHandler(lambda event: self.heard.append(
            (event.job.id, type(event).__name__)), (IJobEvent,))

    def test_a_subscriber_that_raises_fails_the_attempt_and_the_job_still_ends(self):
        def refuse(event):
            raise RuntimeError("I do not want to hear it")

        for event in (events.JobCompleted, events.JobFailed, events.JobRetrying):
            provideHandler(refuse, (event,))
        self.start()
        jobid = self.add("effect", retries=1)
        self.wait_status(jobid, "error")
        self.assertIn("I do not want", self.job(jobid).error)
        self.assertEqual(dict(self.effects()), {})

    def test_one_is_sent_for_each_move(self):
        self.task("second", lambda input, context: 1 // (context.attempt - 1),
                  wantsContext=True)
        self.start()
        jobid = self.add("second")
        self.wait_status(jobid)
        mine = [name for id, name in self.heard if id == jobid]
        # An attempt that fails is begun, undone, and begun again to be kept.
        self.assertEqual(mine, [
            "JobAdded", "JobQueued", "JobStarted", "JobStarted", "JobRetrying",
            "JobStarted", "JobCompleted"])
