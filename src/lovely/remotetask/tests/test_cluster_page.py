"""The configurations in docs/cluster.txt are such that ZEO and Zope read them."""
import re
import shutil
import tempfile
import textwrap
import unittest
from importlib.util import find_spec
from pathlib import Path

import lovely.remotetask
from lovely.remotetask import zeoserver
from lovely.remotetask.app import configuration
from lovely.remotetask.app.directory import Directory

PAGE = Path(lovely.remotetask.__path__[0]).parents[2] / "docs" / "cluster.txt"


@unittest.skipUnless(PAGE.exists(), "the project's docs are not here")
class ThePage(unittest.TestCase):

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="remotetask-page-"))
        self.addCleanup(shutil.rmtree, self.directory)
        text = PAGE.read_text(encoding="utf-8")
        self.blocks = [textwrap.dedent(block).replace("/srv/tasks", str(self.directory))
                       for block in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", text)]

    def test_what_stands_in_a_zope_conf_is_understood(self):
        web = Directory(self.directory / "web")
        web.prepare(example=False)
        before = web.conf.read_text()
        section = before[before.index("<zodb>"):before.index("</zodb>") + len("</zodb>")]
        found = [block for block in self.blocks if block.lstrip().startswith(
            ("<zodb", "%import"))]
        self.assertGreater(len(found), 5)
        for block in found:
            if "relstorage" in block and find_spec("relstorage") is None:
                continue
            # Certificates would be read.
            block = re.sub("<ssl>.*</ssl>", "", block, flags=re.DOTALL)
            block = block.partition("\nconnection.")[0]
            web.conf.write_text(before.replace(section, block))
            with self.subTest(block):
                options = configuration.read(web.conf)
                self.assertEqual(len(options.databases), block.count("</zodb>"))

    def test_what_stands_in_a_zeo_conf_is_understood(self):
        (self.directory / "clients").mkdir()
        found = [block for block in self.blocks if block.lstrip().startswith("<zeo>")]
        self.assertEqual(len(found), 2)
        for number, block in enumerate(found):
            block, keys = re.subn(r"<ssl>.*</ssl>", "", block, flags=re.DOTALL)
            self.assertEqual(keys, number)
            path = self.directory / "zeo.conf"
            path.write_text(block)
            options = zeoserver.Options()
            options.realize(["-C", str(path)])
            self.assertEqual(options.transaction_timeout, 30)

    def test_supervisors_wait_longer_than_the_grace_time(self):
        text = PAGE.read_text(encoding="utf-8")
        samples = text[text.index("Supervisors\n"):]
        graces = [int(number) for number in re.findall(r"--grace (\d+)s", samples)]
        waits = [int(number) for number in re.findall(
            r"(?:TimeoutStopSec=|stop-timeout )(\d+)", samples)]
        self.assertEqual(len(graces), len(waits))
        for grace, wait in zip(graces, waits):
            self.assertGreater(wait, grace)


if __name__ == "__main__":
    unittest.main()
