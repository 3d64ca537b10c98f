"""The page browser/details.txt, run as a test against the whole application."""
import doctest
import re
from base64 import b64encode
from html import unescape

from zope.app.folder import Folder
from zope.testbrowser.wsgi import Browser

from lovely.remotetask.processor import SimpleProcessor
from lovely.remotetask.runtime.publication import path_of
from lovely.remotetask.task import context
from lovely.remotetask.testing import wait_for
from lovely.remotetask.tests.house import SERVICE
from lovely.remotetask.tests.test_details import OnFiles

HOST = "http://127.0.0.1:8080"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


Story = OnFiles("Story")   # of its own: the page begins from nothing


def text(browser, part=None):
    """What can be read on a page, or in one part of it."""
    part = browser.contents.partition("<main")[2] if part is None else part
    part = re.sub(r'<span class="hidden">.*?</span>', " ", part, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split())


def section(browser, id):
    """What can be read in the element of that id."""
    start = re.search(rf'<(\w+)[^>]*\bid="{id}"', browser.contents)
    if start is None:
        return f"nothing has the id {id}"
    tag, depth = start[1], 0
    for found in re.finditer(rf"<(/?){tag}\b", browser.contents[start.start():]):
        depth += -1 if found[1] else 1
        if not depth:
            return text(browser, browser.contents[start.start():][:found.start()])
    return "it has no end"


def messages(browser):
    return "\n".join(text(browser, found) for found in re.findall(
        r'<p class="message \w+">(.*?)</p>', browser.contents, re.DOTALL))


def set_up(test):
    house = Story.house
    with house.service() as service:
        path = path_of(service)
    with house.root() as root:
        root["minutes"] = Folder()
    browser = Browser(wsgi_app=house.wsgi)
    browser.addHeader("Authorization", f"Basic {b64encode(b'manager:manager').decode()}")
    browser.addHeader("Accept-Language", "en")

    def task(name, **options):
        def register(function):
            house.task(name, function, **options)
            return function
        return register

    def add(task, input=None, **options):
        with house.service() as service:
            return service.add(task, input, **options)

    def add_cron(task, input=None, **options):
        with house.service() as service:
            jobid = service.addCronJob(task, input, **options)
            service.process()
            return jobid

    def run_all():
        worker = SimpleProcessor(house.db, path)
        while worker.processNext():
            pass

    def newest():
        with house.service() as service:
            return service.listJobs(limit=1)[0][0].id

    def minutes():
        with house.root() as root:
            return list(root["minutes"])

    def wait_for_workers(number):
        with house.service() as service:
            wait_for(service, lambda service: number == sum(
                1 for worker in service.workers() if worker["threads"]))

    test.globs.update(
        browser=browser, service=HOST + SERVICE, task=task, add=add, add_cron=add_cron,
        run_all=run_all, newest=newest, minutes=minutes, context=context, Folder=Folder,
        application=lambda: context().service._p_jar.root()["Application"], text=text,
        section=section, messages=messages, wait_for_workers=wait_for_workers)


def test_suite():
    suite = doctest.DocFileSuite(
        "../browser/details.txt", setUp=set_up, optionflags=FLAGS)
    suite.layer = Story
    return suite
