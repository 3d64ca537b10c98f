"""Which jobs were made under which idempotency key, for a time.

    spans    number of a span of six hours -> {(owner, key): (fingerprint, id)}

A span that is too old goes as a whole, with the first key of a new one.  Two who use
the same key at once write the same entry: one of them meets a conflict.
"""
from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

SPAN = 6 * 3_600_000_000  # microseconds


class Keys(Persistent):

    def __init__(self) -> None:
        self.spans = LOBTree()

    def find(self, owner: str, key: str, now: int, kept: int) -> tuple[bytes, int] | None:
        """(fingerprint, id) of the job made under a key in the last *kept* microseconds,
        or a span more."""
        for span in self.spans.values((now - kept) // SPAN):
            found = span.get((owner, key))
            if found is not None:
                return found
        return None

    def note(self, owner: str, key: str, fingerprint: bytes, id: int, now: int,
             kept: int) -> None:
        number = now // SPAN
        span = self.spans.get(number)
        if span is None:
            for old in list(self.spans.keys(None, (now - kept) // SPAN - 1)):
                del self.spans[old]
            span = self.spans[number] = OOBTree()
            if number - 1 not in self.spans:
                self.spans[number - 1] = OOBTree()
        span[owner, key] = (fingerprint, id)
        # Whoever's clock is a little behind must meet this.
        before = self.spans.get(number - 1)
        if before is not None:
            before[owner, key] = (fingerprint, id)
