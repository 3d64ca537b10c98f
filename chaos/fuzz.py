"""Ten thousand requests that mean nothing good (C48, G7), as five people.

Pages, XML-RPC, JSON and the pages of the ZMI are asked for by nobody in particular,
a viewer, a submitter, an operator and a manager, with values that are wrong, foreign,
huge or clever; a part of them over a real connection.  Then: no answer of 500, nothing
uncaught, nothing shown or changed that the table of permissions does not allow, nothing
changed by a GET or for another site, no script of a stranger on a page.  At the end, how
long the worst MiB of a caller takes who has not even logged in (F12).
"""
import http.client
import json
import logging
import re
import sys
import time
import traceback
import xmlrpc.client
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import harness  # noqa: E402
from lovely.remotetask import processor  # noqa: E402
from lovely.remotetask.app.web import WebServer, calm  # noqa: E402
from lovely.remotetask.guard.requests import QUERY_LIMIT  # noqa: E402
from lovely.remotetask.http.routes import ROUTES  # noqa: E402
from lovely.remotetask.http.xmlrpc import METHODS  # noqa: E402
from lovely.remotetask.job import CronJob  # noqa: E402
from lovely.remotetask.task import TaskError  # noqa: E402
from lovely.remotetask.tests import permissions  # noqa: E402
from lovely.remotetask.tests.house import FORM, JSON, SERVICE, XML, Answer, House  # noqa: E402
from lovely.remotetask.tests.people import acting_as  # noqa: E402

EVERYBODY = permissions.EVERYBODY
P99_SECONDS = 0.25
WORST_SECONDS = 0.05
MIB = 2**20
ON_THE_WIRE = 0.1     # of all requests
SHOWN = 10            # violations told in full

SCRIPT = "<script>fuzz()</script>"
FAULT_500 = re.compile(r"<name>faultCode</name>\s*<value><int>500<")
PRIVATE = re.compile(r"private-(\w+)-of-(\w+)")
NASTY = (
    "", " ", "0", "-1", "1", "17", "2147483648", "9" * 40, "1e400", "NaN", "null", "a",
    SCRIPT, "\"><img src=x onerror=fuzz()>", "javascript:fuzz()", "'; drop table jobs; --",
    "${7*7}", "{{7*7}}", "python:1/0", "../../etc/passwd", "..", "%00", "\x00", "\r\nX-Fuzz: 1",
    "\ud800", "\u202e", "ä", "\U0001f4a9", "A" * 300, "A" * 20_000, "queued", "error",
    "work", "fail", "@@manage", "++vh++http:evil.example:80", "++skin++RemoteTask",
    "zope.security.management.system_user", "manager", "*/5 * * * *", "@daily", "0 0 30 2 *",
    "UTC", "Europe/Berlin", "2027-01-31T13:30", "2027-01-31T13:30:00+00:00", "9999-12-31",
    "1:1", "-1:-1", "cancel", "retry", "remove", "go:cancel", "matching:remove")
FIELDS = (
    "do ids state task owner tag text since until size sort after at before number seen "
    "whole done title priority tags delay startAt startBefore timeout retries schedule "
    "timezone minute hour dayOfMonth month dayOfWeek missed overlap input copy name by "
    "threads worker prefetch max_threads secret_names waiting_limit").split()
SUFFIXES = ("", "", "", "", ":int", ":float", ":list", ":tuple", ":record", ":method",
            ":default_method", ":required", ":lines", ":tokens", ":boolean", ":date")
ZMI = ("/", "/@@contents.html", "/@@SelectedManagementView.html", "/@@grant.html",
       "/@@login.html", "/@@undo.html", "/++etc++process/@@ServerControl.html",
       "/++etc++site/@@contents.html", "/++etc++site/default/@@contents.html",
       "/++skin++RemoteTask/", "/@@services.html", "/++etc++site/default/@@+/action.html",
       "/++apidoc++/", "/@@absolute_url", "/manage", SERVICE + "/@@registration.html")


