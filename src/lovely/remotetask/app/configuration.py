"""zope.conf, read and acted upon: products, paths, logs, ZCML, databases."""
import logging
import os
import re
import sys
import time
import warnings

import transaction
import ZConfig
from transaction.interfaces import TransientError
from zc.lockfile import LockError
from zope.app.appsetup import appsetup
from zope.app.appsetup.product import setProductConfigurations
from zope.configuration.exceptions import ConfigurationError
from zope.event import notify
from zope.processlifetime import DatabaseOpened

from lovely.remotetask import uris
from lovely.remotetask.app.problems import CannotStart


FIRST_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds before another try

# What PostgreSQL says when another process makes the same table or function.
MEANWHILE = ("already exists", "concurrently updated")


def read(path):
    """The options of a zope.conf.  Raises CannotStart for what is wrong in it."""
    schema = ZConfig.loadSchema(
        os.path.join(os.path.dirname(appsetup.__file__), "schema", "schema.xml"))
    try:
        options, _ = ZConfig.loadConfig(schema, str(path))
    except ZConfig.ConfigurationError as error:
        raise CannotStart(f"{path}: {_short(error)}", exit_code=2) from error
    except OSError as error:  # a certificate that is not there, for example
        raise CannotStart(f"{path} names a file that cannot be read: {_short(error)}",
                          exit_code=2) from error
    return options


def apply(options, *handlers):
    """Set up products, paths and logs, and execute the ZCML.

    *handlers* join the log: from then on they see all that goes into it.
    """
    sys.path[:0] = [
        path for path in map(os.path.abspath, options.path) if path not in sys.path]
    setProductConfigurations(options.product_config)
    try:
        for logger in [options.eventlog, *options.loggers]:
            logger()
    except OSError as error:
        raise CannotStart(f"The log cannot be written: {error}") from error
    for handler in handlers:
        logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            # What the packages below say of each other's future.
            warnings.simplefilter("ignore", DeprecationWarning)
            appsetup.config(options.site_definition)
    except (ConfigurationError, OSError) as error:
        raise CannotStart(
            f"{options.site_definition}: {_short(error)}", exit_code=2) from error


def open_databases(options):
    """Open the databases and say so to all who start with them; the main one."""
    try:
        with uris.said_once():
            databases, _ = _again(appsetup.multi_database, options.databases)
    except LockError as error:
        raise CannotStart(_locked(error)) from error
    except uris.BadURI as error:
        raise CannotStart(str(error), exit_code=2) from error
    except Exception as error:
        raise CannotStart(uris.trouble(_name(options), error)) from error
    try:
        _again(notify, DatabaseOpened(databases[0]))
    except BaseException:
        close_databases(databases[0])
        raise
    return databases[0]


def _name(options):
    """The main database, as it can be shown."""
    uri = getattr(options.databases[0].config.storage.config, "uri", None)
    return "the database" if uri is None else uris.hidden(uri)


def _again(step, *arguments):
    """Of several processes that find an empty database, one makes what is in it:
    tables, roots, the first services.  The others find it then."""
    for pause in (*FIRST_PAUSES, None):
        try:
            return step(*arguments)
        except Exception as error:
            meanwhile = isinstance(error, TransientError) or any(
                text in str(error) for text in MEANWHILE)
            if pause is None or not meanwhile:
                raise
            transaction.abort()
            time.sleep(pause)


def close_databases(db):
    """Close the database and those beside it; writes the index of a Data.fs."""
    for database in list(db.databases.values()) or [db]:
        database.close()


def _locked(error):
    """LockError says "Couldn't lock '.../Data.fs.lock'", which holds the owner."""
    path = re.sub(r".* '(.*)'", r"\1", str(error))
    try:
        with open(path) as lock:
            owner = f" by process {int(lock.read())}"
    except (OSError, ValueError):
        owner = ""
    return (f"The database {path.removesuffix('.lock')} is in use{owner}. "
            "Stop that one first, or name another directory.")


def _short(error):
    return " ".join(str(error).split())
