"""What a job has changed is told by the storage's history, and can be taken back."""
import os
from functools import partial
from unittest import mock

import transaction
import ZODB
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from lovely.remotetask import lifecycle, processor, undo
from lovely.remotetask.errors import CannotUndo, NoHistory, UnknownJob
from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.runtime import dispatcher, publication
from lovely.remotetask.store import history
from lovely.remotetask.task import context
from lovely.remotetask.testing import BOUND
from lovely.remotetask.tests import servers
from lovely.remotetask.tests.support import Commits, ServiceCase, effect
from lovely.remotetask.uris import resolve


class Page(Persistent):
    """A thing of an application, with a place."""

    text = "old"

    def __init__(self, parent, name):
        self.__parent__, self.__name__ = parent, name


def write(input):
    """A task that writes three objects and makes one."""
    root = context().service._p_jar.root()
    root["page"].text = input
    root["effects"]["text"] = input
    root["count"].change(1)
    root["effects"]["made"] = PersistentMapping(text=input)
    return input


class UndoCase(ServiceCase):

    def setUp(self):
        super().setUp()
        root = self.connection.root()
        root["count"] = Length()
        root["folder"] = Page(None, "")
        root["page"] = Page(root["folder"], "page")
        root["folder"].__parent__, root["folder"].__name__ = root, "folder"
        transaction.commit()
        self.task("write", write)

    def run_job(self, task="write", input="new", **options):
        """Add a job and have threads run it; what it did is in the books."""
        jobid = self.add(task, input, **options)
        self.start()
        self.wait_status(jobid)
        self.wait_settled()
        self.service.stopProcessing()
        transaction.begin()
        return jobid

    def refused(self, jobid):
        with self.assertRaises(CannotUndo) as caught:
            undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual(self.service.check(), [])
        return caught.exception.code


class WhatAJobHasChanged(UndoCase):

    def kinds(self, jobid, **options):
        found = undo.changes(self.service, jobid, **options)
        return [record.kind.rpartition(".")[2] for record in found.records]

    def test_the_objects_of_its_transaction_are_told(self):
        jobid = self.run_job()
        found = undo.changes(self.service, jobid)
        self.assertEqual(found.note, f"runJob {jobid}")
        self.assertEqual(sorted(self.kinds(jobid)), [
            "Job", "Length", "OOBTree", "Page", "PersistentMapping"])
        self.assertTrue(all(record.size > 10 and record.current
                            for record in found.records))
        self.assertFalse(found.more)

    def test_what_was_written_since_is_marked(self):
        jobid = self.run_job()
        self.connection.root()["page"].text = "newer"
        transaction.commit()
        found = undo.changes(self.service, jobid)
        self.assertEqual([record.kind.rpartition(".")[2] for record in found.records
                          if not record.current], ["Page"])

    def test_no_more_is_read_than_asked_for(self):
        @self.task("fill")
        def fill(input):
            tree = context().service._p_jar.root()["effects"]
            for number in range(50):
                tree[number] = PersistentMapping()

        jobid = self.run_job("fill")
        with mock.patch.object(history, "_record", wraps=history._record) as read:
            found = undo.changes(self.service, jobid, limit=5)
        self.assertEqual((len(found.records), found.more, read.call_count), (5, True, 5))

    def test_the_objects_are_not_loaded(self):
        jobid = self.run_job()
        self.connection.cacheMinimize()
        undo.changes(self.service, jobid)
        page = self.connection.get(self.connection.root()["page"]._p_oid)
        self.assertIsNone(page._p_changed)

    def test_a_transaction_long_ago_is_found_without_a_walk_over_the_file(self):
        jobid = self.run_job()
        for number in range(20):
            self.connection.root()["later"] = number
            transaction.commit()
        with mock.patch.object(history.FileIterator, "_scan_forward") as forward, \
                mock.patch.object(history.FileIterator, "_scan_backward") as backward:
            self.assertEqual(len(self.kinds(jobid)), 5)
        self.assertFalse(forward.called or backward.called)

    def test_a_place_is_found_by_names_or_in_the_root(self):
        jobid = self.run_job()
        places = {}
        for record in undo.changes(self.service, jobid).records:
            found, names = history.place_of(self.connection, record.oid)
            places[type(found).__name__] = names
        self.assertEqual(places["Page"], ("folder", "page"))
        self.assertEqual(places["OOBTree"], ("effects",))
        self.assertEqual(places["Length"], ("count",))
        self.assertIsNone(places["PersistentMapping"])
        root = self.connection.root()
        self.assertEqual(history.place_of(self.connection, root._p_oid), (root, ()))

    def test_after_a_pack_the_transaction_is_still_told_or_the_lack_of_it(self):
        first = self.run_job()
        second = self.run_job(input="newer")
        self.db.pack()
        transaction.begin()
        # Pack keeps what is current: of the first run only what nobody wrote since.
        self.assertNotIn("Page", self.kinds(first))
        self.assertIn("Page", self.kinds(second))
        self.service.remove(first)
        transaction.commit()
        with self.assertRaises(UnknownJob):
            undo.changes(self.service, first)

    def test_jobs_that_are_not_completed_have_changed_nothing(self):
        waiting = self.add("write", startLater=True)
        with self.assertRaises(NoHistory) as caught:
            undo.changes(self.service, waiting)
        self.assertEqual(caught.exception.code, "not completed")

    def test_a_job_run_by_hand_shares_its_transaction(self):
        jobid = self.add("write", "new")
        self.service.process()
        transaction.commit()
        found = undo.look(self.service, jobid)
        self.assertFalse(found.alone)
        self.assertIn("Inbox", self.kinds(jobid))
        self.assertEqual(self.refused(jobid), "not alone")


