"""lovely.remotetask: background jobs that commit with your data."""
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent


def text(name):
    path = HERE / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


# What the service itself needs: no ZMI, no web server.
CORE = [
    "BTrees",
    "ZODB >= 6",
    "cronsim >= 2.7, < 3",
    "persistent",
    "transaction",
    "tzdata",
    "zc.queue >= 2",
    "zodbpickle",
    "zodburi",
    "zope.authentication",
    "zope.component",
    "zope.configuration",
    "zope.container",
    "zope.event",
    "zope.generations",
    "zope.i18nmessageid",
    "zope.interface",
    "zope.lifecycleevent",
    "zope.location",
    "zope.processlifetime",
    "zope.schema",
    "zope.security",
    "zope.site",
    "zope.traversing",
]

# The application of `remotetask run`: the ZMI, pages for people and a web server.
APP = [
    "ZConfig",
    "waitress",
    "zc.lockfile",
    "zope.app.appsetup",
    "zope.app.publication",
    "zope.app.wsgi",
    "zope.app.zcmlfiles",
    "zope.browsermenu",
    "zope.browserpage",
    "zope.browserresource",
    "zope.i18n",
    "zope.login",
    "zope.password",
    "zope.principalregistry",
    "zope.publisher",
    "zope.securitypolicy",
    "zope.session",
]

# The example in examples/library.
LIBRARY = ["zope.index"]

ZEO = ["ZEO >= 6"]

# Its own extra names psycopg2, which wants a compiler and PostgreSQL's headers.
RELSTORAGE = ["RelStorage[sqlite3] >= 4", "psycopg2-binary"]

# Figures for Prometheus at <service>/api/v1/metrics.
METRICS = ["prometheus-client"]

# What benchmarks/peers.py compares with.
PEERS = ["celery", "dramatiq", "huey", "procrastinate", "psycopg[binary]", "redis",
         "rq"]

LINT = ["mypy", "ruff"]

TEST = ["greenlet", "hypothesis", "python-gettext", "schemathesis >= 4",
        "zope.app.locales[extract]",
        "zope.testbrowser", "zope.testing", "zope.testrunner >= 6"]

setup(
    name="lovely.remotetask",
    version="1.0.dev0",
    description="Background jobs that commit with your data, in a ZODB",
    long_description=text("README.txt") + "\n\n" + text("CHANGES.txt"),
    long_description_content_type="text/x-rst",
    author="The lovely.remotetask contributors",
    license="ZPL-2.1",
    license_files=["LICENSE.txt"],
    keywords="zope zodb task queue job cron background worker",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Web Environment",
        "Framework :: ZODB",
        "Framework :: Zope",
        "Framework :: Zope :: 3",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
    packages=find_namespace_packages("src"),
    package_dir={"": "src"},
    # Texts, ZCML and templates: MANIFEST.in names them once.
    include_package_data=True,
    zip_safe=False,
    python_requires=">=3.11",
    install_requires=CORE,
    extras_require={
        "app": APP,
        "zmi": APP,
        "zeo": ZEO,
        "relstorage": RELSTORAGE,
        "library": LIBRARY,
        "metrics": METRICS,
        "lint": LINT,
        "bench": APP + LIBRARY,
        "peers": PEERS,
        "test": TEST + APP + ZEO + LIBRARY + METRICS + RELSTORAGE,
    },
    entry_points={
        "console_scripts": ["remotetask = lovely.remotetask.cli:main"],
    },
)
