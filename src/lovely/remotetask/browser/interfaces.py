"""What others may plug into the pages."""
from zope.interface import Attribute, Interface
from zope.publisher.interfaces.browser import IDefaultBrowserLayer


class IRemoteTaskSkin(IDefaultBrowserLayer):
    """The skin in which the pages of task services stand alone."""


class IDetail(Interface):
    """What a view `detail` or `<task>_detail` of a job tells the list of jobs."""

    isHTML = Attribute(
        "True: what the view returns is HTML that escapes its values itself; "
        "without it, it is text and is escaped.")
