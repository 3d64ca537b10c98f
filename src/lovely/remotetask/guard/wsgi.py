"""Around a whole application: what the publisher is not asked about.

    waitress ──> Door ──> the publisher ──> pages of ours and of others

Every page behind it, the ZMI's own too, changes nothing for another site; see also
`nothing_by_get`, which an application subscribes.
"""
import base64
import logging

import transaction

from lovely.remotetask.failure import in_log, marked, traceback_of
from lovely.remotetask.guard.origin import require_own_site
from lovely.remotetask.guard.refusals import Refusal

log = logging.getLogger(__name__)

#: For answers that do not bring such headers themselves.  No CSP: it is for pages
#: that are made for it, and those of the ZMI have inline scripts.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
}
READING = ("GET", "HEAD", "OPTIONS")


class Door:
    """A WSGI application before another one."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        if not _names_somebody(environ.get("HTTP_AUTHORIZATION", "")):
            del environ["HTTP_AUTHORIZATION"]  # the publisher would answer 500
        try:
            if environ["REQUEST_METHOD"].upper() not in READING:
                require_own_site(_Headers(environ))
            return self.application(environ, _with_headers(start_response))
        except Refusal as refusal:
            return _plain(start_response, refusal.status, f"{refusal.title}: {refusal}",
                          refusal.title)
        except Exception as error:
            log.error("a request of %s has failed outside of the publisher:\n%s",
                      in_log(environ.get("PATH_INFO", "")), marked(traceback_of(error)))
            return _plain(start_response, 500, "The log of the server says more.",
                          "Internal Server Error")


def _names_somebody(header):
    """Whether a header of basic authentication can be read; of other kinds, true."""
    kind, _space, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return True
    try:
        return ":" in base64.b64decode(encoded.strip()).decode()
    except ValueError:
        return False


class _Headers:
    """As much of a request as `require_own_site` looks at."""

    def __init__(self, environ):
        self.environ, self.method = environ, environ["REQUEST_METHOD"]

    def getHeader(self, name, default=None, literal=False):
        name = name.upper().replace("-", "_")
        return self.environ.get(name if name == "CONTENT_TYPE" else f"HTTP_{name}", default)


def _with_headers(start_response):
    def start(status, headers, exc_info=None):
        given = {name.lower() for name, _ in headers}
        headers = headers + [(name, value) for name, value in HEADERS.items()
                             if name.lower() not in given]
        return start_response(status, headers, exc_info)
    return start


def _plain(start_response, status, text, reason):
    body = (text + "\n").encode()
    start_response(f"{status} {reason}", [
        ("Content-Type", "text/plain;charset=utf-8"),
        ("Content-Length", str(len(body))), *HEADERS.items()])
    return [body]


def nothing_by_get(root, event) -> None:
    """Subscribed to the traversal of the root: what a GET writes is not kept.

    Links, pictures and forms of other sites can make a browser send one; the pages of
    others that one has installed beside ours may not all know that.
    """
    if event.request.method.upper() in READING:
        transaction.doom()
