"""A job is made once, however often it is asked for: idempotency keys."""
import hashlib

from zodbpickle import pickle

from lovely.remotetask import clock
from lovely.remotetask.errors import BadOption, KeyReused
from lovely.remotetask.runtime.frames import present_owner
from lovely.remotetask.store.keys import Keys

KEY_LIMIT = 200  # characters
HOUR = 3_600_000_000


class Once:
    """The part of a TaskService that knows what was asked for before."""

    keys = None  # made with the first

    def addOnce(self, key, task, input=None, startLater=False, **options):
        """See ITaskService"""
        said = pickle.dumps((task, input, startLater, sorted(options.items())), 3)
        fingerprint = hashlib.sha256(said).digest()
        known = self.madeUnder(key, fingerprint)
        if known is not None:
            return known
        jobid = self.add(task, input, startLater, **options)
        self.noteMade(key, fingerprint, jobid)
        return jobid

    def madeUnder(self, key, fingerprint):
        """See ITaskService"""
        if not isinstance(key, str) or not 0 < len(key) <= KEY_LIMIT:
            raise BadOption("key", key, f"a text of 1 to {KEY_LIMIT} characters")
        if self.keys is None:
            return None
        found = self.keys.find(present_owner() or "", key, clock.micros(), self._kept())
        if found is None:
            return None
        if found[0] != fingerprint:
            raise KeyReused(key)
        return found[1]

    def noteMade(self, key, fingerprint, jobid):
        """See ITaskService"""
        if self.keys is None:
            self.keys = Keys()
        self.keys.note(present_owner() or "", key, fingerprint, jobid, clock.micros(),
                       self._kept())

    def _kept(self):
        return round(self.effectiveSettings().idempotency_hours * HOUR)
