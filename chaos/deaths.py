"""Ways for a task to end its process, and to hang so that nothing stops it."""
import ctypes
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import time


def _by(number):
    """Die of a signal, whatever handler there is."""
    def die():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        libc = ctypes.CDLL(None)
        libc.signal(int(number), None)  # the default action: handlers of Python only note
        os.kill(os.getpid(), number)
        time.sleep(60)
    return die


def _null():
    ctypes.string_at(0)


def _write_to_null():
    ctypes.memset(1, 0, 1)


def _jump_nowhere():
    ctypes.CFUNCTYPE(None)(2)()


def _deep():
    """Run out of the C stack."""
    sys.setrecursionlimit(10**9)
    thing = []
    for _ in range(10**6):
        thing = [thing]
    repr(thing)


def _alarm():
    libc = ctypes.CDLL(None)
    libc.signal(int(signal.SIGALRM), None)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    time.sleep(60)


def _cpu_limit():
    """Use more processor time than is allowed: the system sends SIGXCPU."""
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + 1, used + 2))
    while True:
        pass


def _killed_from_outside():
    """As the system's out-of-memory killer does it: by another process."""
    if os.fork() == 0:
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(0)
    time.sleep(60)


def _fatal():
    ctypes.pythonapi.Py_FatalError(b"as if the interpreter were broken")


def _replace():
    """Become another program: what this process held is let go without a word."""
    os.execv("/bin/true", ["true"])


#: Twenty kinds of poison: all take the process with them, in different ways.
KINDS = {
    "abort": os.abort,
    "null pointer": _null,
    "write to null": _write_to_null,
    "jump nowhere": _jump_nowhere,
    "stack overflow": _deep,
    "fatal error": _fatal,
    "_exit 0": lambda: os._exit(0),
    "_exit 1": lambda: os._exit(1),
    "exec": _replace,
    "killed from outside": _killed_from_outside,
    "alarm": _alarm,
    "processor time": _cpu_limit,
    "SIGKILL": _by(signal.SIGKILL),
    "SIGSEGV": _by(signal.SIGSEGV),
    "SIGBUS": _by(signal.SIGBUS),
    "SIGFPE": _by(signal.SIGFPE),
    "SIGILL": _by(signal.SIGILL),
    "SIGSYS": _by(signal.SIGSYS),
    "SIGQUIT": _by(signal.SIGQUIT),
    "SIGUSR1": _by(signal.SIGUSR1),
}


def _silent_tls():
    """Wait for the greeting of a TLS server that says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    ssl.create_default_context().wrap_socket(client, server_hostname="localhost")


def _lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _busy():
    while True:
        sum(range(10_000))


#: Code that no flag reaches.  What also keeps the interpreter's lock for itself,
#: such as one very long regular expression, is not among them: there no thread of
#: the process can run, and only SIGKILL helps.
HANGS = {
    "sleep": lambda: time.sleep(3600),
    "C sleep": lambda: ctypes.CDLL(None).sleep(3600),
    "lock": _lock,
    "TLS": _silent_tls,
    "busy": _busy,
}