class InMemory(UndoCase):
    storage = "mapping"

    def test_a_mapping_storage_tells_but_cannot_undo(self):
        jobid = self.run_job()
        self.assertEqual(len(undo.changes(self.service, jobid).records), 5)
        self.assertEqual(self.refused(jobid), "no undo")


class Undoing(UndoCase):

    def state(self):
        root = self.connection.root()
        return (root["page"].text, root["effects"].get("text"), root["count"](),
                "made" in root["effects"])

    def test_everything_is_as_before_and_the_job_is_cancelled(self):
        jobid = self.run_job()
        self.assertEqual(self.state(), ("new", "new", 1, True))
        undo.undo(self.service, jobid, "zope.manager")
        transaction.begin()
        self.assertEqual(self.state(), ("old", None, 0, False))
        job = self.job(jobid)
        self.assertEqual((job.status, job.reason, job.output),
                         (lifecycle.CANCELLED, lifecycle.UNDONE, None))
        (attempt,) = job.attempts
        self.assertEqual((attempt.number, attempt.outcome, attempt.error),
                         (1, "undone", "taken back by zope.manager"))
        self.assertLess(attempt.started, attempt.ended)
        self.service.process()
        self.assertEqual(self.state(), ("old", None, 0, False))
        self.assertEqual(self.service.check(), [])
        self.assertEqual(self.service.counts()[lifecycle.CANCELLED], 1)

    def test_the_books_agree_while_the_slip_still_waits(self):
        jobid = self.run_job()
        undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual(self.service.check(), [])
        self.assertEqual(self.service.counts()[lifecycle.CANCELLED], 1)
        self.assertEqual(self.service.counts()[lifecycle.COMPLETED], 0)

    def test_threads_do_not_run_it_again_and_a_retry_does(self):
        jobid = self.run_job()
        undo.undo(self.service, jobid)
        other = self.run_job(input="other")
        self.assertEqual(self.job(jobid).status, lifecycle.CANCELLED)
        undo.undo(self.service, other)
        transaction.begin()
        self.service.retry(jobid)
        transaction.commit()
        self.start()
        self.wait_status(jobid)
        self.wait_settled()
        self.assertEqual(self.state(), ("new", "new", 1, True))
        self.assertEqual(self.job(jobid).startedCount, 2)

    def test_it_is_undone_while_threads_work(self):
        jobid = self.add("write", "new")
        self.start()
        self.wait_status(jobid)
        self.wait_settled()
        undo.undo(self.service, jobid)
        others = [self.add("write", f"other {number}") for number in range(3)]
        self.wait_status(others)
        self.wait_settled()
        self.assertEqual((self.job(jobid).status, self.job(jobid).startedCount),
                         (lifecycle.CANCELLED, 1))
        self.assertEqual(self.connection.root()["count"](), 3)

    def test_later_changes_of_other_objects_stay(self):
        jobid = self.run_job()
        root = self.connection.root()
        root["folder"].text = "later"
        root["count"].change(5)
        transaction.commit()
        undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual(self.state(), ("old", None, 5, False))
        self.assertEqual(root["folder"].text, "later")

    def test_later_changes_of_the_same_object_refuse_it_and_say_so(self):
        jobid = self.run_job()
        self.connection.root()["page"].text = "later"
        transaction.commit()
        self.assertIsNone(undo.look(self.service, jobid).hindrance)
        self.assertEqual(undo.look(self.service, jobid).later, 1)
        self.assertEqual(self.refused(jobid), "changed since")
        self.assertEqual(self.state(), ("later", "new", 1, True))
        self.assertEqual(self.job(jobid).status, lifecycle.COMPLETED)

    def test_of_two_jobs_that_wrote_the_same_the_newer_goes_first(self):
        first, second = self.run_job(input="one"), self.run_job(input="two")
        self.assertEqual(self.refused(first), "changed since")
        undo.undo(self.service, second)
        transaction.begin()
        undo.undo(self.service, first)
        transaction.begin()
        self.assertEqual(self.state(), ("old", None, 0, False))

    def test_what_was_packed_away_is_refused(self):
        jobid = self.run_job()
        self.db.pack()
        transaction.begin()
        self.assertIn(self.refused(jobid), ("packed", "changed since"))
        self.assertEqual(self.state(), ("new", "new", 1, True))

    def test_a_job_that_added_jobs_is_refused(self):
        @self.task("mother")
        def mother(input):
            context().service.add("write", "child", startLater=True)

        self.assertEqual(self.refused(self.run_job("mother")), "made jobs")

    def test_a_job_that_added_jobs_after_many_objects_is_refused(self):
        @self.task("great mother")
        def mother(input):
            tree = context().service._p_jar.root()["effects"]
            for number in range(50):
                tree[number] = PersistentMapping()
            context().service.add("write", "child", startLater=True)

        jobid = self.run_job("great mother")
        with mock.patch.object(undo, "look", partial(undo.look, limit=3)):
            self.assertEqual(self.refused(jobid), "made jobs")

    def test_jobs_that_shared_a_transaction_are_refused(self):
        @self.task("many", group=10)
        def many(input):
            context().service._p_jar.root()["effects"][input] = PersistentMapping()

        ids = self.service.addMany("many", range(5))
        transaction.commit()
        with mock.patch.object(publication, "GROUP_SECONDS", BOUND):
            self.start()
            self.wait_status(list(ids))
        self.wait_settled()
        serials = {self.job(jobid)._p_serial for jobid in ids if self.job(jobid).status}
        self.assertLess(len(serials), 5, "they have not shared a transaction")
        together = [jobid for jobid in ids if [
            self.job(each)._p_serial for each in ids].count(self.job(jobid)._p_serial) > 1]
        for jobid in together:
            self.assertFalse(undo.look(self.service, jobid).alone)
            self.assertEqual(self.refused(jobid), "not alone")

    def test_what_is_not_completed_has_nothing_to_undo(self):
        self.task("fails", lambda input: 1 // 0, retries=0)
        jobid = self.add("fails")
        self.start()
        self.wait_status(jobid, lifecycle.ERROR)
        self.wait_settled()
        with self.assertRaises(NoHistory):
            undo.undo(self.service, jobid)

    def test_a_job_whose_end_is_not_in_the_books_yet_waits(self):
        with mock.patch.object(dispatcher, "FOLD_SECONDS", 3600):
            jobid = self.add("write", "new")
            self.start()
            self.wait_status(jobid)
            self.look()
            self.assertEqual(self.refused(jobid), "settling")
            self.service.stopProcessing()
            self.wait_settled()
        undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual(self.state(), ("old", None, 0, False))

    def test_the_history_says_who_and_what(self):
        jobid = self.run_job()
        undo.undo(self.service, jobid, "zope.manager")
        notes = [(entry["user_name"], entry["description"])
                 for entry in self.db.undoLog(0, 5)]
        self.assertIn(("zope.manager", f"undo of job {jobid}"), notes)

    def test_a_conflict_after_the_undo_is_overcome(self):
        jobid, times = self.run_job(), []
        before = type(self.service)._announce

        def once(service, first, last=None):
            before(service, first, last)
            times.append(first)
            if len(times) == 1:
                raise ConflictError("another was faster")

        with mock.patch.object(type(self.service), "_announce", once):
            undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual(self.job(jobid).reason, lifecycle.UNDONE)
        self.assertEqual(len(times), 2)

    def test_an_at_most_once_job_is_taken_back_too(self):
        self.task("once", write, atMostOnce=True)
        jobid = self.run_job("once")
        undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual(self.job(jobid).status, lifecycle.CANCELLED)
        self.assertEqual(self.state(), ("old", None, 0, False))

    def test_the_run_of_a_cron_job_is_told_to_its_cron_job(self):
        cron = self.service.addCronJob("write", "cron", schedule="@yearly")
        jobid = self.service.runNow(cron)
        transaction.commit()
        self.start()
        self.wait_status(jobid)
        self.wait_settled()
        self.service.stopProcessing()
        undo.undo(self.service, jobid)
        transaction.begin()
        self.service.process()
        self.assertEqual([run.status for run in self.job(cron).runs],
                         [lifecycle.CANCELLED])
        transaction.commit()

    def test_the_callers_transaction_has_no_part_in_it(self):
        jobid = self.run_job()
        self.connection.root()["mine"] = OOBTree()
        undo.undo(self.service, jobid)
        transaction.abort()
        self.assertNotIn("mine", self.connection.root())


class HalfWay(UndoCase):
    """The process dies between the two commits, or somebody undoes without us."""

    def undo_by_the_database_alone(self):
        jobid = self.run_job()
        tid = undo.changes(self.service, jobid).tid
        undo._undo_transaction([(self.db, tid)], "by somebody else", "")
        transaction.begin()
        return jobid

    def test_check_tells_and_repair_cancels(self):
        jobid = self.undo_by_the_database_alone()
        self.assertEqual(self.job(jobid).status, lifecycle.QUEUED)
        self.assertEqual(self.service.check(),
                         [f"job {jobid} is queued, the index has completed"])
        self.service.check(repair=True)
        transaction.commit()
        self.assertEqual((self.job(jobid).status, self.job(jobid).reason),
                         (lifecycle.CANCELLED, lifecycle.UNDONE))
        self.assertEqual(self.service.check(), [])

    def test_a_clerk_who_meets_it_cancels_it_and_nobody_runs_it(self):
        jobid = self.undo_by_the_database_alone()
        self.service.shards[0].queue.inbox.drop(jobid)
        transaction.commit()
        self.start()
        self.wait_status(jobid, lifecycle.CANCELLED)
        self.wait_settled()
        self.assertEqual(self.job(jobid).reason, lifecycle.UNDONE)
        self.assertEqual(self.connection.root()["page"].text, "old")

    def test_without_a_slip_no_thread_runs_it(self):
        jobid = self.undo_by_the_database_alone()
        self.task("effect", effect, wantsContext=True)
        self.run_other()
        self.look()
        self.assertEqual(self.job(jobid).startedCount, 0)
        self.service.check(repair=True)
        transaction.commit()

    def run_other(self):
        other = self.add("effect")
        self.start()
        self.wait_status(other)
        processor.stop_all(self.db)


class WithALargeFile(UndoCase):

    def test_a_blob_is_given_back(self):
        @self.task("blob")
        def blob(input):
            with context().service._p_jar.root()["blob"].open("w") as file:
                file.write(b"new")

        root = self.connection.root()
        root["blob"] = Blob(b"old")
        transaction.commit()
        jobid = self.run_job("blob")
        undo.undo(self.service, jobid)
        transaction.begin()
        with root["blob"].open() as file:
            self.assertEqual(file.read(), b"old")

    def make_storage(self):
        return FileStorage(self.path, blob_dir=os.path.join(self.directory, "blobs"))


class InTwoDatabases(UndoCase):
    """The service stands in one database, what the task writes in another."""

    kept = True   # whether the other one keeps history

    def setUp(self):
        super().setUp()

        @self.task("both")
        def both(input):
            here = context().service._p_jar
            here.root()["page"].text = input
            there = here.get_connection("other").root()["shelf"]
            there[input] = PersistentMapping()

        self.task("here", lambda input: self.connection and input)

    def open_database(self):
        databases = {}
        self.db = ZODB.DB(self.make_storage(), databases=databases,
                          database_name="tasks")
        path = os.path.join(self.directory, "Other.fs")
        self.other = ZODB.DB(FileStorage(path) if self.kept else MappingStorage(),
                             databases=databases, database_name="other")
        self.connection = self.db.open()
        self.commits = Commits(self.db)
        root = self.connection.root()
        if "tasks" in root:
            self.service = root["tasks"]
        self.shelf = self.connection.get_connection("other").root().setdefault(
            "shelf", OOBTree())
        transaction.commit()

    def close_database(self):
        faults = super().close_database()
        self.other.close()
        return faults

    def test_both_parts_are_told_and_taken_back(self):
        jobid = self.run_job("both")
        self.assertEqual(self.job(jobid).alsoIn, ("other",))
        there = undo.elsewhere(self.service, jobid)["other"]
        self.assertEqual(sorted(record.kind.rpartition(".")[2] for record in there.records),
                         ["OOBTree", "PersistentMapping"])
        undo.undo(self.service, jobid)
        transaction.begin()
        self.assertEqual((list(self.shelf), self.connection.root()["page"].text),
                         ([], "old"))
        self.assertEqual(self.job(jobid).reason, lifecycle.UNDONE)

    def test_what_cannot_be_taken_back_there_stays_here_too(self):
        jobid = self.run_job("both")
        self.shelf["new"]["text"] = "later"
        transaction.commit()
        self.assertEqual(undo.look(self.service, jobid).later, 1)
        self.assertEqual(self.refused(jobid), "changed since")
        self.assertEqual((list(self.shelf), self.connection.root()["page"].text),
                         (["new"], "new"))

    def test_the_right_one_is_found_among_many(self):
        ids = [self.run_job("both", f"n{number}") for number in range(5)]
        undo.undo(self.service, ids[4])
        transaction.begin()
        self.assertEqual(list(self.shelf), ["n0", "n1", "n2", "n3"])

    def test_a_job_that_writes_to_one_only_says_so(self):
        jobid = self.run_job("here")
        self.assertEqual((self.job(jobid).alsoIn, undo.elsewhere(self.service, jobid)),
                         ((), {}))
        self.assertNotIn("alsoIn", self.job(jobid).__dict__)
        undo.undo(self.service, jobid)


class BesideOneWithoutUndo(InTwoDatabases):
    kept = False
    test_both_parts_are_told_and_taken_back = None
    test_what_cannot_be_taken_back_there_stays_here_too = None
    test_the_right_one_is_found_among_many = None

    def test_it_is_refused(self):
        jobid = self.run_job("both")
        self.assertEqual(self.refused(jobid), "no undo")
        self.assertEqual(list(self.shelf), ["new"])

    def test_where_the_other_one_is_gone_it_is_refused(self):
        jobid = self.run_job("both")
        with mock.patch.dict(self.db.databases):
            del self.db.databases["other"]
            with self.assertRaises(NoHistory) as caught:
                undo.undo(self.service, jobid)
        self.assertEqual(caught.exception.code, "elsewhere")


class OverServers(UndoCase):
    """The same where the storage is a server, or a database of tables.

    The jobs are run by the verbs of a processor: what a thread does, step by step.
    """

    level = 2
    layer = servers.SHARED
    kind = ""   # of servers.KINDS
    options: dict = {}

    def open_database(self):
        if not hasattr(self, "uri"):
            self.uri = servers.SHARED.uri(self, self.kind)
        factory, options = resolve(self.uri)
        self.db = ZODB.DB(factory(), **options)
        self.connection = self.db.open()
        self.commits = mock.Mock()
        if "tasks" in self.connection.root():
            self.service = self.connection.root()["tasks"]

    def run_job(self, task="write", input="new", **options):
        jobid = self.add(task, input, **options)
        by_hand = SimpleProcessor(self.db, ["tasks"])
        self.assertTrue(by_hand.processNext())
        transaction.begin()
        self.assertEqual(self.job(jobid).status, lifecycle.COMPLETED)
        return jobid


class Telling:

    def test_what_a_job_has_changed_is_told(self):
        jobid = self.run_job()
        found = undo.changes(self.service, jobid)
        self.assertEqual(
            sorted(record.kind.rpartition(".")[2] for record in found.records),
            ["Job", "Length", "OOBTree", "Page", "PersistentMapping"])
        self.assertTrue(undo.is_alone(found, jobid))

    def test_a_job_is_undone(self):
        jobid = self.run_job()
        undo.undo(self.service, jobid, "zope.manager")
        transaction.begin()
        root = self.connection.root()
        self.assertEqual((root["page"].text, root["count"](), dict(root["effects"])),
                         ("old", 0, {}))
        self.assertEqual(self.job(jobid).reason, lifecycle.UNDONE)
        self.assertEqual(self.service.check(), [])

    def test_later_changes_refuse_it(self):
        jobid = self.run_job()
        self.connection.root()["page"].text = "later"
        transaction.commit()
        self.assertEqual(undo.look(self.service, jobid).later, 1)
        self.assertEqual(self.refused(jobid), "changed since")
        self.assertEqual(self.job(jobid).status, lifecycle.COMPLETED)


class OverZeo(Telling, OverServers):
    kind = "zeo"


class OverSqlite(Telling, OverServers):
    kind = "sqlite"


class OverPostgreSQL(Telling, OverServers):
    kind = "postgresql"


class WithoutHistory(OverServers):
    kind = "sqlite"

    def open_database(self):
        if not hasattr(self, "uri"):
            self.uri = servers.SHARED.uri(self, self.kind) + "?keep_history=false"
        super().open_database()

    def test_it_is_said_that_the_storage_keeps_none(self):
        jobid = self.run_job()
        with self.assertRaises(NoHistory) as caught:
            undo.changes(self.service, jobid)
        self.assertEqual(caught.exception.code, "no history")
