"""Make this project's own environment, and start what was asked for.

    python3 bootstrap.py              bin/remotetask, bin/test and bin/py
    python3 bootstrap.py run [...]    the same, then the application
    python3 bootstrap.py test [...]   the same, then all tests

It needs Python 3.11 to 3.13 and a package index, which pip finds by its own
configuration.  What it makes lies in this directory: .venv, bin, parts,
develop-eggs and eggs; remove them to begin anew.  When nothing has changed
since the last time, it goes straight to the program.
"""
# The first lines must be understood by every Python, to be refused politely.
import sys

if not (3, 11) <= sys.version_info[:2]:
    sys.exit(
        "lovely.remotetask needs Python 3.11, 3.12 or 3.13, and this is %d.%d.\n"
        "Start it with one of them, for example: python3.12 bootstrap.py"
        % sys.version_info[:2])

import configparser
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
BIN = HERE / "bin"

#: What is made, from which files, and the mark that says so. It is written
#: when the making is done, so a start that was broken off is seen.
PACKAGES = (VENV / "packages.done", ["versions.cfg", "bootstrap.py"])
SCRIPTS = (VENV / "scripts.done", PACKAGES[1] + ["buildout.cfg", "setup.py"])

LOCK = HERE / ".bootstrap.lock"

PROGRAMS = {"run": ["remotetask", "run"], "test": ["test", "--all"]}


def main(arguments):
    if arguments and arguments[0] not in PROGRAMS:
        asked_for_help = arguments[0] in ("-h", "--help", "help")
        print(__doc__)
        return 0 if asked_for_help else 2
    if not is_ready():
        with locked():
            if not is_ready():  # another bootstrap may have been quicker
                build()
    if not arguments:
        print("Ready: bin/remotetask, bin/test, bin/py")
        return 0
    command = PROGRAMS[arguments[0]] + arguments[1:]
    start([str(BIN / command[0])] + command[1:])


def is_ready():
    scripts = [PYTHON, BIN / "remotetask", BIN / "test", BIN / "py"]
    return is_done(SCRIPTS) and all(path.exists() for path in scripts)


def is_done(thing):
    mark, sources = thing
    try:
        return mark.read_text() == fingerprint(sources) and PYTHON.exists()
    except OSError:
        return False


def set_done(thing):
    mark, sources = thing
    mark.write_text(fingerprint(sources))


def fingerprint(sources):
    """All that the result depends on, as one number."""
    digest = hashlib.sha256()
    # Scripts hold the absolute path: a moved checkout needs new ones.
    for fact in [sys.version, sys.base_prefix, str(HERE)]:
        digest.update(fact.encode())
    for name in sources:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def build():
    if not is_done(PACKAGES):
        make_packages()
        set_done(PACKAGES)
    make_scripts()
    set_done(SCRIPTS)


def make_packages():
    say("Making the environment of lovely.remotetask: this takes a minute, once.")
    shutil.rmtree(VENV, ignore_errors=True)
    say("[1/3] a virtual environment for Python %d.%d" % sys.version_info[:2])
    make_venv()
    pins = pinned_versions()
    say("[2/3] %d packages from the package index" % len(pins))
    # Buildout could fetch them too, one by one and three times slower
    # (75 s, not 25 s). It uses what it finds in its own environment.
    requirements = VENV / "requirements.txt"
    requirements.write_text("".join(
        "%s==%s\n" % pin for pin in sorted(pins.items())))
    run_quietly(
        [PYTHON, "-m", "pip", "install", "--disable-pip-version-check",
         "--no-deps", "--requirement", requirements],
        sign="Collecting ", total=len(pins))


def make_scripts():
    say("[3/3] the scripts in bin/, with zc.buildout")
    for left_over in [BIN, HERE / "parts", HERE / "develop-eggs"]:
        shutil.rmtree(left_over, ignore_errors=True)
    (HERE / ".installed.cfg").unlink(missing_ok=True)
    run_quietly([VENV / "bin" / "buildout"])


def make_venv():
    try:
        venv.create(VENV, with_pip=True)
    except (subprocess.CalledProcessError, ImportError, OSError) as error:
        sys.exit(
            "A virtual environment could not be made in %s:\n  %s\n"
            "On Debian and Ubuntu the module venv is a package of its own: "
            "apt install python3-venv" % (VENV, error))


def pinned_versions():
    config = configparser.RawConfigParser()
    config.optionxform = str
    config.read(HERE / "versions.cfg", encoding="utf-8")
    return dict(config["versions"])


def run_quietly(command, sign=None, total=0):
    """Run *command*, show how far it is, and what it said if it fails."""
    said = []
    process = subprocess.Popen(
        [str(word) for word in command], cwd=HERE, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen = 0
    try:
        for line in process.stdout:
            said.append(line)
            if sign and line.startswith(sign):
                seen += 1
                show_progress(seen, total)
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        process.stdout.close()
    if sign:
        show_progress(total, total, last=True)
    if code:
        sys.exit("%s\nThis command failed (exit code %d):\n  %s\n%s" % (
            "".join(said[-40:]).rstrip(), code,
            " ".join(str(word) for word in command),
            "Repair the cause and start bootstrap.py again."))


def show_progress(seen, total, last=False):
    """A line that grows, on a terminal; elsewhere a word now and then."""
    if sys.stderr.isatty():
        bar = "#" * (30 * seen // total)
        end = "\n" if last else ""
        sys.stderr.write("\r      [%-30s] %d of %d%s" % (bar, seen, total, end))
        sys.stderr.flush()
    elif not last and seen % 25 == 0:
        say("      %d of %d" % (seen, total))


def say(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def locked():
    """Two bootstraps at the same time would make one environment twice."""
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("Another bootstrap.py is at work here; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(command):
    """Become that program: a Ctrl-C then reaches it and nothing else."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("\nInterrupted. Start it again when you like; it begins anew.")
        sys.exit(130)
