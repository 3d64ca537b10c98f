"""Makes the databases beside this file, as release 0.5 has stored them.

    python make.py [NAME ...]

in a process of its own: stand-ins take the names of 0.5's classes.  Python 3 with
zope.site makes all but `python2`; Python 2.7 with ZODB 5 and zc.queue makes
`python2`, which zodbupdate then turns into `python2-converted` (docs/upgrade.txt).

Beside each NAME.fs stands NAME.json: what is in it, and what is to become of it,
written down by hand here and not worked out by the code that upgrades.
"""
import calendar
import datetime
import json
import os
import sys
import types

import transaction
import zc.queue
from BTrees.IOBTree import IOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zope.interface import classImplements
from zope.interface.interface import InterfaceClass

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import shop  # noqa: E402

OFFSET = 3600             # Vienna in winter, where these databases were written
LAST = 2147483000         # in January 2038: late enough
DAY = datetime.datetime(2011, 1, 17, 9, 0, 0)
LEFT_OUT = "left out"


# -- stand-ins for the classes of 0.5


class TaskService(Persistent):

    __parent__ = __name__ = None

    def __init__(self):
        self.jobs = IOBTree()
        self._scheduledJobs = IOBTree()
        self._queue = zc.queue.Queue()
        self._scheduledQueue = zc.queue.Queue()


class Job(Persistent):

    id = task = input = output = error = None
    created = started = completed = None
    status = "start later"

    def __init__(self, id, task, input):
        self.id, self.task, self.input = id, task, input


class CronJob(Job):

    minute = hour = dayOfMonth = month = dayOfWeek = ()
    delay = scheduledFor = None


class RetiredJob(Job):
    """A job class of an application that is not there any more."""


class Gone(Exception):
    """An error of an application that is not there any more."""


ITaskService = InterfaceClass("ITaskService", __module__="lovely.remotetask.interfaces")


def take_names():
    for name, contents in {
            "lovely": (), "lovely.remotetask": (),
            "lovely.remotetask.service": (TaskService,),
            "lovely.remotetask.job": (Job, CronJob),
            ITaskService.__module__: (ITaskService,),
            "bygone": (RetiredJob, Gone)}.items():
        module = sys.modules[name] = types.ModuleType(name)
        for value in contents:
            if value is not ITaskService:
                value.__module__ = name
            setattr(module, value.__name__, value)
    classImplements(TaskService, ITaskService)
    try:
        from zope.location.interfaces import IContained
    except ImportError:
        return  # Python 2: no sites there
    classImplements(TaskService, IContained)


# -- a service and its jobs


class Maker(object):
    """Fills one service, and keeps what is to become of each job."""

    def __init__(self, service, path):
        self.service, self.path, self.expected = service, path, []
        self.number = 1000

    def job(self, status, after=None, task=u"echo", input=None, kind=Job, key=None,
            queued=False, cancelled_in=None, minutes=0, **facts):
        """A job in that status; *after*: the status it is to have in the end."""
        self.number += 1
        number = self.number if key is None else key
        job = kind(number, task, input)
        job.status = status
        job.created = DAY + datetime.timedelta(minutes=self.number - 1000 + minutes)
        if status in ("completed", "error"):
            job.started = job.created + datetime.timedelta(seconds=5)
            job.completed = job.created + datetime.timedelta(seconds=9)
        noted = dict(path=self.path, id=number, task=task, before=str(status),
                     after=after or status, error=facts.pop("said", None),
                     created=job.created.isoformat(), due=facts.pop("due", None),
                     queued=queued, runs=facts.pop("runs", 0))
        for name, value in facts.items():
            setattr(job, name, value)
        self.service.jobs[number] = job
        if queued:
            self.service._queue.put(job)
        self.expected.append(noted)
        return job

    def schedule(self, second, *jobs):
        self.service._scheduledJobs[second] = tuple(jobs)
        for job in jobs:
            job.scheduledFor = local(second)

    def usual(self):
        """What any service of 0.5 had, in every status."""
        for status in ("start later", "completed", "cancelled"):
            self.job(status, input={u"for": status}, output=u"done")
        self.job("error", error=ValueError("out of paper"), said=u"out of paper")
        self.job("queued", input=u"third", queued=False, minutes=-400)
        self.job("processing", after="queued", input=u"taken")
        for word in (u"late", u"early", u"last"):  # in this order, whatever their age
            self.job("queued", input=word, queued=True,
                     minutes={u"late": 5, u"early": -300, u"last": 0}[word])
        self.job("queued", task=u"nobody", queued=True)
        self.cron_and_delayed()

    def cron_and_delayed(self):
        hourly = self.job("cronjob", kind=CronJob, minute=(0, 30), runs=0,
                          output=u"ran at 8:30")
        overdue = self.job("cronjob", kind=CronJob, hour=(2,), runs=1)
        fails = self.job("cronjob", kind=CronJob, minute=(7,),
                         error=KeyError("no such shelf"), said=u"'no such shelf'")
        cancelled = self.job("cancelled", kind=CronJob, minute=(11,))
        waits = self.job("delayed", kind=CronJob, delay=600, due=LAST)
        self.schedule(1295254800, overdue)
        self.schedule(LAST, hourly, waits)
        self.schedule(LAST + 1, fails, cancelled)


