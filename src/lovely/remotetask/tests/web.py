"""What tests of pages share: the application without a server, people, a browser.

The layer reads the application's ZCML once; each test has a database of its own, with
a service `tasks` in its root, which is not at work: jobs run by `run_all`.
"""
import base64
import contextlib
import html
import logging
import re

import transaction
import ZODB
from ZODB.MappingStorage import MappingStorage
from zope.app.publication.httpfactory import HTTPPublicationRequestFactory
from zope.app.publication.zopepublication import ZopePublication
from zope.app.wsgi import WSGIPublisherApplication
from zope.component import provideUtility
from zope.component.hooks import setSite
from zope.configuration import xmlconfig
from zope.event import notify
from zope.principalregistry.principalregistry import principalRegistry
from zope.processlifetime import DatabaseOpened
from zope.security.management import endInteraction, setSecurityPolicy
from zope.testbrowser.wsgi import Browser
from zope.testing.cleanup import cleanUp

import lovely.remotetask.app
from lovely.remotetask import processor
from lovely.remotetask.app.first import add_service
from lovely.remotetask.app.login import Login, define
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask, TaskError
from lovely.remotetask.tests import people

HOST = "http://localhost"
SERVICE = "/++etc++site/default/tasks"
SKIN = "/++skin++RemoteTask"
ADMIN = Login("admin", "admin")


class Web:
    """The layer: the application's components, until its tests are through."""

    policy = None

    @classmethod
    def setUp(cls):
        cleanUp()
        logging.getLogger("SiteError").addHandler(logging.NullHandler())
        define(ADMIN)
        xmlconfig.file("site.zcml", lovely.remotetask.app)
        people.define_people()
        for name, function in TASKS.items():
            provideUtility(SimpleTask(function, doc=function.__doc__), ITask, name)

    @classmethod
    def tearDown(cls):
        people.forget_people()
        principalRegistry._clear()
        setSecurityPolicy(cls.policy)
        cleanUp()

    @classmethod
    def testSetUp(cls):
        pass

    @classmethod
    def testTearDown(cls):
        pass


def fail(input):
    """Fail, with the input as the reason."""
    raise TaskError(str(input))


TASKS = {"fail": fail}


class Visitor(Browser):
    """A browser that knows where the service is."""

    base = HOST + SERVICE


class Site:
    """A database with a service, and what asks it by HTTP."""

    def __init__(self):
        self.db = ZODB.DB(MappingStorage("tests"))
        notify(DatabaseOpened(self.db))
        self.connection = self.db.open()
        self.root = self.connection.root()[ZopePublication.root_name]
        self.service = add_service(self.root, "tasks")
        transaction.commit()
        self.application = WSGIPublisherApplication(
            self.db, HTTPPublicationRequestFactory)

    def close(self):
        transaction.abort()
        endInteraction()
        setSite(None)
        processor.stop_all(self.db, grace=5)
        self.connection.close()
        self.db.close()

    @contextlib.contextmanager
    def changing(self):
        """The service, in a transaction that is committed."""
        transaction.begin()
        yield self.service
        transaction.commit()

    def add(self, task="echo", input=None, **options):
        with self.changing() as service:
            return service.add(task, input, **options)

    def run_all(self):
        with self.changing() as service:
            service.process()

    def status(self, jobid):
        transaction.begin()
        return self.service.getStatus(jobid)

    def statuses(self):
        transaction.begin()
        return sorted(job.status for job in self.service.jobs.values())

    def browser(self, who="admin", skin=True, language="en",
                source="same-origin", **headers):
        """A browser of somebody, at the list of jobs; *source*: what it says of the
        page that asks."""
        browser = Visitor(wsgi_app=self.application)
        browser.raiseHttpErrors = False
        if who is not None:
            token = base64.b64encode(f"{who}:{who}".encode()).decode()
            browser.addHeader("Authorization", f"Basic {token}")
        browser.addHeader("Accept-Language", language)
        browser.addHeader("Sec-Fetch-Site", source)
        for name, value in headers.items():
            browser.addHeader(name.replace("_", "-"), value)
        browser.base = HOST + (SKIN if skin else "") + SERVICE
        browser.open(browser.base + "/jobs.html")
        return browser


def text_of(browser, id="content"):
    """What a page says, without its tags: one line."""
    match = re.search(rf'id="{id}".*?>(.*)', browser.contents, re.DOTALL)
    text = re.sub(r"<(script|style|svg|option).*?</\1>", " ", match[1], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def messages(browser):
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", found)).split()) for found in re.findall(
        r'<p class="message [a-z]+">(.*?)</p>', browser.contents, re.DOTALL)]


def rows(browser):
    """The numbers of the jobs that a list shows, in order."""
    return [int(number) for number in re.findall(
        r'name="ids"[^>]*value="(\d+)"|value="(\d+)"[^>]*name="ids"', browser.contents)
        for number in number if number]
