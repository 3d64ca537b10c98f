"""The whole application in this process, with five people, and no port.

A test asks it as a client does: bytes go in, status, headers and bytes come out.
Nobody works for its service, so that nothing changes but by what is asked.
"""
import base64
import io
import logging
from typing import NamedTuple
from urllib.parse import quote

import transaction
import ZODB
from zope.app.publication.httpfactory import HTTPPublicationRequestFactory
from zope.app.publication.interfaces import (
    IBrowserRequestFactory, IHTTPRequestFactory, IXMLRPCRequestFactory)
from zope.app.publication.zopepublication import ZopePublication
from zope.app.wsgi import WSGIPublisherApplication
from zope.component import getGlobalSiteManager
from zope.component.hooks import setSite
from zope.configuration import xmlconfig
from zope.event import notify
from zope.processlifetime import DatabaseOpened
from zope.security.management import setSecurityPolicy
from zope.site.interfaces import IRootFolder
from zope.testing.cleanup import cleanUp
from zope.traversing.interfaces import IBeforeTraverseEvent
from ZODB.MappingStorage import MappingStorage

import lovely.remotetask.app
from lovely.remotetask import processor
from lovely.remotetask.app import login
from lovely.remotetask.app.first import add_service
from lovely.remotetask.guard.wsgi import Door, nothing_by_get
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests import people

SERVICE = "/++etc++site/default/tasks"
XML = {"Content-Type": "text/xml"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "same-origin"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]   # names in lower case
    body: bytes

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")


class House:
    """The application of app/site.zcml before a database in memory.

    guarded: with what our own application has around its publisher; without, our pages
    and interfaces stand in it as in an application of somebody else.
    """

    def __init__(self, storage=None, guarded=True):
        self.errors = _Errors()
        logging.getLogger("SiteError").addHandler(self.errors)
        logging.getLogger("SiteError").propagate = False
        self.policy = setSecurityPolicy(None)
        setSecurityPolicy(self.policy)
        login.define(login.Login("admin", "admin"))
        xmlconfig.file("site.zcml", lovely.remotetask.app)
        people.define_people()
        # An empty FileStorage is not true.
        self.db = ZODB.DB(MappingStorage() if storage is None else storage)
        notify(DatabaseOpened(self.db))
        self.wsgi = WSGIPublisherApplication(self.db, HTTPPublicationRequestFactory)
        if guarded:
            self.wsgi = Door(self.wsgi)
        else:
            self._take_away()
        with self.root() as root:
            if "tasks" not in root.getSiteManager()["default"]:
                add_service(root, "tasks")

    def _take_away(self):
        """What guard/requests.zcml registers for the whole application."""
        registry = getGlobalSiteManager()
        for each in IBrowserRequestFactory, IHTTPRequestFactory, IXMLRPCRequestFactory:
            assert registry.unregisterUtility(provided=each)
        assert registry.unregisterHandler(
            nothing_by_get, (IRootFolder, IBeforeTraverseEvent))

    def close(self):
        transaction.abort()
        processor.stop_all(self.db, grace=10)
        people.forget_people()
        self.db.close()
        setSite(None)
        cleanUp()
        setSecurityPolicy(self.policy)
        logging.getLogger("SiteError").removeHandler(self.errors)
        logging.getLogger("SiteError").propagate = True

    def task(self, name, function, **options):
        getGlobalSiteManager().registerUtility(
            SimpleTask(function, **options), ITask, name=name)

    def root(self):
        """For `with`: the root folder in a transaction of its own, committed."""
        return _Root(self.db)

    def service(self):
        """For `with`: the service in a transaction of its own, committed."""
        return _Root(self.db, lambda root: root.getSiteManager()["default"]["tasks"])

    def tid(self):
        """Changes with every commit."""
        return self.db.storage.lastTransaction()

    def ask(self, method, path, who=None, body=b"", headers=(), query="") -> Answer:
        """The answer to a request; raises what comes right through the application."""
        raw = path if isinstance(path, bytes) else path.encode()
        environ = {
            "REQUEST_METHOD": method, "SCRIPT_NAME": "",
            "PATH_INFO": raw.decode("latin-1"), "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8080",
            "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "127.0.0.1:8080", "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(), "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False}
        if body or method in ("POST", "PUT", "PATCH"):
            environ["CONTENT_LENGTH"] = str(len(body))
        if who not in (None, "anonymous"):
            word = base64.b64encode(f"{who}:{who}".encode()).decode()
            environ["HTTP_AUTHORIZATION"] = f"Basic {word}"
        for name, value in dict(headers).items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH")
                    else f"HTTP_{key}"] = value
        told = []
        chunks = self.wsgi(environ, lambda status, headers, exc_info=None:
                           told.append((status, headers)))
        try:
            if hasattr(chunks, "feed"):
                chunks = ()   # an answer that goes on: its head is enough
            found = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status, headers = told[-1]
        return Answer(int(status.split()[0]),
                      {name.lower(): value for name, value in headers}, found)


class _Root:

    def __init__(self, db, way=lambda root: root):
        self.db, self.way = db, way

    def __enter__(self):
        self.connection = self.db.open()
        transaction.begin()
        root = self.connection.root()[ZopePublication.root_name]
        setSite(root)
        return self.way(root)

    def __exit__(self, kind, error, traceback):
        setSite(None)
        transaction.abort() if kind else transaction.commit()
        self.connection.close()


class _Errors(logging.Handler):
    """What zope.error logs, for the test to look at."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def texts(self):
        return [self.format(record) for record in self.records]


def form(**fields) -> bytes:
    """Fields as the body of a form."""
    return "&".join(f"{quote(name)}={quote(str(each))}" for name, value in fields.items()
                    for each in (value if isinstance(value, list) else [value])).encode()


class InAnotherHouse:
    """A layer in which nothing but our own pages and interfaces guards them."""

    house: House

    @classmethod
    def setUp(cls):
        cls.house = House(guarded=False)

    @classmethod
    def tearDown(cls):
        cls.house.close()


class InTheHouse:
    """A layer of zope.testrunner: one house for all tests of the layer."""

    house: House

    @classmethod
    def setUp(cls):
        cls.house = House()

    @classmethod
    def tearDown(cls):
        cls.house.close()