def local(second):
    return datetime.datetime.utcfromtimestamp(second + OFFSET)


def epoch(moment):
    return calendar.timegm(moment.timetuple()) - OFFSET


# -- the databases


def all_in_root(root):
    """Scripts without sites: every status, every kind of error, output and schedule."""
    tasks = root["tasks"] = TaskService()
    tasks.__annotations__ = PersistentMapping({"zope.dublincore": u"Tasks"})
    maker = Maker(tasks, "tasks")
    maker.usual()
    article = root["article"] = shop.Article(u"nail")
    maker.job("queued", input=article, queued=True)
    maker.job("queued", input={u"about": [article, shop.Order(u"nail", u"screw")]},
              queued=True)
    maker.job("completed", output=shop.Order(u"nail"))
    maker.job("completed", output=u"x" * 5000)
    maker.job("completed", output=b"\x00\xff", input=(1, 2.5, None, True))
    maker.job("error", error=shop.OutOfStock(u"nails", 7),
              said=u"OutOfStock: 7 pieces of nails are not there")
    maker.job("error", error=Gone("house", 4), said=u"bygone.Gone: house, 4")
    maker.job("error", error=UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
              said=u"'utf-8' codec can't decode byte")
    maker.job("error", error=u"text already", said=u"text already")
    maker.job("error", error=Exception(), said=u"Exception")
    maker.job("queued", input=u"raised before", error=shop.OutOfStock(u"screws", 2),
              said=u"2 pieces of screws", queued=True)
    maker.job("cronjob", kind=CronJob, minute=(5,), queued=True, runs=1)
    maker.job("delayed", after="queued", kind=CronJob, delay=10, queued=True)
    maker.job("queued", after="cronjob", kind=CronJob, minute=(9,), runs=1)
    fresh = maker.job("cronjob", kind=CronJob, hour=(4,), dayOfWeek=(0, 6))
    soon = maker.job("delayed", kind=CronJob, delay=90)
    maker.expected[-1]["due"] = epoch(soon.created) + 90
    tasks._scheduledQueue.put(fresh)
    tasks._scheduledQueue.put(soon)
    starred = maker.job("cronjob", kind=CronJob, minute=(0,), hour=tuple(range(24)),
                        dayOfMonth=tuple(range(31)), month=tuple(range(12)))
    thirtieth = maker.job("cronjob", kind=CronJob, dayOfMonth=(30,), month=(2,))
    maker.schedule(LAST + 2, starred, thirtieth)
    naive = maker.job("delayed", kind=CronJob, delay=3600, due=LAST + 60)
    naive.scheduledFor = local(LAST + 60)
    maker.job("cancelled", queued=True)
    maker.job("completed", queued=True)
    maker.job("start later", queued=True, after="queued")
    maker.job("queued", key=2**31 - 1, queued=True)
    again = maker.job("cronjob", kind=CronJob, hour=(6,), runs=0)
    later = maker.job("delayed", kind=CronJob, delay=600, input=u"updated")
    maker.schedule(1295254860, again, later)
    for job in again, later:  # rescheduled, and not looked at since
        tasks._scheduledQueue.put(job)
    tasks.processorArguments = {"waitTime": 0.5}
    return [maker]


def two_sites(root):
    """An application of zope.app: services in the root and in a site."""
    from zope.site.folder import Folder, rootFolder
    from zope.site.site import LocalSiteManager

    makers = []
    application = root["Application"] = rootFolder()
    application["site1"] = Folder()
    for site, path in ((application, "++etc++site"),
                       (application["site1"], "site1/++etc++site")):
        manager = LocalSiteManager(site)
        site.setSiteManager(manager)
        folder = manager["default"]
        folder["mail"] = service = TaskService()
        manager.registerUtility(service, ITaskService, name=u"mail")
        maker = Maker(service, path + "/default/mail")
        maker.usual()
        makers.append(maker)
    application["site1"]["tasks"] = loose = TaskService()
    makers.append(Maker(loose, "site1/tasks"))
    makers[-1].job("queued", queued=True)
    return makers


