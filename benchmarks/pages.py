"""What a page costs with a thousand jobs and with a million.

The pages of the application are asked for as a browser does it, through the whole
publication, by the manager.  Each is asked for with a warm cache and with a cold one;
what is shown is the median of the milliseconds until the whole answer is there.
"""
import base64
import random
import sys
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))

import transaction  # noqa: E402
from tools import measure  # noqa: E402
from zope.app.publication.httpfactory import HTTPPublicationRequestFactory  # noqa: E402
from zope.app.publication.zopepublication import ZopePublication  # noqa: E402
from zope.app.wsgi import WSGIPublisherApplication  # noqa: E402
from zope.configuration import xmlconfig  # noqa: E402
from zope.event import notify  # noqa: E402
from zope.processlifetime import DatabaseOpened  # noqa: E402

import lovely.remotetask.app  # noqa: E402
from lovely.remotetask import clock, lifecycle  # noqa: E402
from lovely.remotetask.app.first import add_service  # noqa: E402
from lovely.remotetask.app.login import Login, define  # noqa: E402
from lovely.remotetask.clerk import Clerk  # noqa: E402
from lovely.remotetask.failure import Failure  # noqa: E402
from lovely.remotetask.task import task  # noqa: E402

SIZES, BRIEF_SIZES = (1_000, 1_000_000), (1_000, 3_000)
BATCH = 1_000
TASKS = ("benchmarks.mail", "benchmarks.report", "benchmarks.thumbnail")
for name in TASKS:
    task(name)(lambda input: None)


class Pages(measure.Store):
    """A database as the application has it, with so many jobs of all states."""

    def __init__(self, size):
        super().__init__()
        notify(DatabaseOpened(self.db))
        self.manager.begin()
        root = self.root[ZopePublication.root_name]
        self.service = add_service(root, "tasks")
        self.manager.commit()
        for first in range(0, size, BATCH):
            self.fill(min(BATCH, size - first))
        self.manager.begin()
        self.some = next(iter(self.service.listJobs(limit=1)[0])).id
        self.cron = self.service.addCronJob(TASKS[0], schedule="0 7 * * *")
        self.manager.commit()
        self.application = WSGIPublisherApplication(
            self.db, HTTPPublicationRequestFactory)

    def fill(self, number):
        """Half of them wait, a third are done, the rest failed or were cancelled."""
        self.manager.begin()
        now, chance = clock.micros(), random.Random(number)
        for name in TASKS:
            ids = self.service.addMany(
                name, [{"number": n, "to": f"someone{n}@example.org"}
                       for n in range(number // len(TASKS))],
                tags=(name.rpartition(".")[2],))
            for id in ids:
                job, way = self.service.jobs[id], chance.random()
                if way < .45:
                    job.start(now)
                    if way < .35:
                        job.complete({"sent": True}, now)
                    else:
                        job.fail(Failure("ValueError", "the address is wrong"), now)
                elif way < .5:
                    job.cancel(now)
        with Clerk(self.service, now) as books:
            books.empty_inbox(number + 1)
        self.manager.commit()

    def get(self, path, login, cold=False):
        """Milliseconds of one answer."""
        if cold:
            for connection in list(self.db.pool.all):
                connection.cacheMinimize()
        token = base64.b64encode(f"{login.login}:{login.password}".encode()).decode()
        path, _mark, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "HTTP_HOST": "127.0.0.1",
            "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
            "wsgi.input": open("/dev/null", "rb"), "wsgi.errors": sys.stderr,
            "HTTP_AUTHORIZATION": f"Basic {token}", "HTTP_ACCEPT_LANGUAGE": "en"}
        answer = []
        begun = time.perf_counter()
        parts = self.application(environ, lambda status, headers, *more: answer.append(status))
        body = b"".join(parts)
        spent = (time.perf_counter() - begun) * 1000
        environ["wsgi.input"].close()
        if not answer[0].startswith("200"):
            raise SystemExit(f"{path}: {answer[0]}\n{body[:2_000].decode()}")
        return spent


def pages(store):
    """What is asked for: {name: path}."""
    base = "/++skin++RemoteTask/++etc++site/default/tasks"
    states = {f"jobs, {status}": f"jobs.html?state={quote(status)}" for status in (
        lifecycle.QUEUED, lifecycle.COMPLETED, lifecycle.ERROR)}
    names = {
        "jobs": "jobs.html", "jobs, oldest first": "jobs.html?sort=created",
        "jobs, by status": "jobs.html?sort=status", "jobs, by end": "jobs.html?sort=-end",
        **states,
        "jobs, task and state": "jobs.html?task=benchmarks.mail&state=error",
        "jobs, task and tag that never meet":
            "jobs.html?task=benchmarks.mail&tag=report",
        "jobs, text that many have": "jobs.html?text=someone2",
        "jobs, text that none has": "jobs.html?text=nowhere",
        "jobs, a time of which there are none": "jobs.html?until=1999-12-31",
        "jobs, 100 of them": "jobs.html?size=100",
        "add job": "addjob.html?task=benchmarks.mail",
        "add cron job": "addcronjob.html?task=benchmarks.mail",
        "schedules": "schedules.html", "workers": "workers.html",
        "settings": "settings.html", "what people did": "trail.html",
        "a job": str(store.some), "a schedule": str(store.cron),
        "to undo a job": f"{store.some}/undo.html",
        "to edit a schedule": f"{store.cron}/editjob",
    }
    return {"all services": "/++skin++RemoteTask/",
            **{name: f"{base}/{path}" for name, path in names.items()}}


def ask_all(doc, title, kind, what, questions, ask):
    """Ask a small and a large store everything, warm and cold, and show the medians.

    kind: makes a store of a size; questions(store): {name: question}; ask(store,
    question, login, cold): milliseconds.
    """
    options = measure.arguments(doc).parse_args()
    measure.quiet()
    login = Login("benchmark", "benchmark")
    define(login)
    xmlconfig.file("site.zcml", lovely.remotetask.app)
    sizes, number = (BRIEF_SIZES, 2) if options.brief else (SIZES, 9)
    report = measure.Report(title, options)
    stores = {size: kind(size) for size in sizes}
    for word, cold in (("warm", False), ("cold", True)):
        found = {}
        for name in questions(stores[sizes[0]]):
            found[name] = {}
            for size, store in stores.items():
                question = questions(store)[name]
                ask(store, question, login, False)
                found[name][size] = [ask(store, question, login, cold)
                                     for _ in range(number)]
                transaction.abort()
        report.grid(f"{word} cache, ms", sizes, [
            (name, {size: measure.median(values[size]) for size in sizes},
             measure.ratio(values[sizes[-1]], values[sizes[0]]))
            for name, values in found.items()])
        slowest = max(measure.median(values[sizes[-1]]) for values in found.values())
        report.add(f"slowest {what}, {word} cache", slowest, "ms", aim="200 ms",
                   met=options.brief or slowest < 200)
    report.show()
    for store in stores.values():
        store.close()


if __name__ == "__main__":
    ask_all(__doc__, "A page with a thousand jobs and with a million", Pages, "page", pages,
            Pages.get)
