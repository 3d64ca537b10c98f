"""Who this process is, and how another one is known to be gone.

A worker is there as long as it holds the lock on its byte of its process's file.
The system lets go of the lock when the process ends, however it ends, and at once;
a process that is stopped or busy keeps it.  Where the file cannot be seen from (in
another container, by another user), the number of the process and its start prove
the same, as far as both see the same processes.  Where nothing can be proven, others
watch whether the worker goes on writing: that is up to `runtime.rescue`.

    REMOTETASK_HOST   a name for this machine.  Processes of different names take each
                      other for processes of different machines.
"""
import atexit
import errno
import os
import socket
import stat
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # no such locks here: numbers and starts of processes remain
    fcntl = None  # type: ignore[assignment]

HOST = "REMOTETASK_HOST"
DIRECTORY = "lovely.remotetask"
BEGIN = 64              # bytes of a file that name it; the locks come behind them
FORGOTTEN = 3_600.0     # seconds after which a file of the dead is tidied away


class Mark(NamedTuple):
    """Where a worker can be proven to be there: its byte in its process's file."""

    path: str
    key: str     # what the file says: another file of that name is not meant
    byte: int


class Process(NamedTuple):
    """A process, as others can ask for it."""

    host: str        # its machine's name
    machine: str     # what the machine calls itself, '' where it does not
    boot: str        # differs from boot to boot, '' where the system does not tell
    namespace: str   # which processes it sees, where that is limited
    pid: int
    started: str | None


def here() -> Process:
    """This process."""
    return Process(host(), machine_id(), boot_id(), namespace(), os.getpid(),
                   process_start(os.getpid()))


def proven(process: Process, mark: Mark | None) -> bool | None:
    """Whether a worker is there: True and False are certain, None is not known."""
    if not same_system(process):
        # The same machine, but started anew: nothing of then is left.
        rebooted = process.machine and process.machine == machine_id() \
            and process.host == host() and process.boot and boot_id() \
            and process.boot != boot_id()
        return False if rebooted else None
    locked = None if mark is None else _locked(mark)
    if locked is not None:
        return locked
    if process.namespace != namespace():
        return None
    return process_lives(process.pid, process.started)


def same_system(process: Process) -> bool:
    """Whether it is, or was, a process of the system that runs here now."""
    if process.boot or boot_id():
        return process.boot == boot_id()
    return process.host == host()


# -- the marks of this process


class _Marks:
    """The file of this process, opened once: closing any other handle of it would
    let go of all its locks."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.file: int | None = None
        self.path, self.key = "", ""
        self.next = BEGIN
        self.given: dict[str, Mark | None] = {}

    def give(self) -> Mark | None:
        if fcntl is None:
            return None
        try:
            if self.file is None:
                self._open()
            assert self.file is not None
            byte, self.next = self.next, self.next + 1
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return None  # no room, or no locks there: others watch instead
        return Mark(self.path, self.key, byte)

    def _open(self) -> None:
        key = uuid.uuid4().hex
        path = _directory() / f"{os.getpid()}-{key[:12]}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(file, key.encode().ljust(BEGIN))
        self.file, self.path, self.key = file, str(path), key
        atexit.register(self.end)

    def take(self, mark: Mark) -> None:
        if self.file is not None and mark.path == self.path:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, mark.byte)

    def end(self) -> None:
        """The process ends in good order; a forked one that does is another one."""
        if self.file is not None and self.pid == os.getpid():
            with suppress(OSError):
                os.unlink(self.path)


_marks = _Marks()
_lock = threading.RLock()

# Names of the workers of this process.
living: set[str] = set()


def enter(name: str) -> None:
    """A worker of this name begins in this process."""
    with _lock:
        living.add(name)


def mark_of(name: str) -> Mark | None:
    """Where that worker of this process can be proven to be there."""
    with _lock:
        if name not in living:
            return None
        if name not in _marks.given:
            _marks.given[name] = _marks.give()
        return _marks.given[name]


def leave(name: str) -> None:
    """That worker has come to its end, though its process goes on."""
    with _lock:
        living.discard(name)
        mark = _marks.given.pop(name, None)
        if mark is not None:
            _marks.take(mark)


def _begin_anew() -> None:
    """A forked process has none of its parent's locks and is none of its workers."""
    global _marks, _lock
    _marks, _lock = _Marks(), threading.RLock()
    living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


# -- the files


@cache
def _directory_for(uid: int, parent: str) -> Path:
    """A directory that nobody else may look into; another one where that of the
    usual name is somebody else's."""
    path = Path(parent, f"{DIRECTORY}-{uid}")
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid \
            or stat.S_IMODE(found.st_mode) & 0o077:
        path = Path(tempfile.mkdtemp(prefix=f"{DIRECTORY}-", dir=parent))
    _tidy(path)
    return path


def _directory() -> Path:
    path = _directory_for(os.getuid(), tempfile.gettempdir())
    if not path.is_dir():  # somebody has tidied it away
        _directory_for.cache_clear()
        path = _directory_for(os.getuid(), tempfile.gettempdir())
    return path


def _tidy(directory: Path) -> None:
    """Remove the files of processes that are long gone: others may still want to
    prove it of one that has just died."""
    for path in directory.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN and not _held(path):
                path.unlink()


def _held(path: Path) -> bool:
    """Whether anybody holds a lock on a file that is not this process's own."""
    if str(path) == _marks.path:
        return True
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(file)


def _locked(mark: Mark) -> bool | None:
    """Whether somebody holds that byte; None where it cannot be told from here."""
    with _lock:
        if mark.path == _marks.path:
            return mark in _marks.given.values()
    if fcntl is None:
        return None
    try:
        file = os.open(mark.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                       | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if os.read(file, BEGIN).decode("ascii", "replace").strip() != mark.key:
            return None  # not the file that was meant
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, mark.byte)
        return False
    except OSError as error:
        return True if error.errno in (errno.EACCES, errno.EAGAIN) else None
    finally:
        os.close(file)


# -- the machine


def host() -> str:
    return os.environ.get(HOST) or socket.gethostname()


def boot_id() -> str:
    """Text that differs from boot to boot, or '' where the system has none.

    A machine that was given a name is, to those of other names, another one.
    """
    given = os.environ.get(HOST)
    read = _read("/proc/sys/kernel/random/boot_id")
    return f"{read} {given}" if read and given else read


def machine_id() -> str:
    return _read("/etc/machine-id")


@cache
def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def namespace() -> str:
    """Which numbers of processes mean the same, or '' where that is not told."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> str | None:
    """When a process began, in its system's own terms; None where that is not told."""
    fields = _stat(pid)
    return None if fields is None else fields[19]


def process_lives(pid: int, started: str | None) -> bool | None:
    """Whether a process of this system is there; a number is used again, a number
    together with its start is not.  None: not known."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's, but there is one of that number
    fields = _stat(pid)
    if fields is None or started is None:
        return None
    return fields[0] not in "ZX" and fields[19] == started


def _stat(pid: int) -> list[str] | None:
    """What the system tells of a process, from its state on."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None
