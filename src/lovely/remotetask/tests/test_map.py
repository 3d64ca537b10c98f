"""The map of the house, and the proof that the house is built like it.

A room imports only rooms that stand before it here.  The list is the reading
order, the import order and the map in README.txt.
"""
import ast
import functools
import re
import sys
import unittest
from importlib.metadata import packages_distributions
from pathlib import Path

import lovely.remotetask

PACKAGE = "lovely.remotetask"
HERE = Path(lovely.remotetask.__path__[0])
SETUP = HERE.parents[2] / "setup.py"

#: Asked for what they know if they are there, and not needed.
OPTIONAL = ("zope.app.appsetup", "App.config", "psycopg2", "relstorage")

#: Floors with their rooms, each with its one sentence. A room is a module or,
#: with all that is in it, a package.
FLOORS = {
    "words": {
        "lifecycle": "where a job can be, and where it can go from there",
        "errors": "what can go wrong, and how it is said",
        "interfaces": "the contracts: tasks, service, jobs, plug points",
        "events": "what happened, for whoever listens",
    },
    "values": {
        "clock": "the time, and its stored form",
        "zones": "what the clock on the wall shows in a time zone, and when",
        "crontext": "what cron text means",
        "schedule": "when a job is due",
        "missed": "which instants of a schedule to fire now, also after a downtime",
        "retry": "whether a failed attempt is made again, and when",
        "lines": "what a task writes into the log, kept with its job",
        "failure": "an error as text that can be stored and shown",
        "limits": "how much of one kind may run at once, and the lines that makes",
        "filters": "which jobs a worker takes",
        "settings": "what can be set, where it is read from, and what is allowed",
        "payload": "what may be stored as input or output, and in which form",
        "task": "what a task is made from",
        "masking": "which values nobody is shown",
        "presence": "who this process is, and how another is known to be gone",
    },
    "store": {
        "job": "a job and what became of it; the cron job",
        "store": "what is stored: small things, each with one kind of writer",
        "store.jobs": "all jobs by number, spread so that adders do not meet",
        "store.scheduled": "what is due at which moment",
        "store.queue": "the inbox and the ordered lines behind it",
        "store.history": "what a transaction has written",
        "store.index": "which jobs are where, so that nobody walks over all jobs",
        "store.trail": "what people did, within bounds",
        "store.shards": "the books in shards, so that workers do not meet",
        "store.caps": "who holds how much of which limit in the whole cluster",
        "store.keys": "which jobs were made under which idempotency key",
        "store.tallies": "what was done, in sums by minute, hour and task",
        "store.uniques": "which job was added under which key",
        "store.leases": "which process holds which jobs, and whether it is there",
        "store.wishes": "how a service is to be worked for, as people wish",
        "admission": "adds that are refused where a limit is reached",
        "clerk": "keeps the books, and takes the next jobs out",
        "audit": "whether the books agree with the jobs",
        "upgrade": "what release 0.5 stored, moved into today's shape",
    },
    "runtime": {
        "runtime": "what runs and is never stored",
        "runtime.watch": "hears of commits where the storage does not tell: RelStorage",
        "runtime.engine": "what a database should be told better",
        "runtime.turns": "dispatchers take turns where commits wait in a circle",
        "runtime.wakeup": "the bell between those who bring work and who wait",
        "runtime.frames": "what surrounds an attempt: its site and its principal",
        "runtime.context": "what an attempt tells its task, and its task of the work",
        "runtime.publication": "one call of the service as one transaction",
        "runtime.rescue": "which workers are there, and which leases are of the lost",
        "runtime.attendance": "how a dispatcher is entered, and obeys wishes",
        "runtime.solo": "one suspect at a time in a process, whatever its services",
        "runtime.dispatcher": "one per service and process: claims for its workers",
        "processor": "what a service's thread runs",
    },
    "hall": {
        "startup": "which services start with the database",
        "signals": "how a process is asked to stop",
        "plain": "jobs and services as plain data",
        "acts": "who acts, and that it is kept",
        "access": "who may do what with a service and its jobs",
        "uris": "which storage a URI names, and what can keep it from being opened",
        "unique": "only one job of a kind, and what becomes of others",
        "options": "the options of one add, checked before anything is stored",
        "finding": "which jobs match, a page at a time",
        "reading": "what can be asked of a service",
        "crew": "the verbs by which workers are entered, and told what to do",
        "changing": "what can be changed of a job that waits",
        "once": "a job is made once, however often it is asked for",
        "waiting": "until a job has ended: woken by its commit",
        "desk": "the verbs by which jobs are run",
        "service": "the verbs, in the order of a job's life",
        "undo": "what a job has changed, and taking it back",
        "": "the door: what a user types on day one",
    },
    "edges": {
        "zcml": "tasks, registered in ZCML",
        "guard": "which requests are let in, and what every answer carries",
        "zeoserver": "runzeo, with a commit lock that no client can keep",
        "app": "the application: a database, the ZMI and a web server",
        "cli": "the command line",
        "browser": "pages for people",
        "http": "JSON and XML-RPC for programs",
        "requests": "requests as tasks",
        "zope2": "Zope",
        "plone": "Plone",
    },
    "aside": {
        "testing": "helpers for users' tests",
        "generations": "the upgrade of a whole database",
        "tests": "the tests",
    },
}

