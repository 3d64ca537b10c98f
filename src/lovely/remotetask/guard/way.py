"""The way to a service that stands in a site manager.

Who manages no site may not walk through site managers; and services stand there, as
utilities do.  Here whoever may see the service is let through to it, and to nothing
else on the way.
"""
from zope.container.traversal import ContainerTraverser
from zope.interface import implementer
from zope.publisher.interfaces import IPublishTraverse
from zope.security.proxy import removeSecurityProxy
from zope.site.interfaces import ISiteManagementFolder

from lovely.remotetask.access import VIEW, may
from lovely.remotetask.interfaces import ITaskService


@implementer(IPublishTraverse)
class Way(ContainerTraverser):
    """Through a site manager, or a folder in one."""

    def publishTraverse(self, request, name):
        """See IPublishTraverse"""
        place = removeSecurityProxy(self.context)
        found = place.get(name) if hasattr(place, "get") else None
        if ITaskService.providedBy(found) and may(VIEW, found) \
                or ISiteManagementFolder.providedBy(found) and _leads_to_one(found):
            return found  # the publication puts the proxy around it
        return super().publishTraverse(request, name)


def _leads_to_one(folder) -> bool:
    return any(ITaskService.providedBy(each) and may(VIEW, each)
               for each in folder.values())
