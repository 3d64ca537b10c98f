"""A schedule in words of the user's language, where it is one of the usual ones."""
from zope.i18nmessageid import MessageFactory

from lovely.remotetask.browser import _
from lovely.remotetask.schedule import SPANS, CronText, Interval, Schedule, _parsed

MANY = 6   # values of one field that are named one by one

WEEKDAYS = (_("Monday"), _("Tuesday"), _("Wednesday"), _("Thursday"), _("Friday"),
            _("Saturday"), _("Sunday"))
MONTHS = (_("January"), _("February"), _("March"), _("April"), _("May"), _("June"),
          _("July"), _("August"), _("September"), _("October"), _("November"),
          _("December"))
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
COUNTED = {
    ("day", False): _("every day, counted from its beginning"),
    ("day", True): _("every ${number} days"),
    ("hour", False): _("every hour, counted from its beginning"),
    ("hour", True): _("every ${number} hours"),
    ("minute", False): _("every minute, counted from its beginning"),
    ("minute", True): _("every ${number} minutes"),
    ("second", False): _("every second"), ("second", True): _("every ${number} seconds"),
}
WORKDAYS, ALL_WEEK = (0, 1, 2, 3, 4), tuple(range(7))


def of(cron, say):
    """(words, whether they are English whatever the user reads)."""
    made = cron.schedule
    if isinstance(made, Interval):
        return _interval(made, say), False
    fields = _fields(made)
    found = None if fields is None else _usual(fields, say)
    return (made.describe(), True) if found is None else (found, False)


def _interval(made, say):
    for unit, size in UNITS:
        number, rest = divmod(made.seconds, size)
        if not rest:
            return _with(say, COUNTED[unit, number > 1], number=number)
    raise AssertionError("every length is some seconds")


def _with(say, message, **values):
    return say(MessageFactory(message.domain)(
        str(message), mapping={name: str(value) for name, value in values.items()}))


def _fields(made):
    """(minutes, hours, weekdays, days, months), each None where it is every value; None
    for schedules that say more than that."""
    if isinstance(made, Schedule):
        if made.dayOfMonth and made.dayOfWeek:
            return None
        values = tuple(made._values().values())
    elif isinstance(made, CronText):
        _cron, values = _parsed(made.normal)
        if values is None:
            return None
    else:
        return None
    spans = SPANS.values()
    return tuple(None if len(each) == len(span) else tuple(each)
                 for each, span in zip(values, spans))


def _usual(fields, say):
    minutes, hours, weekdays, days, months = fields
    time = _time(minutes, hours, say)
    day = _day(weekdays, days, months, say)
    if time is None or day is None:
        return None
    if hours is None:   # "every 5 minutes", and on which days
        return _with(say, _("${time}, ${day}"), time=time, day=day) if day else time
    return _with(say, _("${day} at ${time}"), time=time, day=day or say(_("every day")))


def _time(minutes, hours, say):
    if hours is None:
        if minutes is None:
            return say(_("every minute"))
        step = _step(minutes, 60)
        if step:
            return _with(say, _("every ${number} minutes"), number=step)
        if len(minutes) > MANY:
            return None
        return _with(say, _("every hour at minute ${minutes}"),
                     minutes=_listed(minutes, say))
    if minutes is None or len(minutes) * len(hours) > MANY:
        return None
    return _listed([f"{hour:02}:{minute:02}" for hour in hours for minute in minutes], say)


def _step(values, size):
    """The even distance of values from 0 on to *size*; None if there is none."""
    if len(values) < 2 or values[0] != 0 or size % len(values):
        return None
    step = size // len(values)
    return step if list(values) == list(range(0, size, step)) else None


def _day(weekdays, days, months, say):
    """'' for every day; None where it is not one of the usual ways to say it."""
    if weekdays is not None:
        if days is not None or months is not None:
            return None
        if tuple(sorted(weekdays)) == WORKDAYS:
            return say(_("from Monday to Friday"))
        return _with(say, _("on ${days}"),
                     days=_listed([say(WEEKDAYS[each]) for each in weekdays], say))
    if days is None:
        if months is None:
            return ""
        return _with(say, _("every day in ${months}"), months=_months(months, say))
    if len(days) > MANY:
        return None
    named = _listed(days, say)
    if months is None:
        return _with(say, _("on day ${days} of each month"), days=named)
    if len(months) > MANY:
        return None
    return _with(say, _("on day ${days} of ${months}"), days=named,
                 months=_months(months, say))


def _months(months, say):
    return _listed([say(MONTHS[each - 1]) for each in months], say)


def _listed(values, say):
    *others, last = map(str, values)
    if not others:
        return last
    return _with(say, _("${others} and ${last}"), others=", ".join(others), last=last)
