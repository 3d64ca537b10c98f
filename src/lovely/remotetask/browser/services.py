"""The start page: all services that the user may see."""
from zope.browserpage import ViewPageTemplateFile
from zope.security import checkPermission
from zope.security.proxy import removeSecurityProxy
from zope.traversing.browser.absoluteurl import absoluteURL

from lovely.remotetask import lifecycle, startup
from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import VIEW, Page

SHOWN = 200   # services


class Services(Page):
    """The services of a site and of the sites in it."""

    title = _("Task services")
    template = ViewPageTemplateFile("services.pt")
    service = None

    def update(self):
        self.rows = []
        for site, name, service in startup.services(removeSecurityProxy(self.context)):
            if checkPermission(VIEW, service) and len(self.rows) < SHOWN:
                self.rows.append(self._row(site, name, service))

    def _row(self, site, name, service):
        counts = service.counts()
        return dict(
            name=name, site="" if site == startup.ROOT_SITE else site,
            url=absoluteURL(service, self.request), active=service.isProcessing(),
            oldest=service.oldestWaiting(),
            counts=[dict(status=status, number=counts[status])
                    for status in lifecycle.STATUSES if counts[status]])
