"""Pages in the skin for what could not be answered."""
from zope.authentication.interfaces import IAuthentication
from zope.browserpage import ViewPageTemplateFile
from zope.component import queryUtility
from zope.component.hooks import getSite

from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import Page
from lovely.remotetask.guard import secure


class Trouble(Page):
    """Something is wrong here, and it is in the log.  The context is the exception."""

    title = _("Something went wrong")
    words = _("The server could not answer this. What happened is in its log.")
    status = 500
    service = None
    template = ViewPageTemplateFile("trouble.pt")

    def __call__(self):
        response = self.request.response
        response.setStatus(self.status)
        secure(response)
        if not hasattr(response, "setBase"):  # a program's, that has named the skin
            response.setHeader("Content-Type", "text/plain;charset=utf-8")
            return f"{self.say(self.title)}\n"
        response.setBase(None)
        return self.template()

    def _root(self):
        place = getSite()
        while getattr(place, "__parent__", None) is not None:
            place = place.__parent__
        return place

    def placesAbove(self):
        return self._startPage()

    def otherViews(self):
        return []


class NotFound(Trouble):
    """There is no such page, or no such job."""

    title = _("There is nothing here")
    words = _("The address is wrong, or the job was removed: finished jobs are kept for "
              "some time only.")
    status = 404


class NotAllowed(Trouble):
    """The user must log in, or may not see this."""

    title = _("This is not for everybody")
    words = _("Log in as somebody who may see it.")
    status = 403

    def __call__(self):
        self.request.response.setStatus(self.status)
        login = queryUtility(IAuthentication)
        if login is not None:
            login.unauthorized(self.request.principal.id, self.request)
        self.status = self.request.response.getStatus()
        return super().__call__()


class Refused(Trouble):
    """A request that was refused: see guard."""

    @property
    def title(self):
        return self.context.title

    @property
    def words(self):
        return str(self.context)

    def __call__(self):
        self.status = self.context.status
        answer = super().__call__()
        for name, value in self.context.headers.items():
            self.request.response.setHeader(name, value)
        return answer
