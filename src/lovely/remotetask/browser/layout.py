"""The frame of every page, and what pages share.

A page is a subclass of `Page` with a template that fills the frame:

    class Workers(Page):
        title = _("Workers")           heading and window title
        tab = "workers.html"           the tab that is marked as the present one
        template = ViewPageTemplateFile("workers.pt")
        actions = {"stop": Action(access.MANAGE, "stop")}

        def update(self):              before the template is rendered
            ...
        def stop(self):                a POST with a button name="do" value="stop"
            self.tell(_("Stopped."))   shown by the next page
            self.go(self.url("workers.html"))

    <html metal:use-macro="view/frame" i18n:domain="lovely.remotetask">
    <body><metal:block fill-slot="body">
      <form method="post" tal:attributes="action view/here">
        <button name="do" value="stop" i18n:translate="">Stop</button>
      </form>
    </metal:block></body></html>

Slots: `body`; `heading` (what stands in the line of the title, as buttons).
Everything that changes something is such a form: `actions` are looked at for POST
only, and each asks for its permission; where the request came from is looked at once,
for all of them (`act`).

In templates:  python:view.when(moment)      <time> in the user's locale, structure
               python:view.took(seconds)     "4 min 10 s", a message
               python:view.badge(status)     the status word as a badge, structure
               python:view.number(n)         1,234 or 1.234
               python:view.url("x.html")     a page of the service; view/here: this one
               python:view.jobUrl(id)        the page of a job
               python:view.may(permission)   whether the user may, for this service
An element with an id and the attribute data-live is kept fresh by the script, while
the tab is seen.

`self.service` is the service without security proxy: a page says by `permission` in
ZCML who may see it, and asks `may` before it shows what needs more
(access.READ_INPUT, access.READ_RESULT); of one job it asks `access.may(…, job)`.
`self.context` is the service or the job, as it was published.
"""
import base64
import hashlib
import html
import json
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from zope.browserpage import ViewPageTemplateFile
from zope.component import queryAdapter, queryMultiAdapter
from zope.i18n import translate
from zope.interface.common.idatetime import ITZInfo
from zope.publisher.browser import BrowserView
from zope.security import canAccess
from zope.security.interfaces import Unauthorized
from zope.security.proxy import removeSecurityProxy
from zope.traversing.browser.absoluteurl import absoluteURL

from lovely.remotetask import clock, lifecycle
from lovely.remotetask.access import may
from lovely.remotetask.browser import _
from lovely.remotetask.browser.interfaces import IRemoteTaskSkin
from lovely.remotetask.guard import BadRequest, require_change, require_method, secure
from lovely.remotetask.interfaces import ITaskService

STATIC = Path(__file__).parent / "static"
MESSAGES = "remotetask-messages"   # the cookie that carries them to the next page
LIVE = "HTTP_X_REMOTETASK_LIVE"    # the header by which the script asks

#: Tabs of a service, in order: name of the view and title.
TABS = (
    ("jobs.html", _("Jobs")),
    ("addjob.html", _("Add job")),
    ("schedules.html", _("Schedules")),
    ("addcronjob.html", _("Add cron job")),
    ("workers.html", _("Workers")),
    ("settings.html", _("Settings")),
    ("trail.html", _("What people did")),
)

STATUS_TITLES = {
    lifecycle.STARTLATER: _("start later"),
    lifecycle.DELAYED: _("delayed"),
    lifecycle.CRONJOB: _("cronjob"),
    lifecycle.QUEUED: _("queued"),
    lifecycle.PROCESSING: _("processing"),
    lifecycle.COMPLETED: _("completed"),
    lifecycle.ERROR: _("error"),
    lifecycle.CANCELLED: _("cancelled"),
}


class Action(NamedTuple):
    """What a button does: who may press it, and the method of the page."""

    permission: str
    method: str


