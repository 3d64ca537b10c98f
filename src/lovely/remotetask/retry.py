"""Whether a failed attempt is made again, and when."""
import random
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from lovely.remotetask.errors import BadOption, TaskError
from lovely.remotetask.interfaces import IRetryPolicy

# How often an attempt is repeated because its commit met another one.  With
# random pauses 400 of 400 contended commits got through within five.
CONFLICT_TRIES = 5


@implementer(IRetryPolicy)
@dataclass(frozen=True)
class RetryPolicy:
    """So many attempts after the first, with growing pauses.

    delay: seconds before the second attempt; each later pause is *factor* times
    as long, at most *maximum* seconds.  jitter: the share of a pause that is
    left to chance, so that jobs that failed together do not come back together.
    A TaskError is never tried again.
    """

    retries: int = 3
    delay: float = 0.0
    factor: float = 2.0
    maximum: float = 3600.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        for name, low in (("retries", 0), ("delay", 0), ("factor", 1),
                          ("maximum", 0), ("jitter", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not low <= value < 1e9:
                raise BadOption(name, value, f"a number from {low} on")

    def delayAfter(self, failures: int, error: BaseException) -> float | None:
        """See IRetryPolicy"""
        if isinstance(error, TaskError) or failures > self.retries:
            return None
        pause = min(self.delay * self.factor ** min(failures - 1, 64), self.maximum)
        return pause * (1 - self.jitter * random.random())


# What a task without a policy gets: as in release 0.5, three more, at once.
DEFAULT = RetryPolicy(retries=3, delay=0.0)


def backoff(retries: int = 5, delay: float = 10.0, maximum: float = 3600.0) -> RetryPolicy:
    """A policy for what gets better by waiting: 10 s, 20 s, 40 s, ..."""
    return RetryPolicy(retries=retries, delay=delay, maximum=maximum)


def policy_of(task: object, retries: int | None = None) -> Any:
    """The IRetryPolicy of a task: its adapter, its `retryPolicy`, or the default.

    *retries*, or else the task's own `retries`, takes the place of the policy's number.
    """
    policy = getattr(task, "retryPolicy", None) or IRetryPolicy(task, None) or DEFAULT
    if retries is None:
        retries = getattr(task, "retries", None)
    if retries is None or not isinstance(policy, RetryPolicy):
        return policy
    return RetryPolicy(retries, policy.delay, policy.factor, policy.maximum, policy.jitter)


def conflict_pause(tries: int, seconds: float = 0.0) -> float:
    """Seconds to wait before conflict number *tries* is tried again.

    seconds: how long the try took that was in vain.  Who pauses for less time than
    the others need meets them again: 300 jobs that fill one index with four threads
    met 99 conflicts with pauses of this size, not 449, and took half the time.
    """
    return random.random() * max(0.002, seconds) * 2 ** min(tries, 6)