class Asked(NamedTuple):
    """A request, and what it may do."""

    method: str
    path: bytes
    who: str
    body: bytes = b""
    headers: dict = {}
    query: str = ""
    kind: str = "page"

    @property
    def may_change(self):
        """Whether it is of the sort that changes things at all."""
        return self.method not in ("GET", "HEAD", "OPTIONS") and self.of_own_site

    @property
    def of_own_site(self):
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = self.headers.get("Origin") or self.headers.get("Referer")
        if origin is not None:
            return origin.startswith("http://127.0.0.1:8080")
        return self.method != "POST" or self.headers.get(
            "Content-Type", "").split(";")[0] in ("application/json", "text/xml")


class Fuzzer:
    """Makes requests; everything by chance of one seed."""

    def __init__(self, chance, ids):
        self.chance, self.ids = chance, ids
        self.buttons = [row.name.removeprefix("schedule ").split()
                        for row in permissions.buttons()]
        self.pages = [row.name.rpartition(" ") for row in permissions.pages()
                      if " " in row.name]

    def request(self) -> Asked:
        make = self.chance.choices(
            (self.page, self.button, self.call, self.route, self.zmi, self.odd),
            (4, 5, 4, 5, 1, 2))[0]
        asked = make(self.chance.choice(EVERYBODY))
        if asked.kind in ("page", "odd") and self.chance.random() < 0.3:
            asked = asked._replace(path=b"/++skin++RemoteTask" + asked.path)
        headers = {**asked.headers, **self.site()}
        if self.chance.random() < 0.05:
            headers[self.chance.choice((
                "Content-Type", "Accept-Language", "Accept-Charset", "Cookie", "Host",
                "If-Match", "If-None-Match", "Idempotency-Key", "Origin", "Referer",
                "X-Forwarded-Host", "Authorization", "Range", "X-HTTP-Method-Override",
                "Content-Length", "Accept", "X-Remotetask-Live"))] = self.header_value()
        return asked._replace(headers=headers)

    def site(self):
        """Where it says to come from: our own site nine times of twelve."""
        return self.chance.choices((
            {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"},
            {"Origin": "http://127.0.0.1:8080"},
            {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {}),
            (5, 2, 2, 1, 1, 1))[0]

    def header_value(self):
        word = self.chance.choice(NASTY)
        return re.sub("[^\x20-\x7e]", "?", word)[:2_000]

    def id(self):
        return str(self.chance.choice(self.ids)) if self.chance.random() < 0.85 \
            else self.chance.choice(NASTY)

    def value(self):
        if self.chance.random() < 0.5:
            return self.id()
        return self.chance.choice(NASTY)

    def path(self, *parts):
        """A path as bytes, with nothing escaped: as it comes out of the wire."""
        text = "/".join(str(part) for part in parts)
        path = text.encode("utf-8", "surrogatepass")
        if self.chance.random() < 0.02:
            path += bytes([self.chance.randrange(1, 256) for _ in range(3)])
        return path

    def form(self, button=None):
        pairs = [] if button is None else [("do", button)]
        for _ in range(self.chance.randrange(5)):
            pairs.append((self.chance.choice(FIELDS) + self.chance.choice(SUFFIXES),
                          self.value()))
        return "&".join(f"{quote(name)}={quote(value, errors='surrogatepass')}"
                        for name, value in pairs)

    def place(self, what, name):
        if what in ("IJob", "ICronJob"):
            return self.path(SERVICE, self.id(), name)
        return self.path(SERVICE if what == "ITaskService" else "", name)

    def page(self, who):
        what, _, name = self.chance.choice(self.pages)
        return Asked(self.chance.choice(("GET", "GET", "HEAD", "POST")),
                     self.place(what, name), who, query=self.form())

    def button(self, who):
        page, button = self.chance.choice(self.buttons)
        of_job = page in ("job.html", "editjob", "undo.html")
        place = self.path(SERVICE, *([self.id()] if of_job else []), page)
        if self.chance.random() < 0.5:
            button = f"{button}:{self.id()}"
        fields = self.form(button) + (
            f"&ids={self.id()}" if self.chance.random() < 0.5 else "")
        body = fields.encode("utf-8", "replace")
        if self.chance.random() < 0.15:
            return Asked("GET", place, who, query=fields)
        if self.chance.random() < 0.1:
            body = (b"--b\r\nContent-Disposition: form-data; name=\"do\"\r\n\r\n"
                    + button.encode("utf-8", "replace") + b"\r\n--b--\r\n")
            return Asked("POST", place, who, body, {
                "Content-Type": "multipart/form-data; boundary=b"})
        return Asked("POST", place, who, body, {"Content-Type": FORM["Content-Type"]})

    def plain(self, depth=0):
        """A value for JSON and XML-RPC."""
        kind = self.chance.randrange(9 if depth < 4 else 6)
        if kind < 2:
            return re.sub("[\ud800-\udfff\x00]", "?", self.chance.choice(NASTY))
        if kind < 4:
            return self.chance.choice((0, 1, -1, 2**31 - 1, -2**31, self.chance.choice(self.ids)))
        if kind == 4:
            return self.chance.choice((None, True, False))
        if kind == 5:
            return self.chance.choice((0.5, -1e300, 1e-300))
        if kind < 8:
            return [self.plain(depth + 1) for _ in range(self.chance.randrange(4))]
        return {re.sub("[\ud800-\udfff\x00]", "?", self.chance.choice(FIELDS + list(NASTY[:20]))):
                self.plain(depth + 1) for _ in range(self.chance.randrange(4))}

    def call(self, who):
        name = self.chance.choice(list(METHODS)) if self.chance.random() < 0.9 \
            else re.sub("[^ -~]", "", self.chance.choice(NASTY))
        arguments = {
            "add": lambda: (self.chance.choice(("work", "fail", "none")), self.plain(),
                            {"title": "x"} if self.chance.random() < 0.5 else self.plain()),
            "system.multicall": lambda: ([{"methodName": self.chance.choice(list(METHODS)),
                                           "params": [self.chance.choice(self.ids)]}],),
        }.get(name, lambda: (self.chance.choice(self.ids),))()
        if self.chance.random() < 0.3:
            arguments = tuple(self.plain() for _ in range(self.chance.randrange(4)))
        body = xmlrpc.client.dumps(arguments, name, allow_none=True).encode(
            "utf-8", "replace")
        return Asked("POST", self.path(SERVICE), who, self.broken(body), XML, kind="call")

    def broken(self, body):
        """Now and then with some bytes changed, cut, doubled, or declared."""
        chance = self.chance.random()
        if chance < 0.75:
            return body
        where = self.chance.randrange(len(body) + 1)
        if chance < 0.85:
            return body[:where] + bytes([self.chance.randrange(256)]) + body[where + 1:]
        if chance < 0.9:
            return body[:where]
        if chance < 0.95:
            return body[:where] + body[where // 2:]
        return b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + body if self.chance.random() < 0.5 \
            else b"[" * self.chance.choice((60, 100_000)) + body

    def route(self, who):
        route = self.chance.choice(ROUTES)
        if route.path == "events":
            route = ROUTES[0]
        method = route.method if self.chance.random() < 0.9 else self.chance.choice(
            ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "FUZZ"))
        path = route.path.replace("{id}", self.id()).replace("{name}", self.value())
        body, headers = b"", {}
        if route.body is not None or self.chance.random() < 0.1:
            value = {"task": self.chance.choice(("work", "fail", "none"))}
            if route.path.startswith("schedules"):
                value = {"minute": [self.chance.randrange(60)], **(
                    value if method == "POST" else {})}
            for _ in range(self.chance.choice((0, 0, 0, 1, 2))):
                value[self.chance.choice(FIELDS)] = self.plain()
            if self.chance.random() < 0.1:
                value = self.plain()
            body = self.broken(json.dumps(value).encode())
            headers = dict(JSON) if self.chance.random() < 0.9 else {
                "Content-Type": self.chance.choice((
                    "text/plain", "", "text/xml", FORM["Content-Type"]))}
        query = self.form() if self.chance.random() < 0.3 else ""
        return Asked(method, self.path(SERVICE, "api/v1", path), who, body, headers, query,
                     "route")

    def zmi(self, who):
        return Asked(self.chance.choice(("GET", "POST", "PUT", "OPTIONS")),
                     self.path(self.chance.choice(ZMI)), who, query=self.form(), kind="zmi")

    def odd(self, who):
        parts = [self.chance.choice((*NASTY, "++etc++site", "default", "tasks", "api", "v1",
                                     "@@jobs.html", "++resource++remotetask", "jobs",
                                     "__class__", "_p_jar", "settings", "addCronJob"))
                 for _ in range(self.chance.randrange(1, 5))]
        base = self.chance.choice(("", SERVICE, SERVICE + "/api/v1"))
        return Asked(self.chance.choice(("GET", "POST", "PUT", "DELETE", "HEAD")),
                     self.path(base, *parts), who, query=self.form(), kind="odd")


class Oracle:
    """Looks at what was there before and is there now, and at each answer."""

    def __init__(self, house, failed):
        self.house, self.failed = house, failed
        self.violations: dict[str, list[str]] = {}
        self.state, self.tid = self.look(), house.tid()

    def look(self):
        with self.house.service() as service:
            return dict(
                jobs={id: (job.owner, job.recordedStatus, job.token, job.title, job.task,
                           isinstance(job, CronJob), repr(getattr(job, "runs", ())[-1:]),
                           getattr(job, "paused", None))
                      for id, job in service.jobs.items()},
                settings=dict(service.settings), processing=service.isProcessing(),
                paused=service.isPaused())

    def blame(self, what, asked, told):
        self.violations.setdefault(what, []).append(
            f"{what}: {asked.who} {asked.method} {asked.path!r} ?{asked.query[:200]} "
            f"{asked.headers} {asked.body[:300]!r} -> {told}")

    def judge(self, asked, answer):
        body = answer.text
        if answer.status >= 500 and not asked.path.endswith(b"/health/ready") \
                or FAULT_500.search(body):
            self.blame("answers of 500", asked, f"{answer.status} {body[-300:]!r} "
                       f"{self.failed.last}")
        if "Unexpected Zope" in body:
            self.blame("uncaught", asked, body[:500])
        for record in self.house.errors.records:
            if calm(record) and record.exc_info:
                self.blame("uncaught", asked, told(record.exc_info))
        self.house.errors.records.clear()
        if "html" in answer.headers.get("content-type", "") and (
                SCRIPT in body or "<img src=x" in body):
            self.blame("scripts of strangers", asked, body[:300])
        if "x-fuzz" in answer.headers:
            self.blame("headers of strangers", asked, str(answer.headers))
        for _, owner in PRIVATE.findall(body):
            if asked.who not in ("operator", "manager", owner) or asked.who == "viewer":
                self.blame("leaks", asked, f"what is private of {owner}")
        if asked.who == "anonymous" and answer.status == 200 and not self.is_public(
                asked, answer):
            self.blame("leaks", asked, f"200 {answer.headers} {body[:300]}")
        if answer.headers.get("access-control-allow-origin"):
            self.blame("leaks", asked, "other sites may read it")
        self.judge_change(asked)

    def is_public(self, asked, answer):
        """Style and pictures, the empty heads, and what says no in XML."""
        kind = answer.headers.get("content-type", "")
        return b"++resource++" in asked.path or b"/@@/" in asked.path \
            or b"@@absolute_url" in asked.path or b"login" in asked.path \
            or not answer.body or kind.startswith(("text/css", "image/", "text/javascript"))

    def judge_change(self, asked):
        if asked.who == "manager" and asked.may_change:
            # May have started a processor here, which then changes things itself.
            processor.stop_all(self.house.db, grace=10)
            self.state, self.tid = self.look(), self.house.tid()
            return
        tid = self.house.tid()
        if tid == self.tid:
            return
        before, self.state, self.tid = self.state, self.look(), tid
        self.tid = self.house.tid()
        if asked.method in ("GET", "HEAD", "OPTIONS"):
            self.blame("changes by GET", asked, "the database has changed")
        elif not asked.of_own_site:
            self.blame("changes from another site", asked, "the database has changed")
        for told in self.too_much(asked.who, before, self.state):
            self.blame("leaks", asked, told)

    def too_much(self, who, before, after):
        """What this one may not have changed."""
        if who in ("anonymous", "viewer"):
            yield "changed something"
        if who == "manager":
            return
        for name in "settings", "processing", "paused":
            if before[name] != after[name]:
                yield f"changed {name}"
        old, new = before["jobs"], after["jobs"]
        for id in new.keys() - old.keys():
            if new[id][0] != who and not (who == "operator" and self.is_run(id)):
                yield f"made a job for {new[id][0]}"
            if new[id][5] and who != "operator":
                yield "made a schedule"
        for id in old.keys() - new.keys():
            if not (who == "operator" and old[id][5]):
                yield f"removed job {id}"
        for id in old.keys() & new.keys():
            if old[id] != new[id] and who == "submitter" and old[id][0] != who:
                yield f"changed job {id} of {old[id][0]}"

    def is_run(self, id):
        with self.house.service() as service:
            return service.jobs[id].isRun


def told(exc_info):
    """An exception in one line, with the last places of ours and of others."""
    places = [f"{Path(each.filename).name}:{each.lineno}"
              for each in traceback.extract_tb(exc_info[2])[-4:]]
    return f"{exc_info[0].__name__}: {str(exc_info[1])[:200]} ({' '.join(places)})"


class Failed(logging.Handler):
    """What went wrong inside of the JSON and XML-RPC interfaces, and was told as 500."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record):
        lines = record.getMessage().splitlines()
        self.last = " ".join(line.strip(" |") for line in lines[-3:])


class Wire:
    """The same application behind a real server."""

    def __init__(self, house):
        self.server = WebServer("127.0.0.1", 0, threads=2)
        self.server.start(house.db)

    def ask(self, asked) -> Answer:
        host = f"127.0.0.1:{self.server.port}"
        target = quote(asked.path) + (f"?{asked.query}" if asked.query else "")
        headers = {name: value.replace("127.0.0.1:8080", host)
                   for name, value in asked.headers.items() if name != "Content-Length"}
        if asked.who != "anonymous":
            headers.setdefault("Authorization", "Basic " + xmlrpc.client.base64.b64encode(
                f"{asked.who}:{asked.who}".encode()).decode())
        connection = http.client.HTTPConnection(host, timeout=60)
        try:
            connection.request(asked.method, target or "/", asked.body or None, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {
                name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def close(self):
        self.server.stop()


def furnish(house):
    """Jobs of everybody in every state, each with something private in it."""
    def fail(input):
        raise TaskError(f"private-error-of-{input['owner']}")

    house.task("work", lambda input: {"said": f"private-output-of-{input['owner']}"}
               if isinstance(input, dict) and "owner" in input else None)
    house.task("fail", lambda input: fail(input) if isinstance(input, dict)
               and "owner" in input else None)
    ids = []
    for owner in ("submitter", "operator", "manager"):
        with house.service() as service, acting_as(owner):
            private = {"owner": owner, "word": f"private-input-of-{owner}"}
            ids += [service.add(task, private) for task in ("work", "fail") for _ in "123"]
        with house.service() as service:
            service.process()
        with house.service() as service, acting_as(owner):
            ids += [service.add("work", private) for _ in "1234"]
            ids += [service.add("work", private, startLater=True) for _ in "12"]
            ids += [service.add("work", private, delay=3_600) for _ in "12"]
            ids.append(service.addCronJob("work", private, minute=(0,)))
            cancelled = service.add("work", private)
            service.cancel(cancelled)
            ids.append(cancelled)
    return ids


def worst(house):
    """Seconds of a thread that the slowest body of one MiB takes, of somebody who has
    not logged in: its own, whatever else the machine does."""
    head = b"<?xml version='1.0'?><methodCall><methodName>"
    multipart = {"Content-Type": "multipart/form-data; boundary=b", "Sec-Fetch-Site": "none"}
    cases = [(XML, piece) for piece in (b"a\n", b"\n", b"<a/>", b"<a>", b"&lt;", b"a")]
    cases += [(FORM, piece) for piece in (
        b"&", b"a", b"a=&", b"x:int=1&", b"%41", b"a:list=1&", b"+", b"a.b:record=1&")]
    cases += [(multipart, piece) for piece in (
        b"\r\n--b", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n",
        b"\n", b"--b\r\n")]
    found = {}
    for headers, piece in cases:
        body = (head if headers is XML else b"") + piece * (MIB // len(piece))
        taken = []
        for _ in range(5):
            begun = time.thread_time()
            answer = house.ask("POST", SERVICE, None, body[:MIB], headers)
            taken.append(time.thread_time() - begun)
        assert answer.status in (400, 401, 413), (answer.status, piece)
        found[headers["Content-Type"].split(";")[0], piece] = min(taken)
    for piece in ("&", "a=&", "x:int=1&", "%41"):
        taken = []
        for _ in range(5):
            begun = time.thread_time()
            house.ask("GET", SERVICE, None, query=piece * (QUERY_LIMIT // len(piece)))
            taken.append(time.thread_time() - begun)
        found["query", piece] = min(taken)
    return found


def main():
    options = harness.arguments(
        __doc__, storages=("memory",), default="memory",
        requests=(10_000, 1_000, "how many"))
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    logging.getLogger("lovely.remotetask").propagate = False
    logging.getLogger("lovely.remotetask").addHandler(failed := Failed())
    house = House()
    wire = Wire(house)
    report = harness.Report(f"{options.requests} requests as five people", options)
    try:
        ids = furnish(house)
        fuzzer, oracle = Fuzzer(options.chance, ids), Oracle(house, failed)
        taken, statuses, kinds = [], Counter(), Counter()
        for number in range(options.requests):
            asked = fuzzer.request()
            begun = time.perf_counter()
            try:
                on_wire = options.chance.random() < ON_THE_WIRE
                answer = wire.ask(asked) if on_wire else house.ask(
                    asked.method, asked.path, asked.who, asked.body, asked.headers,
                    asked.query)
            except (OSError, http.client.HTTPException, UnicodeError, ValueError):
                if not on_wire:
                    raise
                statuses["not sent"] += 1
                continue
            taken.append(time.perf_counter() - begun)
            statuses[str(answer.status)] += 1
            kinds[asked.kind] += 1
            oracle.judge(asked, answer)
            if number % 500 == 499:
                processor.stop_all(house.db, grace=10)
                with house.service() as service:
                    service.resumeProcessing()
                    service.process()
                oracle.state, oracle.tid = oracle.look(), house.tid()
        slow = worst(house)
    finally:
        wire.close()
        house.close()
    report.note("answers", statuses.elements())
    report.note("asked for", kinds.elements())
    for what in ("answers of 500", "uncaught", "leaks", "changes by GET",
                 "changes from another site", "scripts of strangers",
                 "headers of strangers"):
        found = oracle.violations.get(what, [])
        report.add(what, len(found), "0", not found)
        report.texts.extend(found[:SHOWN])
    report.times("a request", taken, p99=P99_SECONDS)
    (kind, piece), seconds = max(slow.items(), key=lambda each: each[1])
    report.add("the worst MiB of nobody", f"{seconds * 1_000:.1f} ms",
               f"{WORST_SECONDS * 1_000:.0f} ms", seconds <= WORST_SECONDS)
    xml = max(value for (what, _), value in slow.items() if what == "text/xml")
    report.add("the worst of them in XML-RPC", f"{xml * 1_000:.1f} ms",
               f"{WORST_SECONDS * 1_000:.0f} ms", xml <= WORST_SECONDS)
    report.notes.append(f"the worst MiB: {kind}, {piece!r} again and again")
    return report.show()


if __name__ == "__main__":
    harness.command(main)