class Page(BrowserView):
    """See the top of this module."""

    title = _("Task service")
    tab = ""
    template: object = None
    actions: dict[str, Action] = {}
    _frame = ViewPageTemplateFile("layout.pt")
    button = ""      # the name of the pressed button
    argument = ""    # what stands behind the colon in the button's value
    _gone = False
    _zone = _dates = _numbers = _base = None

    # -- from the request to the answer

    def __call__(self):
        require_method(self.request, "GET", "HEAD", "POST")
        secure(self.request.response)
        self.request.response.setBase(None)  # every address in our pages is whole
        if self.request.method == "POST":
            require_change(self.request)
            self.act()
        if not self._gone:
            self.update()
        if self._gone:
            return ""
        return self.render()

    def render(self):
        """The page as HTML."""
        return self.template()

    def update(self):
        """Gather what the template shows."""

    def act(self):
        """Do what the pressed button says: "name", or "name:argument"."""
        name, _colon, self.argument = self.text("do").partition(":")
        self.button = name
        action = self.actions.get(name)
        if action is None:
            raise BadRequest("this page has no such button")
        if not self.may(action.permission):
            raise Unauthorized(self.context, name, action.permission)
        getattr(self, action.method)()

    def go(self, url):
        """Have the browser get another page; `update` and the template are left out."""
        self._gone = True
        self.request.response.redirect(url, status=303)

    # -- what was sent

    def text(self, name, default=""):
        """A field of the form or of the query as text, stripped."""
        value = self.request.form.get(name, default)
        if isinstance(value, (list, tuple)):
            value = value[-1] if value else default
        return value.strip() if isinstance(value, str) else default

    def texts(self, name):
        """All values of a field, as texts."""
        value = self.request.form.get(name, ())
        values = value if isinstance(value, (list, tuple)) else (value,)
        return [each for each in values if isinstance(each, str)]

    def whole(self, name, default, low, high):
        """A whole number between two bounds, else the default."""
        try:
            value = int(self.text(name))
        except ValueError:
            return default
        return min(max(value, low), high)

    # -- who and where

    @property
    def service(self):
        place = removeSecurityProxy(self.context)
        while place is not None and not ITaskService.providedBy(place):
            place = getattr(place, "__parent__", None)
        return place

    def may(self, permission):
        """Whether the user may, for the service or job that was published."""
        return may(permission, self.context)

    @property
    def pageTitle(self):
        return self.say(self.title)

    @property
    def siteTitle(self):
        return self.say(_("Task services")) if self.service is None \
            else self.serviceName

    @property
    def zoneName(self):
        return clock.now().astimezone(self.zone).tzname()

    @property
    def frame(self):
        return self._frame.macros["frame"]

    @property
    def here(self):
        """The address of this page, without a query."""
        return f"{absoluteURL(self.context, self.request)}/{quote(self.__name__)}"

    def url(self, name="", **query):
        """The address of a page of the service."""
        if self._base is None:
            self._base = absoluteURL(self.service, self.request)
        base = self._base
        text = f"{base}/{name}" if name else base
        return f"{text}?{urlencode(query, doseq=True)}" if query else text

    def jobUrl(self, jobid):
        return self.url(str(jobid))

    def static(self, name):
        """The address of a file in `static`; it changes with the file."""
        resource = queryAdapter(self.request, name="remotetask")
        return f"{resource()}/{name}?v={_version(name)}"

    @property
    def inSkin(self):
        """Whether the pages stand alone, outside the ZMI."""
        return IRemoteTaskSkin.providedBy(self.request)

    @property
    def serviceName(self):
        return getattr(self.service, "__name__", None) or translate(
            _("Task service"), context=self.request)

    @property
    def language(self):
        return self.request.locale.id.language or "en"

    @property
    def userTitle(self):
        principal = getattr(self.request, "principal", None)
        return "" if principal is None else principal.title or principal.id

    def tabs(self):
        """The pages of the service that this user may see."""
        if self.service is None:
            return []
        return [dict(url=self.url(name), title=title, current=name == self.tab)
                for name, title in TABS if self.canSee(name)]

    def canSee(self, name):
        service = self.context if ITaskService.providedBy(self.context) else \
            getattr(self.context, "__parent__", None)
        view = queryMultiAdapter((service, self.request), name=name)
        return view is not None and canAccess(view, "__call__")

    def placesAbove(self):
        """The way to the service: in the ZMI from the root, else the start page."""
        if self.inSkin:
            return self._startPage()
        crumbs = queryMultiAdapter((self.service or self.context, self.request),
                                   name="absolute_url").breadcrumbs()
        return [dict(url=f"{crumb['url']}/@@SelectedManagementView.html",
                     title=crumb["name"] or _("[top]")) for crumb in crumbs[:-1]]

    def _startPage(self):
        return [dict(url=absoluteURL(self._root(), self.request),
                     title=_("All services"))]

    def otherViews(self):
        """What the ZMI has beside our pages for this object."""
        if self.inSkin:
            return []
        menu = queryMultiAdapter((self.context, self.request), name="view_get_menu")
        ours = {name for name, _title in TABS} | {self.__name__}
        try:
            entries = menu["zmi_views"] if menu is not None else []
        except LookupError:
            entries = []
        return [entry for entry in entries
                if entry["action"].rsplit("/", 1)[-1].lstrip("@") not in ours]

    # -- messages, shown once by the next page

    def tell(self, message, level="info"):
        """Show *message* on the page that comes next, or on this one."""
        waiting = [*getattr(self, "_told", ()), (level, self.say(message))]
        self._told = waiting[-5:]
        text = json.dumps([(level, said[:400]) for level, said in self._told])
        self.request.response.setCookie(
            MESSAGES, base64.urlsafe_b64encode(text.encode()).decode(),
            path=self._cookiePath, httponly=True, samesite="Lax")

    @property
    def isLive(self):
        """Whether the script asks, to bring parts of the page up to date."""
        return self.request.get(LIVE) is not None

    def messages(self):
        """[(level, text)] for this page; they are not shown again."""
        told = list(getattr(self, "_told", ()))
        if not self.isLive:
            told = _messages(self.request.getCookies().get(MESSAGES)) + told
            if told:
                self.request.response.expireCookie(MESSAGES, path=self._cookiePath)
        return told

    @property
    def _cookiePath(self):
        root = absoluteURL(self._root(), self.request)
        return "/" + root.split("://", 1)[-1].partition("/")[2]

    def _root(self):
        place = removeSecurityProxy(self.context)
        while getattr(place, "__parent__", None) is not None:
            place = place.__parent__
        return place

    # -- words, numbers, times

    def say(self, message):
        return translate(message, context=self.request)

    def number(self, value):
        if self._numbers is None:
            self._numbers = self.request.locale.numbers.getFormatter("decimal")
        return self._numbers.format(value)

    def when(self, moment, empty="–"):
        """A moment as <time>, in the locale and zone of the user."""
        if moment is None:
            return f'<span class="none">{empty}</span>'
        return (f'<time datetime="{moment.isoformat(timespec="milliseconds")}" '
                f'title="{html.escape(self._long(moment))}">'
                f'{html.escape(self.plainTime(moment))}</time>')

    def plainTime(self, moment):
        """A moment as text, in the locale and zone of the user."""
        if self._dates is None:
            self._dates = self.request.locale.dates.getFormatter("dateTime", "medium")
        return self._dates.format(moment.astimezone(self.zone))

    def _long(self, moment):
        local = moment.astimezone(self.zone)
        return f"{local.isoformat(sep=' ', timespec='milliseconds')} {local.tzname()}"

    @property
    def zone(self):
        """The user's time zone where that is known, else that of this process."""
        if self._zone is None:
            self._zone = zone_of(self.request)
        return self._zone

    def took(self, seconds):
        """A span of time in words."""
        if seconds is None:
            return ""
        return self.say(_span(seconds))

    def badge(self, status):
        """A status word as a badge."""
        title = html.escape(self.say(STATUS_TITLES.get(status, status)))
        return f'<span class="badge s-{slug(status)}">{title}</span>'

    def statusTitle(self, status):
        return self.say(STATUS_TITLES.get(status, status))


def zone_of(request):
    """The zone of the user where the application knows it, else that of this process."""
    return queryAdapter(request, ITZInfo) or clock.naive_zone or \
        clock.now().astimezone().tzinfo


def slug(status):
    """A status word as part of a CSS class."""
    return status.replace(" ", "-")


def _span(seconds):
    seconds = max(0.0, float(seconds))
    if seconds < 0.9995:
        return _("${n} ms", mapping={"n": round(seconds * 1000)})
    if seconds < 59.95:
        return _("${n} s", mapping={"n": f"{seconds:.1f}".removesuffix(".0")})
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("${m} min ${s} s", mapping={"m": minutes, "s": rest})
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return _("${h} h ${m} min", mapping={"h": hours, "m": minutes})
    days, hours = divmod(hours, 24)
    return _("${d} d ${h} h", mapping={"d": days, "h": hours})


def _messages(cookie):
    """What an earlier page wanted to tell; nothing from a cookie that is not ours."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cookie or ""))
        return [(level, str(text)) for level, text in found
                if level in ("info", "warning", "error")][:5]
    except (ValueError, TypeError):
        return []


_versions: dict[str, str] = {}


def _version(name):
    if name not in _versions:
        _versions[name] = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
    return _versions[name]