def oldest(root):
    """Before cron jobs had a queue of their own, and before there were any."""
    makers = []
    for name in ("missing", "none"):
        service = root[name] = TaskService()
        service._queue = zc.queue.PersistentQueue()
        maker = Maker(service, name)
        for word in (u"one", u"two", u"three"):
            maker.job("queued", input=word, queued=True)
        for status in ("start later", "completed", "cancelled", "queued"):
            maker.job(status)
        maker.job("error", error=RuntimeError("first", "second"),
                  said=u"('first', 'second')")
        makers.append(maker)
    del root["missing"]._scheduledJobs, root["missing"]._scheduledQueue
    root["none"]._scheduledJobs = root["none"]._scheduledQueue = None
    empty = root["empty"] = TaskService()
    makers.append(Maker(empty, "empty"))
    return makers


def damaged(root):
    """Records that cannot be read, in every place where they can stand."""
    service = root["tasks"] = TaskService()
    maker = Maker(service, "tasks")
    maker.job("queued", input=u"before", queued=True)
    maker.job("queued", kind=RetiredJob, queued=True, after=LEFT_OUT)
    maker.job("queued", input=shop.Sealed(), queued=True, after=LEFT_OUT)
    maker.job("completed", output=shop.Sealed(), after=LEFT_OUT)
    maker.job("error", kind=RetiredJob, after=LEFT_OUT)
    maker.job("queued", input=u"behind", queued=True)
    maker.job("baffled", after="error", said=u"unknown status: baffled")
    maker.job("cronjob", after="error", said=u"cronjob without a schedule")
    maker.job("queued", queued=True, created=u"yesterday")
    maker.job("completed", created=None, started=None, completed=None)
    maker.job("queued", queued=True, created=datetime.datetime.max)
    cron = maker.job("cronjob", kind=CronJob, minute=(61,), hour=(u"x",))
    maker.schedule(LAST, cron)
    service.jobs[-5] = service.jobs[1001].__class__(-5, u"echo", u"negative")
    service.jobs[-5].status = "completed"
    service.jobs[77] = shop.Article(u"no job at all")
    maker.expected.append(dict(path="tasks", id=77, before="", after=LEFT_OUT))
    stranger = Job(4711, u"echo", u"cleaned away")
    service._queue.put(stranger)
    return [maker]


def python2(root):
    """As Python 2 has written it: bytes and text mixed."""
    service = root["tasks"] = TaskService()
    maker = Maker(service, "tasks")
    maker.usual()
    maker.job("queued", task="echo", input="bytes of Python 2", queued=True)
    maker.job("completed", task=u"echo", output={"key": u"\xfcber", u"also": "ascii"})
    maker.job("queued", input=shop.Order("nail"), queued=True)
    maker.job("error", error=Gone("house", 4), said=u"Gone: house, 4")
    maker.job("error", error=shop.OutOfStock("nails", 7),
              said=u"7 pieces of nails are not there")
    article = root["article"] = shop.Article("nail")
    maker.job("queued", input=[article, datetime.date(2011, 1, 17)], queued=True)
    return [maker]


DATABASES = {"all_in_root": all_in_root, "two_sites": two_sites, "oldest": oldest,
             "damaged": damaged}
if sys.version_info[0] == 2:
    DATABASES = {"python2": python2}


def make(name):
    path = os.path.join(HERE, name)
    for suffix in (".fs", ".fs.index", ".fs.lock", ".fs.tmp"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    db = DB(FileStorage(path + ".fs"))
    connection = db.open()
    makers = DATABASES[name](connection.root())
    transaction.commit()
    db.close()
    for suffix in (".fs.index", ".fs.lock", ".fs.tmp"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    with open(path + ".json", "w") as file:
        noted = [each for maker in makers for each in maker.expected]
        lines = [json.dumps(each, sort_keys=True) for each in noted]
        file.write("[\n" + ",\n".join(lines) + "\n]\n")
    print("%s: %s jobs" % (name, len(noted)))


if __name__ == "__main__":
    take_names()
    for name in sys.argv[1:] or sorted(DATABASES):
        make(name)
