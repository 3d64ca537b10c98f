"""The socket beside a FileStorage, through which its process takes commands.

    Data.fs            the database, open in one process
    Data.fs.run/       0700
        socket         0600

Requests and replies are lines of JSON; a connection takes one request at a time:

    > {"verb": "cancel", "service": "@tasks", "arguments": {"ids": [7]}}
    < {"progress": [500, 12000]}                       any number of these, then
    < {"answer": ...}  or  {"error": {"kind": "UnknownJob", "text": "..."}}

Who may open the socket may do everything: that is whoever owns the directory.
"""
import errno
import json
import logging
import os
import select
import socket
import stat
import struct
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from lovely.remotetask.cli.problems import BadRequest, Gone, NoDatabase, Refused, kind_of
from lovely.remotetask.cli.verbs import perform, silent
from lovely.remotetask.errors import RemoteTaskError
from lovely.remotetask.failure import clean, in_log, marked, traceback_of

log = logging.getLogger(__name__)

LINE_LIMIT = 16 * 2**20    # bytes of one request or one answer
CLIENTS = 16               # served at once; others wait in line
IDLE_SECONDS = 30.0        # a client that says nothing for so long is let go
STOP_SECONDS = 2.0         # for requests in hand when the server stops
ADDRESS_LIMIT = 100        # bytes of a socket's path that every system takes
THREAD = "remotetask-socket"


def path_for(database: Path) -> Path:
    """Where the socket of a FileStorage is."""
    return database.with_name(database.name + ".run") / "socket"


class Server:
    """Takes commands for an open database, in threads of its own."""

    def __init__(self, db, path) -> None:
        self.db, self.path = db, Path(path)
        self.listener: socket.socket | None = None
        self.room = threading.Semaphore(CLIENTS)
        self.clients: set[socket.socket] = set()
        self.threads: set[threading.Thread] = set()
        self.stopping = threading.Event()

    def start(self):
        """Begin to listen.  Raises NoDatabase when there is no place for a socket."""
        try:
            _make_directory(self.path.parent)
            self.listener = _listen(self.path)
        except OSError as error:
            raise NoDatabase(f"{self.path} cannot be made: "
                             f"{error.strerror or error}") from error
        self.bell, self.rope = os.pipe()
        self.thread = threading.Thread(target=self._accept, name=THREAD, daemon=True)
        self.thread.start()
        return self

    def stop(self) -> None:
        """Take no more; let what is in hand end for a moment; remove the socket."""
        if self.listener is None:
            return
        self.stopping.set()
        os.write(self.rope, b"!")
        self.thread.join(STOP_SECONDS)
        with suppress(OSError):
            self.path.unlink()
        self.listener.close()
        self.listener = None
        for client in list(self.clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RD)  # no other request; answers still go
        for thread in list(self.threads):
            thread.join(STOP_SECONDS)
        os.close(self.bell)
        os.close(self.rope)

    def _accept(self):
        while not self.stopping.is_set():
            ready, _, _ = select.select([self.listener, self.bell], [], [])
            if self.bell in ready:
                return
            self.room.acquire()
            try:
                client, _ = self.listener.accept()
            except OSError as error:
                self.room.release()
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self.stopping.wait(0.5)
                continue
            thread = threading.Thread(
                target=self._serve, args=(client,), name=THREAD, daemon=True)
            self.clients.add(client)
            self.threads.add(thread)
            thread.start()

    def _serve(self, client):
        try:
            client.settimeout(IDLE_SECONDS)
            if _is_friend(client):
                with client.makefile("rb") as lines:
                    while self._answer(client, lines):
                        pass
        except OSError:
            pass  # it has gone, or was silent for too long
        except Exception as error:
            log.error("a client of %s was let go:\n%s", self.path,
                      marked(traceback_of(error)))
        finally:
            self.clients.discard(client)
            client.close()
            self.threads.discard(threading.current_thread())
            self.room.release()

    def _answer(self, client, lines) -> bool:
        """Answer one request; whether another may follow."""
        line = lines.readline(LINE_LIMIT + 1)
        if not line or self.stopping.is_set():
            return False
        whole = line.endswith(b"\n")
        _send(client, self._reply(line, client) if whole else _error(BadRequest(
            f"a request takes one line of up to {LINE_LIMIT:,} bytes")))
        return whole

    def _reply(self, line, client) -> dict:
        def tell(done, total):
            _send(client, {"progress": [done, total]})
        try:
            request = _request(line)
            log.debug("%s for service %s", in_log(request["name"]),
                      in_log(request["service"]))
            return {"answer": perform(self.db, **request, tell=tell)}
        except RemoteTaskError as error:
            return _error(error)
        except OSError:
            raise
        except Exception as error:
            log.error("a command has failed:\n%s", marked(traceback_of(error)))
            return {"error": {"kind": "Internal", "text": clean(
                f"{type(error).__name__}: {error}; the log of the process has more")}}


