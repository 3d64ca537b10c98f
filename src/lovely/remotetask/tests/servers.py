"""Private servers for tests, chaos runs, benchmarks and examples.

    with ZeoServer(directory) as server:        start ... stop
        server.uri                              zeo://127.0.0.1:PORT
        server.kill(); server.start()           again, on the same port
    with storages(directory)["postgresql"] as server: ...

Each is a process of its own on a free loopback port, is waited for until it
answers, and is ended by its own number.  Its output goes to a file in its
directory.  Where what it needs is not installed, SkipTest is raised and says so;
where the environment variable REMOTETASK_REQUIRE names it (or says `all`), that is
an AssertionError instead: continuous integration must not skip what it installs.
"""
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import closing
from glob import glob
from importlib.util import find_spec
from pathlib import Path

BOUND = 60.0     # seconds a server may take to start or to stop
GLANCE = 0.02    # seconds between two looks whether it answers
REQUIRE = "REMOTETASK_REQUIRE"
HOST = "127.0.0.1"
NAMES = ("file", "zeo", "postgresql", "sqlite")


class NotRunning(AssertionError):
    """A server did not start, or did not stop; the text has its last words."""


def missing(server: str, what: str) -> Exception:
    """To be raised where a test cannot have a server: *what* it lacks."""
    if required(server):
        return AssertionError(f"{server} is required here: {what}")
    return unittest.SkipTest(f"no {server}: {what}")


def required(server: str) -> bool:
    """Whether a test that cannot have it is to fail."""
    names = os.environ.get(REQUIRE, "").replace(",", " ").split()
    return server in names or "all" in names


def require(server: str, *modules: str) -> None:
    """Raise SkipTest where a module that *server* needs is not installed."""
    for name in modules:
        if find_spec(name) is None:
            raise missing(server, f"the package {name} is not installed")


def binary(server: str, name: str, *folders: str) -> str:
    """The path of a program; *folders*, also patterns, are looked in besides PATH."""
    found = shutil.which(name)
    for pattern in folders:
        for folder in sorted(glob(pattern), reverse=True):
            found = found or shutil.which(name, path=folder)
    if found is None:
        raise missing(server, f"there is no program {name}")
    return found


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def wait_until(look, what: str, seconds: float = BOUND):
    """Look again and again until *look* says yes; what it said."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise NotRunning(f"waited {seconds} s in vain for {what}")
        time.sleep(GLANCE)
    return found


def accepts(port: int) -> bool:
    """Whether something listens on a port of this host."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


class Server:
    """A process that is started, asked until it answers, and ended.

    start, stop, kill and restart may follow each other in any order; the port
    stays the same.
    """

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, directory, port: int | None = None):
        self.directory = Path(directory).absolute()
        self.port = port
        self.process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self.process is not None, "it is not running"
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    def start(self):
        """Start it and wait until it answers; the server."""
        if self.running():
            return self
        self.prepare()
        chosen = self.port is not None
        for _ in range(1 if chosen else 3):  # who else asks may get the same port
            self.port = self.port if chosen else free_port()
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, **self.surroundings())
            try:
                wait_until(lambda: not self.running() or self.answers(), self.name)
            except BaseException:
                self.kill()
                raise
            if self.running():
                return self
        self.process = None
        raise NotRunning(f"{self.name} does not start: {self.last_words()}")

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, number=None) -> None:
        """Ask it to end by a signal, its own by default, and wait for the end."""
        if not self.running():
            self.process = None
            return
        self.process.send_signal(number or self.stop_signal)
        try:
            self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NotRunning(f"{self.name} does not stop: {self.last_words()}") from None
        self.process = None

    def kill(self) -> None:
        """kill -9."""
        if self.running():
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()

    def last_words(self, most: int = 2000) -> str:
        try:
            return self.log.read_text(errors="replace")[-most:].strip()
        except OSError:
            return "nothing was said"

    # -- for those who know what it is

    def prepare(self) -> None:
        """Make what it needs before its first start."""
        self.directory.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def surroundings(self) -> dict:
        """Arguments of Popen."""
        return {}

    def answers(self) -> bool:
        return accepts(self.port)


