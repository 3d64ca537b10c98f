"""What the list says of one job: its detail view, else its input in short."""
import html
import logging

from zope.component import queryMultiAdapter
from zope.publisher.browser import BrowserView
from zope.security.interfaces import ForbiddenAttribute, Unauthorized
from zope.security.proxy import ProxyFactory

from lovely.remotetask import access, clerk
from lovely.remotetask.browser import _
from lovely.remotetask.browser.layout import Page
from lovely.remotetask.failure import in_log, marked, traceback_of

log = logging.getLogger(__name__)

LENGTH = 140   # characters of a preview
PARTS = 60     # values of one input that are written
NO_DETAIL = _("No input detail available")


class Detail(BrowserView):
    """The view `detail` of a job that has none for its task: its input in short."""

    def __call__(self):
        value = None
        if access.may(access.READ_INPUT, self.context):
            value = access.input_of(self.context)
        if value is None or value in ({}, (), []):
            return NO_DETAIL
        return short(value)


class CronDetail(BrowserView):
    """The view `detail` of a cron job: when it fires."""

    isHTML = True

    def __call__(self):
        moment, page = self.context.scheduledFor, Page(self.context, self.request)
        if moment is None:
            return html.escape(page.say(_("not yet scheduled")))
        said = html.escape(page.say(_("Scheduled for ${date}", mapping={"date": "\0"})))
        return said.replace("\0", page.when(moment))


def detail_of(job, request) -> tuple[str, bool]:
    """What the view `<task>_detail` of a job says, else its view `detail`: (text, HTML).

    A view sees of the job what the user may see.  One that fails spoils no page.
    """
    shown = job
    if not (access.may(access.READ_INPUT, job) and access.may(access.READ_RESULT, job)):
        shown = ProxyFactory(job)
    try:
        view = queryMultiAdapter((shown, request), name=f"{job.task}_detail")
        if view is None:
            view = queryMultiAdapter((shown, request), name="detail")
        if view is None:
            return "", False
        found = view()
        return found if isinstance(found, str) else str(found), \
            getattr(view, "isHTML", False) is True
    except (Unauthorized, ForbiddenAttribute):
        return "", False
    except Exception as error:
        if clerk.concerns_all(error):
            raise
        log.error("job %s (%s): its detail view has failed:\n%s", job.id,
                  in_log(job.task), marked(traceback_of(error)))
        return "", False


def short(value, length=LENGTH) -> str:
    """A value in one short line; of objects that are no plain values the class."""
    text = " ".join("".join(_pieces(value)).split())
    return text if len(text) <= length else text[:length - 1] + "…"


def _pieces(value):
    left = [PARTS]

    def write(value, depth=0):
        left[0] -= 1
        if left[0] < 0 or depth > 5:
            yield "…"
        elif isinstance(value, str):
            yield f'"{value[:LENGTH]}"' if depth else value[:LENGTH * 2]
        elif value is None or isinstance(value, (bool, int, float)):
            yield str(value)[:LENGTH]
        elif isinstance(value, dict):
            for number, (key, each) in enumerate(value.items()):
                if left[0] < 0:
                    yield ", …"
                    return
                yield ", " if number else ""
                yield f"{key if isinstance(key, str) else short(key, 40)}: "[:LENGTH]
                yield from write(each, depth + 1)
        elif isinstance(value, (list, tuple, set, frozenset)):
            for number, each in enumerate(value):
                if left[0] < 0:
                    yield ", …"
                    return
                yield ", " if number else ""
                yield from write(each, depth + 1)
        elif isinstance(value, bytes):
            yield f"{len(value)} bytes"
        else:
            yield f"<{type(value).__name__}>"
    return write(value)
