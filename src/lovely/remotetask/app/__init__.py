"""The application: a database, the ZMI and a web server in one process.

    from lovely.remotetask.app import run
    sys.exit(run("var", port=8080))          until Ctrl-C or SIGTERM

    running = Application("var", port=0).start()
    running.url, running.db, running.login
    running.stop()

It needs the extra ``app``.  All that it keeps lies in its directory:

    zope.conf, site.zcml    written at the first start, then yours to change
    login.txt               the login made at the first start, for your eyes only
    Data.fs, blobs, log     the database, and what happened
"""
from lovely.remotetask.app.problems import CannotStart
from lovely.remotetask.app.server import Application, run

__all__ = ["Application", "CannotStart", "run"]
