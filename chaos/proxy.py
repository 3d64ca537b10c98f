"""A proxy between the workers and their server, which can lose what it carries.

    worker ── request to commit ──> proxy ──> server     applied
    worker   <── connection cut ──  proxy <── reply      swallowed
"""
import socket
import threading
import time
from contextlib import suppress

#: What a commit looks like on the wire; the server applies it and then replies.
COMMITS = {"zeo": b"tpc_finish", "postgresql": b"lock_and_choose_tid_and_move("}
REPLY_SECONDS = 0.5    # a server that has not replied by then may not have applied it
CHUNK = 65_536


class Proxy:
    """Forwards a port of this host, and loses replies and requests of commits.

    lose(chance): from now on the reply to a commit is lost with that probability,
    and the request itself with a fifth of it.
    """

    def __init__(self, port, commit, chance):
        self.port_behind, self.commit, self.chance = port, commit, chance
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.share = 0.0
        self.replies = self.requests = self.commits = 0   # lost, lost, seen
        self.pairs: set = set()
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, share):
        self.share = share

    def close(self):
        self.listener.close()
        for pair in list(self.pairs):
            pair.cut()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.port_behind))
            except OSError:
                near.close()
                continue
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(self, near, far)
            self.pairs.add(pair)
            for pump in (pair.requests, pair.replies):
                threading.Thread(target=pump, daemon=True).start()

    def fate(self):
        """What becomes of this commit: '', 'reply' or 'request' is lost."""
        with self.lock:
            self.commits += 1
            drawn = self.chance.random()
            if drawn < self.share:
                self.replies += 1
                return "reply"
            if drawn < 1.2 * self.share:
                self.requests += 1
                return "request"
        return ""


class Pair:
    """A connection of a client, and the one to the server that belongs to it."""

    def __init__(self, proxy, near, far):
        self.proxy, self.near, self.far = proxy, near, far
        self.losing = False
        self.replied = threading.Event()

    def requests(self):
        with suppress(OSError):
            while data := self.near.recv(CHUNK):
                fate = self.proxy.fate() if self.proxy.commit in data else ""
                if fate == "request":
                    break
                self.losing = fate == "reply"
                self.far.sendall(data)
                if self.losing:
                    self.replied.wait(REPLY_SECONDS)
                    time.sleep(0.001)  # the rest of it
                    break
        self.cut()

    def replies(self):
        with suppress(OSError):
            while data := self.far.recv(CHUNK):
                if self.losing:
                    self.replied.set()
                else:
                    self.near.sendall(data)
        if not self.losing:
            self.cut()

    def cut(self):
        """Close both ends."""
        self.proxy.pairs.discard(self)
        for each in (self.near, self.far):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
