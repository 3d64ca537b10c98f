"""The web server: waitress in threads of its own."""
import ipaddress
import logging
import socket
import threading

from waitress import create_server, wasyncore
from zope.app.publication.httpfactory import HTTPPublicationRequestFactory
from zope.app.wsgi import WSGIPublisherApplication
from zope.app.wsgi.interfaces import WSGIPublisherApplicationCreated
from zope.event import notify
from zope.publisher.interfaces import INotFound

from lovely.remotetask.app.problems import CannotStart
from lovely.remotetask.failure import in_log
from lovely.remotetask.guard.refusals import IRefusal
from lovely.remotetask.guard.requests import UPLOAD_LIMIT
from lovely.remotetask.guard.wsgi import Door

HEADER_LIMIT = 65_536   # bytes of the first line and the headers of a request
PATIENCE_SECONDS = 1.0  # for requests in hand when the server is stopped

#: Where zope.error puts what has gone wrong in a request.
errors = logging.getLogger("SiteError")


def calm(record) -> bool:
    """What a request does wrong is news of one line, and nothing to look into."""
    error = record.exc_info[1] if record.exc_info else None
    for kind, word in (INotFound, "not found"), (IRefusal, "refused"):
        if kind.providedBy(error):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "%s: %s (%s)", (
                word, in_log(record.getMessage()), in_log(error))
            record.exc_info = None
            break
    return True


class WebServer:
    """Has its port from the start, so a port in use is known before all else."""

    def __init__(self, host, port, threads=4):
        self.host, self.threads = host, threads
        self.socket = _listening_socket(host, port)
        self.port = self.socket.getsockname()[1]
        self.server = self.thread = None

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def is_local(self):
        return ipaddress.ip_address(self.socket.getsockname()[0]).is_loopback

    def start(self, db):
        application = WSGIPublisherApplication(db, HTTPPublicationRequestFactory)
        notify(WSGIPublisherApplicationCreated(application))
        application = Door(application)
        errors.addFilter(calm)
        self.server = create_server(
            application, sockets=[self.socket], threads=self.threads,
            clear_untrusted_proxy_headers=True, ident="lovely.remotetask",
            asyncore_use_poll=True, max_request_header_size=HEADER_LIMIT,
            max_request_body_size=UPLOAD_LIMIT)
        self.thread = threading.Thread(
            target=self.server.run, name="remotetask-web", daemon=True)
        self.thread.start()

    def stop(self):
        """Accept nothing more, let requests in hand end, and close."""
        if self.server is None:
            self.socket.close()
            return
        # Only waitress's own thread may touch its sockets: tell it by its bell.
        self.server.trigger.pull_trigger(
            lambda: wasyncore.dispatcher.close(self.server))
        self.server.task_dispatcher.shutdown(timeout=PATIENCE_SECONDS)
        self.server.trigger.pull_trigger(
            lambda: wasyncore.close_all(self.server._map, ignore_all=True))
        self.thread.join(PATIENCE_SECONDS)
        errors.removeFilter(calm)


def _listening_socket(host, port):
    if not 0 <= port <= 65_535:
        raise CannotStart(f"There is no port {port}: they go from 0 to 65535.", 2)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise CannotStart(f"There is no host {host!r}: {error}", 2) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"The web server cannot have {host}:{port}: {error.strerror}. Is this "
            "application at work already? Choose another port, or stop what holds "
            "this one.") from error
    return listener
