"""A process that works for the service in a Data.fs: the tests start and kill it.

It tells on its standard output what happens, and ends when all is done, or when
its standard input is closed.
"""
import os
import sys
import threading

import transaction
import ZODB
from zope.component import provideUtility
from zope.component.hooks import setHooks

from lovely.remotetask import processor
from lovely.remotetask.interfaces import ITask
from lovely.remotetask.task import SimpleTask
from lovely.remotetask.tests.support import Commits, effect


def tell(*words):
    """Write a line at once, whole among those of other threads."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def hold(input, context):
    """Stay in hand for ever."""
    effect(input, context)
    tell("holds", context.jobid)
    threading.Event().wait()


def work(input, context):
    effect(input, context)
    tell("works", context.jobid)


def pill(input, context):
    """Take the process down."""
    effect(input, context)
    tell("dies", context.jobid)
    os.abort()


def main(path):
    setHooks()
    provideUtility(SimpleTask(work, wantsContext=True), ITask, "effect")
    provideUtility(SimpleTask(hold, wantsContext=True), ITask, "hold")
    provideUtility(SimpleTask(hold, wantsContext=True, atMostOnce=True), ITask, "once")
    provideUtility(SimpleTask(pill, wantsContext=True), ITask, "pill")
    db = ZODB.DB(path)
    bell = Commits(db).bell
    service = db.open().root()["tasks"]
    ended = threading.Event()

    def listen():
        sys.stdin.read()
        ended.set()
        bell.ring()

    threading.Thread(target=listen, daemon=True).start()
    service.startProcessing()
    tell("ready")
    while not ended.is_set():
        seen = bell.rings
        transaction.begin()
        counts = service.counts()
        if not any(counts[word] for word in ("queued", "processing", "delayed")):
            break
        bell.wait(seen, 1)
    processor.stop_all(db)
    db.close()
    tell("ends")


if __name__ == "__main__":
    main(sys.argv[1])
