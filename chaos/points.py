"""Named points of the real code at which a process can be made to die, or to stop.

    claiming   the claim is made, not committed      voting     before the vote
    claimed    the claim is committed                voted      before the finish
    started    the task begins                       finished   after it, nobody knows
    midway     the task has written half             folding    the books know, no commit
                                                     folded     it is in the books
    rescuing   the jobs of a dead process are taken, not committed
    rescued    they are committed
    returning  at a stop: what is held goes back, not committed

They cost nothing elsewhere: `arm` is called in the worker processes of chaos only,
and puts its calls around the verbs of the service from outside.
"""
import os
import signal
import threading

from lovely.remotetask.runtime.publication import Publication
from lovely.remotetask.service import TaskService

NAMES = ("claiming", "claimed", "started", "midway", "voting", "voted", "finished",
         "folding", "folded")
OTHERS = ("rescuing", "rescued", "returning")

_armed = None      # [name, how often it is still passed, signal]
_lock = threading.Lock()


def reach(name):
    """This process comes past a point."""
    if _armed is None or _armed[0] != name:
        return
    with _lock:
        _armed[1] -= 1
        if _armed[1] == 0:
            os.write(1, f"at {name}\n".encode())
            os.kill(os.getpid(), _armed[2])


def arm(name, passings, number=signal.SIGKILL):
    """Get the signal *number* at the so-manieth passing of a point."""
    global _armed
    if name not in NAMES + OTHERS:
        raise ValueError(f"there is no point {name!r}: {', '.join(NAMES + OTHERS)}")
    _armed = [name, passings, number]
    _wrap_verbs()


class _Marker:
    """A resource of a transaction, voting before or after all others."""

    def __init__(self, manager, key, vote, finish=""):
        self.transaction_manager, self.key = manager, key
        self.vote, self.finish = vote, finish

    def sortKey(self):
        return self.key

    def tpc_vote(self, transaction):
        reach(self.vote)

    def tpc_finish(self, transaction):
        reach(self.finish)

    def abort(self, transaction):
        pass

    tpc_begin = commit = tpc_abort = abort


def mark_commit(manager):
    """Have the present transaction pass the points of its commit."""
    if _armed is None:
        return
    present = manager.get()
    present.join(_Marker(manager, "", "voting"))
    present.join(_Marker(manager, "~~~~", "voted", "finished"))


def _wrap_verbs():
    dispatch, hand_back = TaskService.dispatch, TaskService.handBack
    transact = Publication.transact
    passed = threading.local()

    def dispatch_and_pass(self, name, *args, **kwargs):
        held = _others(self, name)
        round = dispatch(self, name, *args, **kwargs)
        passed.rescued = kwargs.get("rescuing") and held and not _others(self, name)
        if passed.rescued:
            reach("rescuing")
        if round.claims:
            reach("claiming")
        if round.folded:
            reach("folding")
        return round

    def hand_back_and_pass(self, *args, **kwargs):
        result = hand_back(self, *args, **kwargs)
        reach("returning")
        return result

    def transact_and_pass(self, verb, *args, **kwargs):
        result = transact(self, verb, *args, **kwargs)
        if verb == "dispatch":
            if getattr(passed, "rescued", False):
                reach("rescued")
            if result.claims:
                reach("claimed")
            if result.folded:
                reach("folded")
        return result

    TaskService.dispatch = dispatch_and_pass
    TaskService.handBack = hand_back_and_pass
    Publication.transact = transact_and_pass


def _others(service, name):
    """Whether somebody else than the dispatcher of that name holds jobs."""
    return any(worker["holds"] for worker in service.workers() if worker["name"] != name)
