"""The web server: waitress in threads of its own.

An answer whose body has a method `feed` goes on after its request: the body is given
a Line, and the thread is free for the next request.  So a thousand clients can wait
for something, and none of the threads does.
"""
import ipaddress
import logging
import socket
import threading

from waitress import create_server, wasyncore
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.task import WSGITask
from zope.app.publication.httpfactory import HTTPPublicationRequestFactory
from zope.app.wsgi import WSGIPublisherApplication
from zope.app.wsgi.interfaces import WSGIPublisherApplicationCreated
from zope.event import notify
from zope.publisher.interfaces import INotFound
from zope.publisher.interfaces.http import IMethodNotAllowed
from zope.security.interfaces import IUnauthorized

from lovely.remotetask.app.problems import CannotStart
from lovely.remotetask.failure import in_log
from lovely.remotetask.guard.refusals import IRefusal
from lovely.remotetask.guard.requests import UPLOAD_LIMIT
from lovely.remotetask.guard.wsgi import Door

FEED = "lovely.remotetask.feed"
CLOGGED = 262_144       # bytes that a client may lag behind on a line
HEADER_LIMIT = 65_536   # bytes of the first line and the headers of a request
PATIENCE_SECONDS = 1.0  # for requests in hand when the server is stopped

#: Where zope.error puts what has gone wrong in a request.
errors = logging.getLogger("SiteError")


def calm(record) -> bool:
    """What a request does wrong is news of one line, and nothing to look into."""
    error = record.exc_info[1] if record.exc_info else None
    for kind, word in ((INotFound, "not found"), (IRefusal, "refused"),
                       (IMethodNotAllowed, "not allowed"),
                       (IUnauthorized, "not allowed")):
        if kind.providedBy(error):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "%s: %s (%s)", (
                word, in_log(record.getMessage()), in_log(error))
            record.exc_info = None
            break
    return True


class Line:
    """A connection whose answer goes on: see ILine of the room `http`."""

    def __init__(self, task):
        self.task, self.channel = task, task.channel
        self.ended = False
        self._lock = threading.Lock()
        self._early = []     # written before the head of the answer was
        self._begun = False

    @property
    def open(self):
        return not self.ended and self.channel.connected

    def write(self, data):
        """Send bytes.  False when the client has gone, or does not keep up."""
        with self._lock:
            if not self.open:
                return False
            if not self._begun:
                self._early.append(data)
                return True
            return self._write(data)

    def _write(self, data):
        if self.channel.total_outbufs_len > CLOGGED:
            return False  # waitress would have us wait for the client
        try:
            self.task.write(data)
        except (ClientDisconnected, OSError):
            return False
        return True

    def begin(self):
        """The head of the answer is sent; from here on it is ours."""
        with self._lock:
            self._begun = True
            sent = all(map(self._write, self._early))
            self._early.clear()
            if self.ended or not sent:
                self.ended = True
                self._end()

    def close(self):
        with self._lock:
            if not self.ended:
                self.ended = True
                if self._begun:
                    self._end()

    def _end(self):
        """The last chunk; the connection is closed once all is sent."""
        if self.channel.connected:
            try:
                if self.task.chunked_response:
                    self.channel.write_soon(b"0\r\n\r\n")
            except (ClientDisconnected, OSError):
                pass
            self.channel.close_when_flushed = True
            self.channel.server.pull_trigger()


class Task(WSGITask):
    """A request.  Its answer may go on when the thread is through with it."""

    line = None

    def get_environment(self):
        environ = super().get_environment()
        environ[FEED] = self.feed
        return environ

    def feed(self, body):
        self.line = Line(self)
        body.feed(self.line)

    def finish(self):
        if self.line is None:
            super().finish()
            return
        self.write(b"")                # the head
        self.close_on_finish = False   # whatever it says: the line closes
        with self.channel.requests_lock:
            del self.channel.requests[1:]  # what came behind is not answered any more
        self.channel.line = self.line
        self.line.begin()


class Channel(HTTPChannel):
    """A connection.  While a line has it, only its end is listened for."""

    task_class = Task
    line = None

    def received(self, data):
        return True if self.line is not None else super().received(data)

    def _flush_some(self, do_close=True):
        # waitress takes no lock where no request is in hand; lines are written to then.
        with self.outbuf_lock:
            return super()._flush_some(do_close)

    def readable(self):
        return super().readable() if self.line is None else not (
            self.will_close or self.close_when_flushed)


class Feeding:
    """A WSGI application that hands bodies with `feed` over to their lines."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        body = self.application(environ, start_response)
        if not hasattr(body, "feed"):
            return body
        environ[FEED](body)
        return ()


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
            Feeding(application), sockets=[self.socket], threads=self.threads,
            clear_untrusted_proxy_headers=True, ident="lovely.remotetask",
            asyncore_use_poll=True, max_request_header_size=HEADER_LIMIT,
            max_request_body_size=UPLOAD_LIMIT)
        self.server.channel_class = Channel
        self.thread = threading.Thread(
            target=self.server.run, name="remotetask-web", daemon=True)
        self.thread.start()

    def stop(self):
        """Accept nothing more, let requests in hand end, and close."""
        if self.server is None:
            self.socket.close()
            return
        for channel in list(self.server.active_channels.values()):
            if getattr(channel, "line", None) is not None:
                channel.line.close()
        # Only waitress's own thread may touch its sockets: tell it by its bell.
        self.server.trigger.pull_trigger(
            lambda: wasyncore.dispatcher.close(self.server))
        self.server.task_dispatcher.shutdown(timeout=PATIENCE_SECONDS)
        self.server.trigger.pull_trigger(self._close_all)
        self.thread.join(PATIENCE_SECONDS)
        self.server.trigger.close()
        errors.removeFilter(calm)

    def _close_all(self):
        """In waitress's thread: close the connections, which ends its loop.

        The bell stays: whoever has just asked for this is about to write to it.
        """
        channels = self.server._map
        channels.pop(self.server.trigger._fileno, None)
        wasyncore.close_all(channels, ignore_all=True)


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
