"""One suspect at a time in a process, whatever services the process works for.

A job whose process died runs alone, so that another death tells of this job and of no
other.  What belongs to one service its dispatcher sees to; here the dispatchers of one
process agree: who meets a suspect waits until the others have nothing in hand, and
they take nothing meanwhile.
"""
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lovely.remotetask.runtime.dispatcher import Dispatcher

# What a dispatcher may claim.
ANY = "any"              # it is the only one here: as it sees fit, a suspect as well
SHARED = "shared"        # no suspect: others may have something in hand
ALONE = "alone"          # one suspect: nobody has
NOTHING = "nothing"      # another one is to be alone
IMPATIENT = "impatient"  # suspects have waited for long enough: all else

PATIENCE_SECONDS = 60.0  # so long the others take nothing for one suspect


class Solo:
    """The dispatchers of a process, and which of them is to be alone."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.members: set[Dispatcher] = set()
        self.claiming: set[Dispatcher] = set()        # between `ask` and `tell`
        self.waiting: dict[Dispatcher, float] = {}    # those who met suspects, since
        self.alone: tuple[Dispatcher, float] | None = None

    def enter(self, dispatcher: "Dispatcher") -> None:
        with self.lock:
            self.members.add(dispatcher)

    def leave(self, dispatcher: "Dispatcher") -> None:
        with self.lock:
            self.members.discard(dispatcher)
            self.claiming.discard(dispatcher)
            self.waiting.pop(dispatcher, None)
            if self.alone is not None and self.alone[0] is dispatcher:
                self.alone = None
            others = list(self.members)
        for each in others:
            each.bell.ring()

    def ask(self, dispatcher: "Dispatcher") -> str:
        """What it may claim now.  `tell` must follow."""
        now = time.monotonic()
        with self.lock:
            answer, call = self._answer(dispatcher, now)
            if answer != NOTHING:
                self.claiming.add(dispatcher)
        for each in call:
            each.bell.ring()
        return answer

    def tell(self, dispatcher: "Dispatcher", suspects: bool) -> None:
        """The claim was made, or failed; suspects: some that it takes still wait."""
        call: list[Dispatcher] = []
        with self.lock:
            self.claiming.discard(dispatcher)
            if not suspects:
                self.waiting.pop(dispatcher, None)
            elif len(self.members) > 1:
                self.waiting.setdefault(dispatcher, time.monotonic())
            if self.alone is not None and self.alone[0] is dispatcher \
                    and not dispatcher.has_suspect():
                self.alone, call = None, [*self.members - {dispatcher}]
        for each in call:
            each.bell.ring()

    def _answer(self, dispatcher: "Dispatcher", now: float
                ) -> "tuple[str, list[Dispatcher]]":
        """The answer, and whom to call."""
        call: list[Dispatcher] = []
        if self.alone is not None:
            who, since = self.alone
            if who not in self.claiming and not who.has_in_hand() \
                    or now - since > PATIENCE_SECONDS:
                self.alone, call = None, [*self.members - {dispatcher}]
            elif who is not dispatcher:
                return NOTHING, call
        others = self.members - {dispatcher}
        if not others:
            if self.alone is None:  # another one may enter before `tell`, and after it
                self.alone = dispatcher, now
            return ANY, call
        if dispatcher in self.waiting:
            since = self.waiting[dispatcher]
            if not dispatcher.has_in_hand() and not any(
                    each in self.claiming or each.has_in_hand() for each in others):
                self.alone, self.waiting[dispatcher] = (dispatcher, now), now
                return ALONE, call
            return IMPATIENT if now - since > PATIENCE_SECONDS else SHARED, call
        for other in others:
            if now - self.waiting.get(other, float("-inf")) <= PATIENCE_SECONDS:
                return NOTHING, call if dispatcher.has_in_hand() else [*call, other]
        return SHARED, call


SOLO = Solo()
