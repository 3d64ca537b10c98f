"""The start page: all services that the user may see."""
from zope.authentication.interfaces import IUnauthenticatedPrincipal
from zope.browserpage import ViewPageTemplateFile
from zope.security.interfaces import Unauthorized
from zope.security.proxy import removeSecurityProxy
from zope.traversing.browser.absoluteurl import absoluteURL

from lovely.remotetask import lifecycle, startup
from lovely.remotetask.access import VIEW, may
from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import Page

SHOWN = 200   # services


class Services(Page):
    """The services of a site and of the sites in it."""

    title = _("Task services")
    template = ViewPageTemplateFile("services.pt")
    service = None

    def update(self):
        """Whoever has not logged in is asked to, and sees nothing."""
        if IUnauthenticatedPrincipal.providedBy(self.request.principal):
            raise Unauthorized(self.context, self.__name__)
        self.rows = []
        for site, name, service in startup.services(removeSecurityProxy(self.context)):
            if may(VIEW, service) and len(self.rows) < SHOWN:
                self.rows.append(self._row(site, name, service))

    def _row(self, site, name, service):
        counts = service.counts()
        return dict(
            name=name, site="" if site == startup.ROOT_SITE else site,
            url=absoluteURL(service, self.request), active=service.isProcessing(),
            paused=service.isPaused(), oldest=service.oldestWaiting(),
            counts=[dict(status=status, number=counts[status])
                    for status in lifecycle.STATUSES if counts[status]])
