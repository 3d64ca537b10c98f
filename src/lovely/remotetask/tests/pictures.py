"""The application with a shop in it, and Chromium to look at it.

    python -m lovely.remotetask.tests.pictures docs/screenshots
"""
import contextlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import transaction
from zope.app.publication.zopepublication import ZopePublication

import lovely.remotetask
from lovely.remotetask import clock
from lovely.remotetask.app import Application
from lovely.remotetask.interfaces import ITaskService

HERE = Path(__file__).parent / "pages"
CHECKOUT = Path(lovely.remotetask.__path__[0]).parents[2]
NODE_MODULES = Path(os.environ.get("REMOTETASK_NODE", CHECKOUT / ".node")) / "node_modules"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
NEEDED = ("playwright-core", "axe-core")
BOUND = 400     # seconds, for what ends by itself after 240
HUNG = 75       # the exit code of a script when Chromium does not answer any more
WAITING = 6     # jobs of the shop that wait, or were cancelled
PATIENCE = 60   # seconds for a minute's jobs
NAMES = ("Ada", "Grace", "Alan", "Barbara", "Edsger", "Frances", "Niklaus", "Radia")


def missing() -> str:
    """What is not here of what is needed, as a text; '' when all is."""
    if CHROMIUM is None:
        return "there is no chromium"
    if shutil.which("node") is None:
        return "there is no node"
    absent = [name for name in NEEDED if not (NODE_MODULES / name).is_dir()]
    return f"no {' and '.join(absent)} in {NODE_MODULES.parent}: make node" if absent else ""


class Shifted:
    """The clock of this machine, so many seconds earlier."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def micros(self) -> int:
        return time.time_ns() // 1000 - round(self.seconds * 1_000_000)


@contextlib.contextmanager
def shop(minutes: int = 0):
    """The running application; its jobs are worked for.  minutes: so long, by its
    clock, it has been open when it is handed out."""
    directory = tempfile.mkdtemp(prefix="remotetask-pages-")
    running, before = None, clock.current
    clock.current = Shifted(minutes * 60)
    try:
        with open(os.devnull, "w") as nothing:
            running = Application(
                Path(directory) / "var", port=0, example=HERE / "shop",
                stream=nothing).start()
            for minute in range(minutes):
                trade(running, minute)
                clock.current = Shifted((minutes - minute - 1) * 60)
            yield running
    finally:
        clock.current = before
        if running is not None:
            running.stop()
        shutil.rmtree(directory, ignore_errors=True)


def trade(running, minute: int) -> None:
    """A minute of business: some orders, and now and then a payment that fails."""
    customers = 6 + round(5 * math.sin(minute / 7)) + minute % 3
    manager = transaction.TransactionManager()
    connection = running.db.open(manager)
    try:
        root = connection.root()[ZopePublication.root_name]
        service = root.getSiteManager().getUtility(ITaskService, "shop")
        service.addMany("shop.order", [
            {"customer": NAMES[number % len(NAMES)], "shipping": "parcel"}
            for number in range(customers)], title=f"Order of minute {minute}",
            tags=("order",))
        if minute % 9 == 4:
            service.add("shop.payment", NAMES[minute % len(NAMES)], tags=("bank",))
        manager.commit()
        end = time.monotonic() + PATIENCE
        while ended(service) < len(service.jobs) - WAITING:
            if time.monotonic() > end:
                raise AssertionError("the shop does not work")
            threading.Event().wait(0.05)
            manager.begin()
    finally:
        manager.abort()
        connection.close()


def ended(service) -> int:
    """How many attempts the workers have told of."""
    return sum(figures["completed"] + figures["error"]
               for figures in service.totals().values())


def look(running, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Have Chromium do what a script beside `browser.js` says."""
    return subprocess.run(
        ["node", str(HERE / script), running.url, running.login.login,
         running.login.password, str(CHROMIUM), *arguments],
        capture_output=True, text=True, timeout=BOUND,
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)})


def main(directory="docs/screenshots"):
    if missing():
        return missing()
    Path(directory).mkdir(parents=True, exist_ok=True)
    with shop(minutes=58) as running:
        done = look(running, "pictures.js", directory)
    print(done.stdout, end="")
    return done.stderr or done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
