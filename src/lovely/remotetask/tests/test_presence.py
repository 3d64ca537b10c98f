"""Who is there: locks of real processes, starts of processes, names of machines."""
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lovely.remotetask import presence
from lovely.remotetask.presence import Mark, Process
from lovely.remotetask.tests.support import BOUND

# The module alone: the whole package takes another process half a second.
ALONE = f"""
import os, sys, types
presence = types.ModuleType("presence")
sys.modules["presence"] = presence
exec(compile(open({presence.__file__!r}).read(), "presence", "exec"), vars(presence))
"""
OTHER = ALONE + """
presence.enter("a"); presence.enter("b")
if "fork" in sys.argv:
    child = os.fork()
    if not child:
        sys.stdin.read()
        os._exit(0)
print(repr((tuple(presence.here()), tuple(presence.mark_of("a")),
            tuple(presence.mark_of("b")))), flush=True)
for line in sys.stdin:
    presence.leave(line.strip())
    print("left", flush=True)
"""


class Other:
    """Another process with two workers, a and b."""

    def __init__(self, test, *words, before=(), **environment):
        self.popen = subprocess.Popen(
            [*before, sys.executable, "-c", OTHER, *words], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, **environment})
        test.addCleanup(self.popen.stdout.close)
        test.addCleanup(self.end)
        process, a, b = eval(self.popen.stdout.readline())
        self.process, self.a, self.b = Process(*process), Mark(*a), Mark(*b)

    def leave(self, name):
        self.popen.stdin.write(name + "\n")
        self.popen.stdin.flush()
        self.popen.stdout.readline()

    def kill(self):
        self.popen.kill()
        self.popen.wait(BOUND)

    def end(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
        if not self.popen.stdin.closed:
            self.popen.stdin.close()
        self.popen.wait(BOUND)


class TheLock(unittest.TestCase):

    def test_a_process_is_there_until_it_is_killed(self):
        other = Other(self)
        self.assertIs(presence.proven(other.process, other.a), True)
        other.kill()
        self.assertIs(presence.proven(other.process, other.a), False)
        self.assertIs(presence.proven(other.process._replace(namespace="?"), other.a),
                      False)

    def test_a_worker_leaves_and_its_process_stays(self):
        other = Other(self)
        other.leave("a")
        self.assertIs(presence.proven(other.process, other.a), False)
        self.assertIs(presence.proven(other.process, other.b), True)

    def test_a_stopped_process_is_there(self):
        other = Other(self)
        other.popen.send_signal(signal.SIGSTOP)
        self.assertIs(presence.proven(other.process, other.a), True)

    def test_the_child_that_survives_its_parent_does_not_stand_for_it(self):
        other = Other(self, "fork")
        other.kill()
        self.assertIs(presence.proven(other.process, other.a), False)

    def test_asking_does_not_let_go(self):
        other = Other(self)
        for _ in range(3):
            self.assertIs(presence.proven(other.process, other.a), True)

    def test_a_file_that_is_used_again_is_not_the_one_that_was_meant(self):
        other = Other(self)
        strange = other.a._replace(key="0" * 32)
        self.assertIs(presence.proven(other.process._replace(namespace="?"), strange),
                      None)

    def test_a_clean_end_leaves_no_file(self):
        other = Other(self)
        other.end()
        self.assertFalse(os.path.exists(other.a.path))

    def test_the_workers_of_this_process(self):
        presence.enter("x")
        self.addCleanup(presence.leave, "x")
        mark = presence.mark_of("x")
        self.assertIs(presence.proven(presence.here(), mark), True)
        self.assertEqual(presence.mark_of("x"), mark)
        presence.leave("x")
        self.assertIs(presence.proven(presence.here(), mark), False)
        self.assertIsNone(presence.mark_of("x"))

    def test_others_see_the_lock_after_this_process_has_asked_for_its_own(self):
        presence.enter("x")
        self.addCleanup(presence.leave, "x")
        mark = presence.mark_of("x")
        presence.proven(presence.here(), mark)
        presence._tidy(Path(mark.path).parent)
        said = subprocess.run(
            [sys.executable, "-c", ALONE +
             f"print(presence._locked(presence.Mark(*{tuple(mark)!r})))"],
            capture_output=True, text=True, timeout=BOUND).stdout
        self.assertEqual(said.strip(), "True")


class InAnotherContainer(unittest.TestCase):
    """A process that sees other processes than this one, under other numbers."""

    def test_the_lock_proves_what_numbers_cannot(self):
        unshare = shutil.which("unshare")
        if unshare is None or subprocess.run(
                [unshare, "-pf", "true"], capture_output=True).returncode:
            self.skipTest("no program unshare, or it may not be used")
        other = Other(self, before=(unshare, "-pf", "--kill-child"))
        self.assertNotEqual(other.process.namespace, presence.namespace())
        self.assertIs(presence.proven(other.process, other.a), True)
        self.assertIs(presence.proven(other.process, None), None)
        other.end()
        self.assertIs(presence.proven(other.process, None), None)


class WithoutTheLock(unittest.TestCase):

    def test_number_and_start_prove_it_where_processes_are_seen(self):
        other = Other(self)
        self.assertIs(presence.proven(other.process, None), True)
        self.assertIs(presence.proven(other.process._replace(started="1"), None), False)
        other.kill()
        self.assertIs(presence.proven(other.process, None), False)

    def test_one_that_waits_for_its_parent_to_hear_of_its_end_is_gone(self):
        other = Other(self)
        other.popen.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.popen.pid, os.WEXITED | os.WNOWAIT)
        self.assertIs(presence.proven(other.process, None), False)

    def test_nothing_is_proven_where_processes_are_not_seen(self):
        other = Other(self)
        hidden = other.process._replace(namespace="pid:[1]")
        self.assertIs(presence.proven(hidden, None), None)
        other.kill()
        self.assertIs(presence.proven(hidden, None), None)

    def test_a_process_whose_start_cannot_be_read_is_not_taken_for_dead(self):
        other = Other(self)
        with mock.patch.object(presence, "_stat", lambda pid: None):
            self.assertIs(presence.proven(other.process, None), None)
            other.kill()
            self.assertIs(presence.proven(other.process, None), False)

    def test_nothing_is_proven_of_another_machine(self):
        other = Other(self, REMOTETASK_HOST="elsewhere")
        self.assertEqual(other.process.host, "elsewhere")
        other.kill()
        self.assertIs(presence.proven(other.process, other.a), None)

    def test_of_a_machine_that_was_started_anew_nothing_is_left(self):
        here = presence.here()
        before = here._replace(boot="another boot", machine="m")
        with mock.patch.object(presence, "machine_id", lambda: "m"):
            self.assertIs(presence.proven(before, None), False)
            self.assertIs(presence.proven(before._replace(host="h"), None), None)
        with mock.patch.object(presence, "machine_id", lambda: "n"):
            self.assertIs(presence.proven(before, None), None)
        with mock.patch.object(presence, "machine_id", lambda: ""):
            self.assertIs(presence.proven(before._replace(machine=""), None), None)


class TheDirectory(unittest.TestCase):

    def setUp(self):
        self.parent = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.parent)
        presence._directory_for.cache_clear()
        self.addCleanup(presence._directory_for.cache_clear)

    def directory(self):
        return presence._directory_for(os.getuid(), self.parent)

    def test_it_is_private(self):
        self.assertEqual(stat.S_IMODE(self.directory().stat().st_mode), 0o700)

    def test_one_that_others_could_have_made_is_not_used(self):
        usual = Path(self.parent, f"lovely.remotetask-{os.getuid()}")
        usual.mkdir()
        usual.chmod(0o777)
        found = self.directory()
        self.assertNotEqual(found, usual)
        self.assertEqual(stat.S_IMODE(found.stat().st_mode), 0o700)

    def test_old_files_of_the_dead_are_tidied_away(self):
        directory = self.directory()
        names = {"old": 0, "new": None}
        for name, moment in names.items():
            (directory / name).touch()
            if moment is not None:
                os.utime(directory / name, (moment, moment))
        presence._tidy(directory)
        self.assertEqual([path.name for path in directory.iterdir()], ["new"])


if __name__ == "__main__":
    unittest.main()