ORDER = [room for rooms in FLOORS.values() for room in rooms]

#: No edge imports another edge, but for these.
BETWEEN_EDGES = {("cli", "app"), ("cli", "startup"), ("cli", "zeoserver"),
                 ("app", "startup"), ("app", "guard"), ("browser", "guard"),
                 ("http", "guard"),
                 ("requests", "guard")}


def modules():
    """Each module of ours with its path, tests aside."""
    for path in sorted(HERE.rglob("*.py")):
        parts = path.relative_to(HERE).with_suffix("").parts
        if "tests" not in parts and "databases" not in parts:
            is_package = parts[-1] == "__init__"
            yield ".".join(parts[:-1] if is_package else parts), path


def room_of(module):
    """The room that a module, named from here, stands in; or None."""
    names = module.split(".")
    candidates = (".".join(names[:n]) for n in range(len(names), 0, -1))
    room = next((name for name in candidates if name in ORDER), None)
    if room in ("store", "runtime") and module != room:
        return None  # each room on these floors is listed by itself
    return room


def imports(path):
    """The absolute names that a module imports, as far as the text tells.

    ``from a import b`` gives ``a.b``: b may be a module.  What is imported for
    the eyes of a type checker only does not count.
    """
    module = PACKAGE.split(".") + list(path.relative_to(HERE).parent.parts)
    for node in _running_code(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module[:len(module) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _running_code(node):
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If)
                and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from _running_code(child)


def rooms_imported(path):
    for name in imports(path):
        if name == PACKAGE or name.startswith(PACKAGE + "."):
            inside = name[len(PACKAGE) + 1:]
            # A name that is no room is one that the door exports.
            yield room_of(inside) or room_of(inside.rpartition(".")[0]) or ""


def floor_of(room):
    return next(floor for floor, rooms in FLOORS.items() if room in rooms)


class TheMap(unittest.TestCase):

    def test_every_module_stands_in_a_room_of_the_map(self):
        strays = [module for module, _ in modules()
                  if module and room_of(module) is None]
        self.assertEqual(strays, [], "they are not on the map")

    def test_a_room_imports_only_rooms_before_it(self):
        for here, there in self.arrows():
            if not self.are_edges(here, there):
                self.assertLess(
                    ORDER.index(there), ORDER.index(here),
                    f"{here or 'the door'} imports {there or 'the door'}")

    def test_no_edge_imports_another_edge(self):
        for here, there in self.arrows():
            if self.are_edges(here, there):
                self.assertIn(
                    (here, there), BETWEEN_EDGES, f"{here} imports {there}")

    def test_the_words_know_no_database(self):
        for module, path in modules():
            room = room_of(module) if module else ""
            if room and floor_of(room) == "words":
                for name in imports(path):
                    self.assertNotIn(
                        name.split(".")[0], ("ZODB", "BTrees", "persistent"), module)

    def test_store_and_runtime_meet_in_the_hall_only(self):
        for here, there in self.arrows():
            pair = {here.split(".")[0], there.split(".")[0]}
            self.assertNotEqual(pair, {"store", "runtime"}, (here, there))

    def are_edges(self, *rooms):
        return all(floor_of(room) == "edges" for room in rooms)

    def arrows(self):
        for module, path in modules():
            here = room_of(module) if module else ""
            if here is not None:
                for there in rooms_imported(path):
                    if there != here:
                        yield here, there


@unittest.skipUnless(SETUP.exists(), "the project's setup.py is not here")
class TheRequirements(unittest.TestCase):
    """A plain ``pip install lovely.remotetask`` brings all that the core needs."""

    def test_the_core_imports_only_what_it_requires(self):
        needed = {
            (name.split(".")[0], distribution, module)
            for module, path in modules() if self.is_core(module)
            for name in imports(path) if not name.startswith(OPTIONAL)
            for distribution in [distribution_of(name)] if distribution}
        required = {normal(line) for line in install_requires()}
        self.assertEqual(
            {entry for entry in needed if normal(entry[1]) not in required}, set())

    def is_core(self, module):
        room = room_of(module) if module else ""
        return room is not None and floor_of(room) not in ("edges", "aside")


def install_requires():
    """The list CORE of setup.py, without running it."""
    for node in ast.parse(SETUP.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "CORE":
            return ast.literal_eval(node.value)


def normal(requirement):
    distribution = re.match(r"[\w.-]+", requirement)[0]
    return re.sub(r"[-_.]+", "-", distribution).lower()


def distribution_of(name):
    """The distribution that brings the module *name*, None for our own and the
    standard library's."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names or name.startswith("lovely."):
        return None
    if top in ("zope", "zc") and rest:  # namespaces: named like their content
        return f"{top}.{rest[0]}"
    return distributions().get(top, [top])[0]


@functools.cache
def distributions():
    return packages_distributions()


if __name__ == "__main__":
    unittest.main()
