"""What is set for a service, and where each value comes from."""
from zope.browserpage import ViewPageTemplateFile

from lovely.remotetask import access, settings
from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import Action, Page
from lovely.remotetask.errors import BadSetting
from lovely.remotetask.failure import text_of

SOURCES = {
    "service": _("stored here"), "environment": _("environment"),
    "configuration": _("zope.conf"), "default": _("default"),
}

#: Of the process, not of one service: they are shown and not stored here.
OF_PROCESS = frozenset({"autostart", "naive_timezone", "max_threads"})

GROUPS = (
    (_("Work"), ("wait_seconds", "grace_seconds", "prefetch", "crash_limit",
                 "conflict_tries", "max_threads", "beat_seconds", "lease_seconds")),
    (_("Limits"), ("input_limit", "output_limit", "waiting_limit", "waiting_limit_each")),
    (_("What is kept"), ("retain_completed", "retain_errors", "retain_count",
                         "retain_interval", "trail_days", "trail_count")),
    (_("Schedules"), ("missed_bound", "missed_grace")),
)


class Settings(Page):
    """The settings of a service."""

    title = _("Settings")
    tab = "settings.html"
    template = ViewPageTemplateFile("settings.pt")
    actions = {"save": Action(access.MANAGE, "save")}

    def __init__(self, context, request):
        super().__init__(context, request)
        self.typed, self.wrong = {}, {}

    def update(self):
        self.mayManage = self.may(access.MANAGE)
        self.process = settings.process()
        self.groups = self._groups()

    def _groups(self):
        names, seen = [], set()
        for title, wanted in GROUPS:
            found = [name for name in wanted if name in settings.FIELDS]
            names.append((title, found))
            seen.update(found)
        names.append((_("Other"), [name for name in settings.FIELDS if name not in seen]))
        return [dict(title=title, rows=list(map(self._row, found)))
                for title, found in names if found]

    def _row(self, name):
        field, stored = settings.FIELDS[name], self.service.settings
        own = name in stored
        base = getattr(self.process, name)
        kind = "number" if isinstance(field.default, (int, float)) else "text"
        editable = self.mayManage and name not in OF_PROCESS
        given = stored[name] if own else None
        return dict(
            name=name, label=name.replace("_", "-"), text=field.metadata["text"],
            value=self._said(given if own else base), base=self._said(base),
            own=own, source=SOURCES["service" if own else self._source(name)],
            kind=kind, editable=editable,
            step="1" if isinstance(field.default, int) else "any",
            low=field.metadata.get("low"), high=field.metadata.get("high"),
            typed=self.typed.get(name, "" if not own else _plain(given)),
            wrong=self.wrong.get(name))

    def _said(self, value):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.number(value)
        return str(value) or self.say(_("(empty)"))

    def _source(self, name):
        """Where the process has a value from."""
        if name in map(_normal, settings.environment()):
            return "environment"
        if name in map(_normal, settings.product_configuration()):
            return "configuration"
        return "default"

    def save(self):
        """Store what differs; with one wrong value nothing is stored."""
        changes = {}
        for name in settings.FIELDS:
            if name in OF_PROCESS or name not in self.request.form:
                continue
            given = self.text(name)
            stored = self.service.settings.get(name)
            if given == ("" if stored is None else _plain(stored)):
                continue
            changes[name] = given or None
        for name, given in changes.items():
            try:
                if given is not None:
                    settings.Settings().changed({name: given})
            except BadSetting as error:
                self.wrong[name] = text_of(error)
        if self.wrong:
            self.typed = {name: self.text(name) for name in settings.FIELDS
                          if name in self.request.form}
            self.tell(_("Nothing was stored: see what is wrong below."), "error")
            return
        if changes:
            self.service.configure(**changes)
        self.tell(_("Settings that were changed: ${number}", mapping={"number": len(changes)})
                  if changes else _("Nothing was changed."))
        self.go(self.here)


def _plain(value):
    """A value as it stands in a field."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _normal(key):
    return str(key).lower().replace("-", "_")
