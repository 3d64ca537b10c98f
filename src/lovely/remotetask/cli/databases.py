"""Where the database is, and how it is opened.

    var                          the directory of an application: its zope.conf
    etc/zope.conf                the database of a configuration, with its tasks
    var/Data.fs                  a FileStorage
    file:// zeo:// memory:// ... what zodburi knows
    postgresql:// sqlite://      RelStorage
"""
import importlib
import os
import re
import sys
from contextlib import suppress
from pathlib import Path

import ZODB
from zc.lockfile import LockError
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.FileStorage import FileStorageFormatError
from zope.component import getGlobalSiteManager
from zope.configuration import xmlconfig
from zope.configuration.exceptions import ConfigurationError
from zope.site.site import SiteManagerAdapter

import lovely.remotetask
from lovely.remotetask import settings, uris
from lovely.remotetask.cli.problems import BadArgument, Busy, NoDatabase
from lovely.remotetask.errors import RemoteTaskError
from lovely.remotetask.failure import in_log

DEFAULT = "var"
VARIABLE = "REMOTETASK_DB"
OLD_MAGIC = b"FS21"  # of Python 2
MAGIC = (OLD_MAGIC, b"FS30")
CONF_LIMIT = 2**20
NEEDS_APP = ("{} needs packages that are not installed: pip install "
             "'lovely.remotetask[app]' ({})")

def find(text: str | None = None):
    """The database that *text*, or the environment, or nothing names."""
    text = text or os.environ.get(VARIABLE) or DEFAULT
    if re.match(r"[a-z][a-z0-9+.-]+:", text):
        return AtURI(text)
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        return _in_directory(path, text)
    if not path.exists():
        raise NoDatabase(
            f"there is no {in_log(text)}: name a directory made by `remotetask run`, a "
            f"zope.conf, a Data.fs or a URI, by --db or in {VARIABLE}")
    if _is_data(path):
        return AtFile(path)
    if not _is_conf(path):
        raise BadArgument(f"{in_log(text)} is no zope.conf, Data.fs or URI")
    return AtConf(path)


def _in_directory(path, text):
    if (path / "zope.conf").exists():
        return AtConf(path / "zope.conf")
    if (path / "Data.fs").exists():
        return AtFile(path / "Data.fs")
    raise NoDatabase(
        f"the directory {in_log(text)} has no zope.conf and no Data.fs; start "
        f"`remotetask run` there first, or name another by --db or in {VARIABLE}")


def _is_data(path) -> bool:
    if path.suffix == ".fs":
        return True
    with opening(path), open(path, "rb") as file:
        return file.read(4) in MAGIC


def _is_conf(path) -> bool:
    """Whether it can be meant as a configuration; what is wrong in it is said then."""
    if path.suffix == ".conf":
        return True
    with opening(path), open(path, "rb") as file:
        return bool(re.search(rb"^\s*<zodb\b", file.read(CONF_LIMIT), re.MULTILINE))


class Database:
    """One way of naming a database.

    `file` is the path of its FileStorage, which admits one process; None for
    databases that several processes open at once.
    """

    file: Path | None = None

    def open(self):
        """Open it, for reading and writing.  Raises NoDatabase, Busy."""
        with opening(self.name):
            return self._open()

    def open_to_read(self):
        """Open it beside whoever writes, in the state of this moment."""
        if self.file is None:
            return self.open()
        with opening(self.name):
            # Blobs are not looked at, and a directory of blobs would be made.
            return _database(FileStorage(str(self.file), read_only=True))

    def configure(self, zcml=(), modules=()) -> None:
        """Register what those who write need: tasks, and who hears of jobs."""
        raise NotImplementedError

    def _register(self, context, zcml, modules) -> None:
        if modules and os.getcwd() not in sys.path:  # as `python -m` does it
            sys.path.insert(0, os.getcwd())
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception as error:
                raise BadArgument(f"--import {name}: {type(error).__name__}: "
                                  f"{in_log(error)}") from error
        for path in zcml:
            _execute(str(path), context=context)

    def close(self, db) -> None:
        db.close()


class AtURI(Database):

    def __init__(self, uri):
        self.uri = uri
        self.name = uris.hidden(uri)
        self.file = uris.file_of(uri)
        if self.file is not None and not self.file.exists():
            raise NoDatabase(f"there is no {self.file}: a database is made by "
                             "`remotetask run`, or in a script")
        with opening(self.name):
            self.factory, self.options = uris.resolve(uri)

    def _open(self):
        return _database(self.factory(), **self.options)

    def configure(self, zcml=(), modules=()):
        """See Database"""
        context = _execute("configure.zcml", lovely.remotetask)
        # Services in sites ask for their tasks there.
        getGlobalSiteManager().registerAdapter(SiteManagerAdapter)
        self._register(context, zcml, modules)


class AtFile(AtURI):

    def __init__(self, path):
        self.file, self.name = path, str(path)
        self.factory, self.options = (lambda: FileStorage(str(path))), {}


