"""Records that nobody can read (C27).

Among good jobs some are spoilt, each in one way: the class of its input is gone; the
class of the job itself is gone; its state is no pickle.  The good ones must all run,
`check` must name the unreadable ones, and it must be possible to get rid of them.
"""
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from persistent import Persistent  # noqa: E402
from ZODB.Connection import TransactionMetaData  # noqa: E402

from chaos import harness  # noqa: E402
from lovely.remotetask.errors import NotAtItsEnd  # noqa: E402
from lovely.remotetask.job import Job  # noqa: E402

GONE = "chaos_gone"     # a module that only this process has


def make_classes():
    """Classes of a module that no worker will find."""
    module = sys.modules[GONE] = types.ModuleType(GONE)
    for base in (Persistent, Job):
        name = f"Gone{base.__name__}"
        setattr(module, name, type(name, (base,), {"__module__": GONE}))
    return module.GonePersistent, module.GoneJob


def spoil(arena, kind, gone, gone_job):
    """Add a job that is spoilt in that way; its number."""
    with arena.desk() as desk:
        service = desk.service
        if kind == "input":
            return service.add("chaos.nothing", gone())
        if kind == "job":
            service.jobClass = gone_job
            try:
                return service.add("chaos.nothing", 0)
            finally:
                del service.jobClass
        id = service.add("chaos.nothing", 0)
    with arena.desk() as desk:
        job = desk.service.jobs[id]
        job._p_activate()
        oid, serial = job._p_oid, job._p_serial
        storage = desk.connection._storage
        data = TransactionMetaData()
        storage.tpc_begin(data)
        storage.store(oid, serial, b"no pickle at all", "", data)
        storage.tpc_vote(data)
        storage.tpc_finish(data)
    return id


def dispose(arena, id):
    """Whether somebody can get rid of it by the verbs."""
    with arena.desk() as desk:
        service = desk.service
        try:
            service.remove(id)
        except NotAtItsEnd:
            service.cancel(id)
            service.remove(id)
        return id not in service.jobs


def main():
    options = harness.arguments(__doc__, rounds=(5, 1, "spoilt jobs of each kind"))
    report = harness.Report("records that nobody can read", options)
    gone, gone_job = make_classes()
    kinds = ("input", "job", "state")
    with harness.Arena(options) as arena:
        bad = {}
        for _ in range(options.rounds):
            for kind in kinds:
                arena.add_many(5, 0)
                bad[spoil(arena, kind, gone, gone_job)] = kind
                arena.add_many(5, 0)
        arena.close_database()
        del sys.modules[GONE]
        good = len(arena.acknowledged)
        arena.ready()
        harness.wait_until(
            lambda: (arena.counts() or {"completed": 0})["completed"] >= good,
            "the good ones", 30)
        arena.stop_workers()
        with arena.desk() as desk:
            status = [desk.service.getStatus(id) for id in arena.acknowledged]
            faults = desk.service.check()
        report.add("good jobs completed", status.count("completed"), str(good),
                   status.count("completed") == good)
        named = [id for id, kind in bad.items() if kind != "input"
                 and any(str(id) in text for text in faults)]
        wanted = [id for id, kind in bad.items() if kind != "input"]
        report.add("unreadable ones that `check` names", len(named), str(len(wanted)),
                   len(named) == len(wanted))
        gone_now = [kind for id, kind in bad.items() if dispose(arena, id)]
        report.add("that could be removed", len(gone_now), str(len(bad)),
                   len(gone_now) == len(bad))
        report.note("removed", gone_now)
        with arena.desk() as desk:
            left = desk.service.check()
        report.add("faults that are left", len(left), "0", not left)
        report.texts += left[:5]
    return report.show()


if __name__ == "__main__":
    harness.command(main)
