"""URIs of storages, and what is said when one cannot be opened."""
import logging
import unittest
from unittest import mock
from urllib.parse import urlsplit

from lovely.remotetask import uris


class URIs(unittest.TestCase):

    def test_sqlite_is_said_as_relstorage_wants_it(self):
        self.assertEqual(uris.sqlite_uri("sqlite:///a/b%20c?keep_history=0"),
                         "sqlite://?keep_history=0&data_dir=%2Fa%2Fb+c")
        self.assertEqual(uris.sqlite_uri("sqlite://?data_dir=x"),
                         "sqlite://?data_dir=x")
        for uri in ("sqlite://a/b", "sqlite:///", f"sqlite://{__file__}"):
            self.assertRaises(uris.BadURI, uris.sqlite_uri, uri)

    def test_postgresql_says_what_is_given_and_leaves_the_rest_to_libpq(self):
        dsn = uris._PostgreSQL().dsn
        self.assertEqual(
            dsn(urlsplit("http://u:p%40s%27s%5C@h:5433/jobs"), {"sslmode": "require"}),
            (r"dbname='jobs' user='u' password='p@s\'s\\' host='h' port='5433' "
             "sslmode='require'", {}))
        self.assertEqual(dsn(urlsplit("http://h/jobs"), {"keep_history": "0"}),
                         ("dbname='jobs' host='h'", {"keep_history": "0"}))

    def test_without_relstorage_its_databases_are_refused_with_the_way_to_get_it(self):
        with mock.patch("lovely.remotetask.uris.find_spec", lambda name: None):
            for uri in ("postgresql://h/db", "postgres://h/db", "sqlite:///a"):
                with self.assertRaisesRegex(uris.NotInstalled, "pip install"):
                    uris.resolve(uri)

    def test_passwords_are_not_shown(self):
        self.assertEqual(uris.hidden("postgresql://u:p@ss@h/db"),
                         "postgresql://u:***@h/db")
        self.assertEqual(uris.hidden("zeo://h:1?username=u&password=p&wait=1"),
                         "zeo://h:1?username=u&password=***&wait=1")
        self.assertEqual(uris.hidden("zeo://h:9991"), "zeo://h:9991")


class Trouble(unittest.TestCase):

    def test_each_is_a_sentence_with_the_name(self):
        from ZEO.Exceptions import ClientDisconnected
        locked = PermissionError(13, "Permission denied", "/srv/Data.fs")
        for error, text in (
                (ClientDisconnected(), "the ZEO server of it does not answer"),
                (ImportError("no x"), "it needs a package that is not installed: no x"),
                (locked, "it: you may not open /srv/Data.fs; its owner can"),
                (ValueError("two\n lines"), "it cannot be opened: ValueError: two lines")):
            self.assertEqual(uris.trouble("it", error), text)

    def test_it_is_not_logged_too(self):
        logger = logging.getLogger("zc.lockfile")
        with self.assertNoLogs():
            with uris.said_once():
                logger.error("locked")
        with self.assertLogs():
            logger.error("locked")

    def test_the_file_of_a_uri(self):
        self.assertEqual(str(uris.file_of("file:///srv/Data.fs?x=1")), "/srv/Data.fs")
        self.assertIsNone(uris.file_of("zeo://localhost:8100"))


if __name__ == "__main__":
    unittest.main()