def _request(line: bytes) -> dict:
    """verb, service and arguments of a request.  Raises BadRequest."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"a request is one line of JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRequest("a request is a JSON object")
    name, service = found.pop("verb", None), found.pop("service", None)
    arguments = found.pop("arguments", {})
    if found or not isinstance(name, str) or not isinstance(service, str | None) \
            or not isinstance(arguments, dict):
        raise BadRequest("a request has a verb, a service and arguments, no more")
    return dict(name=name, service=service, arguments=arguments)


def _error(error: Exception) -> dict:
    return {"error": {"kind": kind_of(error), "text": str(error)}}


def _send(client, message: dict) -> None:
    try:
        line = json.dumps(message).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        line = b""
        log.error("an answer cannot be said in JSON: %s", in_log(error))
    if not 0 < len(line) <= LINE_LIMIT:
        line = json.dumps(_error(BadRequest(
            f"the answer takes more than {LINE_LIMIT:,} bytes"))).encode() + b"\n"
    client.sendall(line)


# -- the client


class Client:
    """A connection to the process that has the database."""

    def __init__(self, connection, path):
        self.connection, self.path = connection, path
        self.lines = connection.makefile("rb")

    def ask(self, verb: str, service=None, arguments=None, tell=silent):
        """The answer.  Raises Refused, Gone."""
        request = dict(verb=verb, service=service, arguments=arguments or {})
        line = json.dumps(request).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            raise BadRequest(f"this takes {len(line):,} bytes, more than the "
                             f"{LINE_LIMIT:,} that can be sent")
        try:
            self.connection.sendall(line)
            return self._wait(verb, tell)
        except OSError as error:
            raise self._gone(verb) from error

    def _wait(self, verb, tell):
        while True:
            line = self.lines.readline(LINE_LIMIT + 1)
            if not line.endswith(b"\n"):
                raise self._gone(verb)
            reply = json.loads(line)
            if "answer" in reply:
                return reply["answer"]
            if "error" in reply:
                raise Refused(reply["error"]["kind"], reply["error"]["text"])
            tell(*reply["progress"])

    def _gone(self, verb):
        return Gone(f"the process behind {self.path} went away before it answered: look "
                    f"whether `{verb}` was done, then ask again")

    def close(self):
        self.lines.close()
        self.connection.close()


def connect(path: Path) -> Client | None:
    """A connection to the process behind a socket; None when there is none.

    Raises NoDatabase when there is one that this user may not use.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            connection.connect(address)
    except PermissionError as error:
        connection.close()
        raise NoDatabase(f"a process takes commands at {path}, but not from you: only "
                         "its own user may send them") from error
    except OSError:  # no such file, or nobody behind it
        connection.close()
        return None
    return Client(connection, path)


# -- the place of the socket


def _make_directory(path: Path) -> None:
    """A directory for its owner only."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.stat(path, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "there is something of another user's")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def _listen(path: Path) -> socket.socket:
    """A listening socket; one that a dead process has left is replaced."""
    try:
        return _bound(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _remove_stale(path)
    return _bound(path)


def _bound(path: Path) -> socket.socket:
    """A listening socket at that path.  Raises OSError when there is one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(path) as address:
            # The directory keeps others out until the mode is right.
            listener.bind(address)
            os.chmod(path, 0o600)
        listener.listen(CLIENTS)
        return listener
    except OSError:
        listener.close()
        raise


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise OSError(errno.EEXIST, "there is a file of that name")
    alive = connect(path)
    if alive is not None:
        alive.close()
        raise OSError(errno.EADDRINUSE, "a process takes commands there already")
    log.info("the socket %s was left by a process that is gone", path)
    path.unlink()


@contextmanager
def _address(path: Path):
    """A path that fits into a socket's address, which is short, on every system."""
    if len(os.fsencode(path)) <= ADDRESS_LIMIT or not os.path.isdir("/proc/self/fd"):
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _is_friend(client) -> bool:
    """Whether it is this user, or root, as far as the system can tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", found)
    return uid in (0, os.geteuid())
