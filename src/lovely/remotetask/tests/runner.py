"""zope.testrunner, with one line at the end that counts the tests.

``bin/test`` runs level 1, the tests that together take less than a minute, and
``bin/test --all`` every test; both in several processes side by side: many tests wait
for servers, browsers and each other more than they compute.  All options of zope.testrunner
work.  The last line is always ``N passed, N failed, N skipped``.
"""
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zope.testrunner.runner import Runner

import lovely.remotetask

SOURCE = Path(lovely.remotetask.__path__[0]).resolve().parents[1]
DEFAULTS = ["--test-path", str(SOURCE), "--auto-color", "--auto-progress"]

#: Names the file in which layers run by a child process count what they skip:
#: zope.testrunner's children tell their parent about failures and errors only.
SKIPPED_BY_CHILDREN = "REMOTETASK_TESTS_SKIPPED"


#: Modules that run in processes of their own under a plain --all, the longest first.
LONG = ("simulation", "benchmarks", "chaos", "workers", "library", "engines", "pages",
        "openapi", "cluster", "cli_processes", "waiting", "fuzz", "http_manual", "model")
#: Half of what the fast selection takes, and half of what is left of all.
HALF = ("runtime", "cli", "simulation", "faults", "upgrade", "undo", "interleavings")
SIDE_BY_SIDE = {"fast": 2, "all": 3}
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)


def main(args=None):
    args = list(sys.argv if args is None else args)
    if args[1:] in ([], ["--all"]):
        sys.exit(_run_in_parts(_script_parts(args[0]), args[1:]))
    runner = Runner(DEFAULTS, args, script_parts=_script_parts(args[0]))
    if args[1:2] == ["--resume-layer"]:
        _run_as_child(runner)
    else:
        _run_as_parent(runner)
    sys.exit(int(bool(runner.failed)))


def _run_in_parts(script, words):
    """Run the fast selection or everything, in several processes; 1 if anything has
    failed."""
    counts, broken = [0, 0, 0], False
    with ThreadPoolExecutor(SIDE_BY_SIDE["all" if words else "fast"]) as pool:
        for part in [pool.submit(_run_part, [*script, *words, *each])
                     for each in _parts(LONG if words else ())]:
            code, output = part.result()
            print(output, flush=True)
            found = COUNTS.findall(output)
            broken = broken or bool(code) or not found
            counts = [a + int(b) for a, b in zip(counts, found[-1] if found else "010")]
    print("{} passed, {} failed, {} skipped".format(*counts), flush=True)
    return int(broken)


def _parts(long):
    """The options that choose each part; every test is in one."""
    half = set(HALF) - set(long)
    yield _modules("!", *long, *half)
    yield _modules("", *half)
    for name in long:
        yield _modules("", name)


def _modules(sign, *names):
    return ["-m", rf"{sign}\.test_({'|'.join(sorted(names))})$"]


def _run_part(command):
    done = subprocess.run(
        [sys.executable, *command], text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def _run_as_parent(runner):
    with tempfile.TemporaryDirectory() as directory:
        skipped_by_children = Path(directory, "skipped")
        skipped_by_children.touch()
        os.environ[SKIPPED_BY_CHILDREN] = str(skipped_by_children)
        runner.run()
        elsewhere = sum(map(int, skipped_by_children.read_text().split()))
    if _ran_tests(runner):
        print(summary(runner, elsewhere), flush=True)


def _run_as_child(runner):
    runner.run()  # it closes the standard output when it is done
    with open(os.environ[SKIPPED_BY_CHILDREN], "a") as skipped:
        skipped.write(f"{len(runner.skipped)}\n")


def summary(runner, skipped_elsewhere=0):
    """The closing line: what failed includes what could not be imported."""
    troubles = runner.failures + runner.errors
    skipped = len(runner.skipped) + skipped_elsewhere
    passed = runner.ran - skipped - len(_tests_of(troubles))
    failed = len(troubles) + len(runner.import_errors)
    return f"{max(passed, 0)} passed, {failed} failed, {skipped} skipped"


def _tests_of(troubles):
    """The tests among them: one test can fail in several subtests, and the
    set-up of a layer is none."""
    names = {str(test) for test, _ in troubles}
    return {
        # "test_it (module.Class.test_it) (i=1)" is a subtest of the same.
        re.sub(r"^(\w+ \([\w.]+\)) .*", r"\1", name, flags=re.DOTALL)
        for name in names if not name.startswith(("Layer:", "subprocess for"))}


def _ran_tests(runner):
    """Whether it did so, or only answered --help or --list-tests."""
    return runner.options is not None and runner.do_run_tests


def _script_parts(script):
    """How a child process, which runs one layer, is started again."""
    if Path(script).resolve() == Path(__file__).resolve():
        return ["-m", "lovely.remotetask.tests.runner"]
    return [os.path.abspath(script)]


if __name__ == "__main__":
    main()