class AtConf(Database):
    """The first database of a zope.conf, in which its application lies."""

    def __init__(self, path):
        try:
            from zope.app.appsetup.product import setProductConfigurations

            from lovely.remotetask.app import configuration
        except ImportError as error:
            raise NoDatabase(NEEDS_APP.format(path, error)) from error
        self.path, self.name = path, str(path)
        self.configuration = configuration
        with opening(path):
            self.options = configuration.read(path)
        # Also who only reads wants to know the classes, and what starts by itself.
        sys.path[:0] = [each for each in map(os.path.abspath, self.options.path)
                        if each not in sys.path]
        setProductConfigurations(self.options.product_config)
        settings.reload()
        # The main database comes first; one file among them admits one process.
        self.file = next(filter(None, map(_file_of, self._storages())), None)
        if self.file is not None and not self.file.exists():
            raise NoDatabase(f"there is no {self.file} yet: `remotetask run` makes it at "
                             f"its first start")

    def _storages(self):
        return [each.config.storage for each in self.options.databases]

    def _open(self):
        """Without the events that start services."""
        from zope.app.appsetup import appsetup
        return appsetup.multi_database(self.options.databases)[0][0]

    def open_to_read(self):
        """See Database; all files of a multi-database, each beside who writes."""
        files = [_innermost(each.config) for each in self._storages()
                 if _file_of(each) is not None]
        before = [dict(vars(config)) for config in files]
        for config in files:
            # Blobs are not looked at, and a directory of blobs would be made.
            config.read_only, config.create, config.blob_dir = True, False, None
        try:
            return self.open()
        finally:
            for config, values in zip(files, before):
                vars(config).clear()
                vars(config).update(values)

    def open_with_events(self):
        """Open it as the application does: what starts with the database starts."""
        with opening(self.name):
            return self.configuration.open_databases(self.options)

    def configure(self, zcml=(), modules=(), logs=()):
        """See Database.  logs: handlers; with any, the logs of zope.conf are written."""
        from zope.app.appsetup import appsetup
        self._define_login()
        if not logs:
            self.options.eventlog, self.options.loggers = (lambda: None), []
        with opening(self.name):
            self.configuration.apply(self.options, *logs)
        self._register(appsetup.getConfigContext(), zcml, modules)

    def _define_login(self):
        """The manager, whom site.zcml grants everything."""
        from lovely.remotetask.app import login
        path = self.path.parent / "login.txt"
        if path.exists():
            login.define(login.get(path))

    def close(self, db):
        self.configuration.close_databases(db)


def _file_of(storage) -> Path | None:
    """The path of the FileStorage in a section of a configuration."""
    if type(storage).__name__ == "URIStorage":
        return uris.file_of(storage.config.uri)
    config = _innermost(storage.config)
    if type(storage).__name__ != "FileStorage" and not hasattr(config, "quota"):
        return None
    return Path(config.path).absolute()


def _innermost(config):
    while hasattr(config, "base"):  # <blobstorage>, <zlibstorage>, ...
        config = config.base.config
    return config


def _database(storage, **options):
    try:
        return ZODB.DB(storage, **options)
    except BaseException:
        storage.close()
        raise


def _execute(path, package=None, context=None):
    """Execute ZCML; the context, for more."""
    try:
        return xmlconfig.file(path, package, context)
    except (ConfigurationError, OSError, ImportError) as error:
        raise BadArgument(f"{path}: {in_log(' '.join(str(error).split()))}") from error


# -- what can stand in the way


class opening:
    """Turns what can go wrong when a database is opened into one clear text."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self._silence = uris.said_once()
        self._silence.__enter__()
        return self

    def __exit__(self, kind, error, traceback):
        self._silence.__exit__(None, None, None)
        if error is None or not isinstance(error, Exception) \
                or isinstance(error, (NoDatabase, BadArgument)):
            return
        raise self._problem(error) from error

    def _problem(self, error):
        if isinstance(error, LockError):
            return Busy(busy(error))
        if isinstance(error, FileStorageFormatError):
            return NoDatabase(f"{self.name} {self._format()}")
        if isinstance(error, uris.BadURI):
            return BadArgument(str(error))
        if isinstance(error, uris.NotInstalled):
            return NoDatabase(str(error))
        if isinstance(error, RemoteTaskError):  # CannotStart says it well itself
            problem = NoDatabase(str(error))
            problem.exit_code = 3 if getattr(error, "exit_code", 2) == 1 else 2
            return problem
        return NoDatabase(uris.trouble(self.name, error))

    def _format(self) -> str:
        """Why a file is refused: it is old, or something else altogether."""
        path = str(self.name).removeprefix("file://").partition("?")[0]
        with suppress(OSError), open(path, "rb") as file:
            if file.read(len(OLD_MAGIC)) == OLD_MAGIC:
                return "is of Python 2: bring it over with zodbupdate first"
        return "is no Data.fs"


def busy(error: LockError) -> str:
    """LockError names the lock, and the lock holds the number of its owner."""
    path = re.sub(r".* '(.*)'", r"\1", str(error))
    try:
        with open(path) as lock:
            owner = f" by process {int(lock.read().split()[0])}"
    except (OSError, ValueError, IndexError):
        owner = ""
    return (f"{path.removesuffix('.lock')} is in use{owner}, which takes no commands; "
            "stop that one, or wait until it is done")
