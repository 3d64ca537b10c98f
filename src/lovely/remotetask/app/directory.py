"""The directory of the application: all that it keeps, and nothing elsewhere."""
import re
from importlib.resources import files
from pathlib import Path

import lovely.remotetask
from lovely.remotetask import uris
from lovely.remotetask.app.problems import CannotStart

#: The examples of a checkout; they are not installed with the package.
EXAMPLES = Path(lovely.remotetask.__path__[0]).resolve().parents[2] / "examples"


#: The database, in zope.conf.
OWN_FILE = """\
<zodb>
  <filestorage>
    path $var/Data.fs
    blob-dir $var/blobs
  </filestorage>
</zodb>"""
BY_URI = """\
%import lovely.remotetask.app
<zodb>
  <uristorage>
    uri {}
  </uristorage>
</zodb>"""
NAMED = r"^(\s*<uristorage>\s*uri )(.*)$"


class Directory:
    """Its files by name.  `prepare` makes what is missing."""

    def __init__(self, path):
        self.path = Path(path).absolute()
        self.conf = self.path / "zope.conf"
        self.site = self.path / "site.zcml"
        self.login = self.path / "login.txt"
        self.log = self.path / "log" / "event.log"
        self.database = self.path / "Data.fs"

    def prepare(self, example=None, uri=None):
        """Make the directory and write its files, unless they are there.

        *example* is the path of a package with a configure.zcml, which site.zcml
        includes; by default the one of the checkout, if there is one.  *uri* names
        the database; by default it is a Data.fs in the directory.
        """
        if example is None and (EXAMPLES / "library" / "configure.zcml").exists():
            example = EXAMPLES / "library"
        if uri is not None:
            _check(uri)
        try:
            # For its owner only: it holds the data, the login and a socket.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log.parent.mkdir(exist_ok=True)
            self._write_once(example and Path(example).absolute(), uri)
            self._keep_places_true(uri)
        except OSError as error:
            raise CannotStart(
                f"{self.path} cannot be used: {error.strerror or error}. "
                "Name another directory or change its permissions.") from error

    def _write_once(self, example, uri):
        if uri is not None and self.conf.exists() and self.uri() is None:
            raise CannotStart(
                f"{self.conf} names another database than {uris.hidden(uri)}: change it "
                "there, or name another directory", 2)
        storage = OWN_FILE if uri is None else BY_URI.format(_quoted(uri))
        service = example.name if example else "tasks"
        packages = example.parent if example else self.path / "packages"
        for path in self.conf, self.site:
            if not path.exists():
                text = files(__package__).joinpath(f"{path.name}.in").read_text("utf-8")
                for name, value in [("SERVICE", service), ("EXAMPLE", service),
                                    ("PACKAGES", _quoted(packages)),
                                    ("STORAGE", storage)]:
                    text = text.replace(f"@{name}@", value)
                path.write_text(text, "utf-8")
                path.chmod(0o600)  # a URI can have a password

    def uri(self):
        """The URI by which zope.conf names the database, None if it does not."""
        found = re.search(NAMED, self.conf.read_text("utf-8"), re.MULTILINE)
        return found and found[2].strip().replace("$$", "$")

    def _keep_places_true(self, uri):
        """Where directories lie, for a checkout that was copied or moved, and the
        database that was named now."""
        text = before = self.conf.read_text("utf-8")
        text = _define(text, "var", self.path)
        if "\n%define packages " in text and not self._packages(text).is_dir():
            if EXAMPLES.is_dir():
                text = _define(text, "packages", EXAMPLES)
        if uri is not None:
            text = re.sub(NAMED, lambda match: match[1] + _quoted(uri), text, count=1,
                          flags=re.MULTILINE)
        if text != before:
            self.conf.write_text(text, "utf-8")

    def _packages(self, text):
        found = re.search(r"^%define packages (.*)$", text, re.MULTILINE)
        return Path(found[1].replace("$$", "$"))


def _check(uri):
    """Nothing is written for a URI that cannot be meant."""
    try:
        uris.resolve(uri)
    except uris.BadURI as error:
        raise CannotStart(str(error), 2) from error
    except uris.NotInstalled as error:
        raise CannotStart(str(error)) from error


def _define(text, name, value):
    line = f"%define {name} {_quoted(value)}"
    return re.sub(rf"^%define {name} .*$", lambda match: line, text, flags=re.MULTILINE)


def _quoted(path):
    """A path in zope.conf, where a dollar sign is written twice."""
    return str(path).replace("$", "$$")
