"""Which jobs a worker takes: those of some tasks, tags, priorities.

    task mail,report; tag night; priority 0..5

What is not said is open.  Of several tasks, or tags, one is enough; a job of another
task, tag or priority waits for another worker.
"""
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lovely.remotetask.errors import BadOption
from lovely.remotetask.failure import clean

LIMIT = 200   # characters of a name
RANGE = re.compile(r"\s*(-?\d{1,9})?\s*(\.\.|-)?\s*(-?\d{1,9})?\s*\Z")


@dataclass(frozen=True)
class Filter:
    """What a worker takes.  None: whatever it is."""

    tasks: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    lowest: int | None = None    # the most urgent priority that it takes
    highest: int | None = None

    def __bool__(self) -> bool:
        """Whether it leaves anything to others."""
        return self != ALL

    def admits_task(self, name: str) -> bool:
        return self.tasks is None or name in self.tasks

    def admits_tags(self, tags: Collection[str]) -> bool:
        return self.tags is None or not self.tags.isdisjoint(tags)

    def admits_priority(self, priority: int) -> bool:
        return (self.lowest is None or priority >= self.lowest) \
            and (self.highest is None or priority <= self.highest)

    def admits(self, job) -> bool:
        return self.admits_priority(job.priority) and self.admits_task(job.task) \
            and self.admits_tags(job.tags)

    def __str__(self) -> str:
        """Its text; '' where it takes everything."""
        words = []
        if self.tasks is not None:
            words.append("task " + ",".join(sorted(self.tasks)))
        if self.tags is not None:
            words.append("tag " + ",".join(sorted(self.tags)))
        if self.lowest is not None or self.highest is not None:
            low, high = ("" if each is None else each for each in (
                self.lowest, self.highest))
            words.append(f"priority {low}..{high}" if low != high else f"priority {low}")
        return "; ".join(words)


ALL = Filter()


def read(tasks=None, tags=None, priorities=None) -> Filter:
    """A filter from what people give: names as a list or a text with commas, and a
    range of priorities as a text ('0-5', '-3..3', '..9', '7') or a pair.

    Nothing, and an empty text, leaves it open.  Raises BadOption.
    """
    lowest, highest = _range(priorities)
    return Filter(_names("tasks", tasks), _names("tags", tags), lowest, highest)


def _names(what: str, given) -> frozenset[str] | None:
    if given is None or isinstance(given, str) and not given.strip():
        return None
    if isinstance(given, str):
        given = given.split(",")
    if not isinstance(given, Iterable):
        raise BadOption(what, given, "names")
    found = [each.strip() if isinstance(each, str) else each for each in given]
    for each in found:
        if not isinstance(each, str) or not each or len(each) > LIMIT \
                or clean(each) != each:
            raise BadOption(what, given, f"names, plain texts of up to {LIMIT} characters")
    if not found:
        raise BadOption(what, given, "one name at least")
    return frozenset(found)


def _range(given) -> tuple[int | None, int | None]:
    if given is None or isinstance(given, str) and not given.strip():
        return None, None
    lowest: int | None
    highest: int | None
    if isinstance(given, int) and not isinstance(given, bool):
        lowest = highest = given
    elif isinstance(given, str) and (found := RANGE.match(given)) \
            and (found[1] or found[2] and found[3]):
        lowest = None if found[1] is None else int(found[1])
        highest = None if found[3] is None else int(found[3])
        if found[2] is None:
            if highest is not None:
                raise _bad_range(given)
            highest = lowest
    elif isinstance(given, (tuple, list)) and len(given) == 2 and all(
            each is None or isinstance(each, int) and not isinstance(each, bool)
            for each in given):
        lowest, highest = given
    else:
        raise _bad_range(given)
    if lowest is not None and highest is not None and lowest > highest:
        raise _bad_range(given)
    return lowest, highest


def _bad_range(given) -> BadOption:
    return BadOption("priorities", given, "a range from the most urgent on, as 0-5, "
                     "..5, 3.. or 7")