class ZeoServer(Server):
    """A ZEO server, started as docs/cluster.txt tells.

    options: further words of its command line, such as ``-t 5``.
    """

    name = "zeo"
    module = "lovely.remotetask.zeoserver"

    def __init__(self, directory, port=None, options=()):
        super().__init__(directory, port)
        self.options = [str(each) for each in options]

    def prepare(self):
        require("zeo", "ZEO")
        super().prepare()

    @property
    def data(self) -> Path:
        return self.directory / "Data.fs"

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def uri(self):
        return f"zeo://{HOST}:{self.port}"

    def command(self):
        return [sys.executable, "-m", self.module, "-a", f"{HOST}:{self.port}",
                "-f", str(self.data), *self.options]

    def surroundings(self):
        return {"env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}}


class PostgresServer(Server):
    """A PostgreSQL whose commits are durable, with one user who has a password.

    It does not work for root: then it is run as the user ``postgres`` or
    ``nobody``, who must be able to reach the directory.
    """

    name = "postgresql"
    user, database = "remotetask", "remotetask"
    stop_signal = signal.SIGINT  # "fast": sessions are ended, transactions undone

    #: What is not the default, or must not depend on it.
    settings = {
        "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
        "max_connections": "100", "shared_buffers": "64MB",
        "unix_socket_directories": "", "listen_addresses": HOST,
    }

    def __init__(self, directory, port=None):
        super().__init__(directory, port)
        self.data = self.directory / "data"

    @property
    def log(self):
        return self.directory / "postgresql.log"

    @property
    def password(self) -> str:
        return (self.directory / "password").read_text()

    @property
    def uri(self):
        return self.uri_of(self.database)

    def uri_of(self, database: str) -> str:
        return f"postgresql://{self.user}:{self.password}@{HOST}:{self.port}/{database}"

    def dsn(self, database: str | None = None) -> str:
        """What psycopg2.connect is told."""
        return (f"host={HOST} port={self.port} user={self.user} "
                f"password={self.password} dbname={database or self.database}")

    def program(self, name: str) -> str:
        return binary(self.name, name, "/usr/lib/postgresql/*/bin",
                      "/usr/local/pgsql/bin", "/opt/*/postgresql*/bin")

    def prepare(self):
        require(self.name, "psycopg2", "relstorage")
        self.program("postgres")
        super().prepare()
        if (self.data / "PG_VERSION").exists():
            return
        password = self.directory / "password"
        password.write_text(secrets.token_hex(16))
        password.chmod(0o600)
        self.data.mkdir(exist_ok=True)
        self._open_to(self.data, password)
        try:
            subprocess.run(
                [self.program("initdb"), "-D", str(self.data), "-U", self.user,
                 "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8",
                 "--no-locale", "--no-sync"],
                check=True, capture_output=True, text=True, **self.surroundings())
        except subprocess.CalledProcessError as error:
            shutil.rmtree(self.data)
            raise NotRunning(f"initdb fails: {error.stdout}{error.stderr}") from error

    def command(self):
        words = [self.program("postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in self.settings.items():
            words += ["-c", f"{name}={value}"]
        return words

    def surroundings(self):
        """As whom it runs."""
        found = {"cwd": str(self.directory)}
        if os.getuid() == 0:
            user = self._somebody()
            found.update(user=user.pw_uid, group=user.pw_gid, extra_groups=[])
        return found

    def answers(self):
        import psycopg2
        try:
            psycopg2.connect(self.dsn("postgres"), connect_timeout=5).close()
        except psycopg2.OperationalError:
            return False
        self.make_database(self.database)
        return True

    def make_database(self, name: str) -> str:
        """Make an empty database unless it is there; its URI."""
        import psycopg2
        with closing(psycopg2.connect(self.dsn("postgres"))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{name}"')
        return self.uri_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever has it open."""
        import psycopg2
        with closing(psycopg2.connect(self.dsn("postgres"))) as connection:
            connection.autocommit = True
            connection.cursor().execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def crash(self) -> None:
        """``pg_ctl stop -m immediate``: no transaction ends, nothing is written."""
        self.stop(signal.SIGQUIT)

    def start(self):
        # After kill -9 the other processes end once they see it; until then they hold
        # its memory, and it refuses to start.
        end = time.monotonic() + BOUND
        while True:
            try:
                return super().start()
            except NotRunning:
                if "shared memory block" not in self.last_words(500) \
                        or time.monotonic() > end:
                    raise
                time.sleep(GLANCE)

    def _somebody(self):
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise missing(self.name, "root must not run it, and there is no other user")

    def _open_to(self, *paths: Path) -> None:
        """Give *paths* to the user it runs as, and let them be reached."""
        if os.getuid() != 0:
            return
        user = self._somebody()
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)
        shared = Path(tempfile.gettempdir()).resolve()
        for folder in [self.directory, *self.directory.resolve().parents]:
            if folder.stat().st_mode & stat.S_IXOTH:
                continue
            if folder != self.directory and shared not in folder.parents:
                raise missing(self.name, f"the user {user.pw_name}, as whom root runs "
                                         f"it, may not enter {folder}")
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)


class Nothing(Server):
    """A storage that needs no server: starting makes a directory."""

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def running(self):
        return True

    def stop(self, number=None):
        pass

    kill = crash = stop


class FileStore(Nothing):
    """A Data.fs, which one process opens at a time."""

    name = "file"

    @property
    def uri(self):
        return f"file://{self.directory / 'Data.fs'}"


class SqliteStore(Nothing):
    """A directory in which RelStorage keeps its SQLite files."""

    name = "sqlite"

    def start(self):
        require(self.name, "relstorage")
        return super().start()

    @property
    def uri(self):
        return f"sqlite://{self.directory}"


KINDS: dict[str, type[Server]] = {
    kind.name: kind for kind in (FileStore, ZeoServer, PostgresServer, SqliteStore)}


def storages(directory) -> dict[str, Server]:
    """{name: server} of the four kinds of storage, none of them started.

    Each has its own directory below *directory*.
    """
    return {name: KINDS[name](Path(directory) / name) for name in NAMES}


class Shared:
    """Servers that stay up while tests of several modules run, made at first use.

    A test asks in its `setUp`, so that it is the test which is skipped.  The layer
    ends them.
    """

    __name__, __bases__, __module__ = "Servers", (), __name__

    def __init__(self):
        self._servers: dict[str, Server] = {}
        self._directory: str | None = None
        self._number = 0

    def setUp(self):
        """Nothing is started yet."""

    def tearDown(self):
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def postgresql(self) -> PostgresServer:
        if "postgresql" not in self._servers:
            if self._directory is None:
                self._directory = tempfile.mkdtemp(prefix="remotetask-servers-")
            server = PostgresServer(Path(self._directory) / "postgresql")
            self._servers["postgresql"] = server.start()
        return self._servers["postgresql"]

    def postgresql_uri(self, test: unittest.TestCase) -> str:
        """An empty database for one test, gone when it ends."""
        server = self.postgresql()
        self._number += 1
        name = f"test_{self._number}"
        test.addCleanup(server.drop_database, name)
        return server.make_database(name)

    def uri(self, test: unittest.TestCase, name: str) -> str:
        """An empty database of one of the four kinds, gone when the test ends."""
        if name == "postgresql":
            return self.postgresql_uri(test)
        folder = tempfile.mkdtemp(prefix=f"remotetask-{name}-")
        test.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        server = KINDS[name](folder).start()
        test.addCleanup(server.stop)
        return server.uri


#: The layer: ``layer = servers.SHARED`` on a test class.
SHARED = Shared()
