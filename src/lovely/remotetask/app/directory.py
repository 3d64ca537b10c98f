"""The directory of the application: all that it keeps, and nothing elsewhere."""
import re
from importlib.resources import files
from pathlib import Path

import lovely.remotetask
from lovely.remotetask.app.problems import CannotStart

#: The examples of a checkout; they are not installed with the package.
EXAMPLES = Path(lovely.remotetask.__path__[0]).resolve().parents[2] / "examples"


class Directory:
    """Its files by name.  `prepare` makes what is missing."""

    def __init__(self, path):
        self.path = Path(path).absolute()
        self.conf = self.path / "zope.conf"
        self.site = self.path / "site.zcml"
        self.login = self.path / "login.txt"
        self.log = self.path / "log" / "event.log"
        self.database = self.path / "Data.fs"

    def prepare(self, example=None):
        """Make the directory and write its files, unless they are there.

        *example* is the path of a package with a configure.zcml, which site.zcml
        includes; by default the one of the checkout, if there is one.
        """
        if example is None and (EXAMPLES / "library" / "configure.zcml").exists():
            example = EXAMPLES / "library"
        try:
            # For its owner only: it holds the data, the login and a socket.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log.parent.mkdir(exist_ok=True)
            self._write_once(example and Path(example).absolute())
            self._keep_places_true()
        except OSError as error:
            raise CannotStart(
                f"{self.path} cannot be used: {error.strerror or error}. "
                "Name another directory or change its permissions.") from error

    def _write_once(self, example):
        service = example.name if example else "tasks"
        packages = example.parent if example else self.path / "packages"
        for path in self.conf, self.site:
            if not path.exists():
                text = files(__package__).joinpath(f"{path.name}.in").read_text("utf-8")
                for name, value in [("SERVICE", service), ("EXAMPLE", service),
                                    ("PACKAGES", _quoted(packages))]:
                    text = text.replace(f"@{name}@", value)
                path.write_text(text, "utf-8")

    def _keep_places_true(self):
        """Where directories lie, for a checkout that was copied or moved."""
        text = before = self.conf.read_text("utf-8")
        text = _define(text, "var", self.path)
        if "\n%define packages " in text and not self._packages(text).is_dir():
            if EXAMPLES.is_dir():
                text = _define(text, "packages", EXAMPLES)
        if text != before:
            self.conf.write_text(text, "utf-8")

    def _packages(self, text):
        found = re.search(r"^%define packages (.*)$", text, re.MULTILINE)
        return Path(found[1].replace("$$", "$"))


def _define(text, name, value):
    line = f"%define {name} {_quoted(value)}"
    return re.sub(rf"^%define {name} .*$", lambda match: line, text, flags=re.MULTILINE)


def _quoted(path):
    """A path in zope.conf, where a dollar sign is written twice."""
    return str(path).replace("$", "$$")
