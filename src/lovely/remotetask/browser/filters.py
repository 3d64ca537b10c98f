"""What the list of jobs is asked for, as it stands in the address."""
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from lovely.remotetask import clock, finding, lifecycle

SIZES = (10, 20, 50, 100)
SIZE = 20
TEXT = 200      # characters of a field
SORTS = {
    "": finding.NEWEST, "created": finding.OLDEST, "-created": finding.NEWEST,
    "status": finding.BY_STATUS, "-end": finding.ENDED, "end": finding.ENDED_FIRST}


class Filters(NamedTuple):
    """The fields as they were given, and what they mean."""

    state: str = ""
    task: str = ""
    owner: str = ""
    tag: str = ""
    since: str = ""      # in the address: from
    until: str = ""
    text: str = ""
    sort: str = ""
    size: int = SIZE
    after: str = ""
    looked: int = 0
    zone: Any = None

    @property
    def asked(self) -> dict[str, Any]:
        """What `findJobs` and `countJobs` are asked for."""
        return dict(
            status=self.state or None, task=self.task or None, owner=self.owner or None,
            tag=self.tag or None, text=self.text or None,
            createdFrom=self._moment(self.since),
            createdBefore=self._moment(self.until, ends=True))

    @property
    def order(self) -> str:
        return SORTS[self.sort]

    @property
    def key(self):
        return key_of(self.after)

    @property
    def narrowed(self) -> bool:
        """Whether anything but the state is asked for."""
        return any((self.task, self.owner, self.tag, self.since, self.until, self.text))

    def fields(self, **changes) -> dict[str, str]:
        """What stands in the address; what is empty or usual is left out."""
        values = self._replace(**changes)._asdict()
        names = dict(since="from")
        usual = Filters()._asdict()
        return {names.get(name, name): str(value) for name, value in values.items()
                if value != usual[name] and name != "zone"}

    def query(self, **changes) -> str:
        """The query of the address with some fields changed, from the first page."""
        fields = self.fields(**{"after": "", "looked": 0, **changes})
        return f"?{urlencode(fields)}" if fields else ""

    def _moment(self, text, ends=False):
        """An aware datetime; a day is all of it."""
        if not text:
            return None
        moment = datetime.fromisoformat(text)
        if ends and len(text) == 10:
            moment += timedelta(days=1)
        elif ends and len(text) == 16:
            moment += timedelta(minutes=1)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone)


def read(form, zone) -> Filters:
    """The filters in a form or an address; what means nothing is left out."""
    def text(name):
        value = form.get(name, "")
        value = value[-1] if isinstance(value, list) and value else value
        return value.strip()[:TEXT] if isinstance(value, str) else ""

    def whole(name, usual, most):
        value = text(name)
        return min(int(value), most) if value.isascii() and value.isdigit() \
            and len(value) < 10 else usual

    state, sort = text("state"), text("sort")
    return Filters(
        state=state if state in lifecycle.STATUSES else "", task=text("task"),
        owner=text("owner"), tag=text("tag"), since=_day(text("from")),
        until=_day(text("until")), text=text("text"),
        sort=sort if sort in SORTS else "", size=max(1, whole("size", SIZE, SIZES[-1])),
        after=text("after") if key_of(text("after")) else "",
        looked=whole("looked", 0, finding.TEXT_LIMIT), zone=zone or clock.EPOCH.tzinfo)


def _day(text):
    try:
        moment = datetime.fromisoformat(text)
        # What cannot be moved to another zone and by a day is no time of a job.
        return text if 1970 < moment.year < 9000 else ""
    except ValueError:
        return ""


def key_of(text):
    """The key that stands in an address as "moment.id"; None for any other text."""
    parts = text.split(".")
    if len(parts) in (2, 3) and all(
            part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        key = tuple(map(int, parts))
        if len(parts) == 2 or key[0] < len(lifecycle.STATUSES):
            return key
    return None


def key_text(key) -> str:
    return "" if key is None else ".".join(map(str, key))
