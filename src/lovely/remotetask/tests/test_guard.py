"""What is let in: methods, sites, types, sizes, shapes; and what answers carry."""
import io
import json
import time
import unittest
import xmlrpc.client
from unittest import mock

from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies
from zope.publisher.browser import TestRequest

from lovely.remotetask import guard, settings
from lovely.remotetask.guard import body, call, origin, requests
from lovely.remotetask.tests import people
from lovely.remotetask.tests.people import acting_as
from lovely.remotetask.tests.support import ServiceCase


def request(method="POST", data=b"", **headers):
    environ = {"REQUEST_METHOD": method, "HTTP_HOST": "tasks.example:8080",
               "CONTENT_LENGTH": str(len(data)), **headers}
    return TestRequest(io.BytesIO(data), environ)


class TheSite(unittest.TestCase):
    """A change is refused when a page of another site may have asked for it."""

    def allowed(self, **headers):
        try:
            origin.require_change(request(**headers))
        except guard.ForeignSite:
            return False
        return True

    def test_the_word_of_the_browser_decides(self):
        for word, good in {"same-origin": True, "none": True, "Same-Origin": True,
                           "same-site": False, "cross-site": False, "odd": False}.items():
            self.assertIs(self.allowed(HTTP_SEC_FETCH_SITE=word), good, word)

    def test_it_counts_more_than_what_else_is_said(self):
        self.assertFalse(self.allowed(HTTP_SEC_FETCH_SITE="cross-site",
                                      HTTP_ORIGIN="http://tasks.example:8080"))

    def test_of_older_browsers_origin_and_referer_are_compared_with_the_host(self):
        for source, good in {
                "http://tasks.example:8080": True, "https://tasks.example:8080": True,
                "http://TASKS.example:8080": True, "http://tasks.example": False,
                "http://tasks.example:8081": False, "http://evil.example:8080": False,
                "http://tasks.example:8080@evil.example": False,
                "http://evil.example/tasks.example:8080": False, "null": False,
                "//tasks.example:8080": False, "ftp://tasks.example:8080": False,
                "http://[": False, "http://tasks.example:99999": False}.items():
            self.assertIs(self.allowed(HTTP_ORIGIN=source), good, source)
            self.assertIs(self.allowed(HTTP_REFERER=source + "/x.html"),
                          good and "evil" not in source, source)

    def test_a_port_that_the_scheme_implies_need_not_be_named(self):
        for host in "tasks.example", "tasks.example:443", "tasks.example:80":
            for source in "https://tasks.example", "https://tasks.example:443":
                self.assertTrue(self.allowed(HTTP_HOST=host, HTTP_ORIGIN=source))

    def test_a_path_that_names_a_host_is_not_believed(self):
        """++vh++ in the path makes every URL of the answer; anybody can write it."""
        asked = request(HTTP_ORIGIN="http://evil.example")
        asked.setApplicationServer("evil.example", "http", "80")
        self.assertIn("evil.example", asked.getApplicationURL())
        with self.assertRaises(guard.ForeignSite):
            origin.require_change(asked)

    def test_names_that_a_proxy_changes_are_a_setting(self):
        named = settings.process().changed({"own_hosts": "a.example public.example:444"})
        with mock.patch.object(settings, "process", lambda: named):
            self.assertTrue(self.allowed(HTTP_ORIGIN="https://a.example"))
            self.assertTrue(self.allowed(HTTP_ORIGIN="https://public.example:444"))
            self.assertFalse(self.allowed(HTTP_ORIGIN="https://public.example"))

    def test_a_form_of_which_nothing_tells_the_page_is_refused(self):
        for kind in ("", "application/x-www-form-urlencoded", "text/plain",
                     "multipart/form-data; boundary=x", "TEXT/PLAIN"):
            self.assertFalse(self.allowed(CONTENT_TYPE=kind), kind)

    def test_what_no_page_can_send_unasked_is_let_in(self):
        for kind in "application/json", "text/xml":
            self.assertTrue(self.allowed(CONTENT_TYPE=kind), kind)
        origin.require_change(request("DELETE"), "DELETE")

    def test_other_methods_than_those_named_are_refused_and_the_right_one_told(self):
        for method in "GET", "HEAD", "PUT", "DELETE", "OPTIONS":
            with self.assertRaises(guard.MethodNotAllowed) as caught:
                origin.require_change(request(method, HTTP_SEC_FETCH_SITE="none"))
            self.assertEqual(caught.exception.headers, {"Allow": "POST"})


class TheBody(unittest.TestCase):

    def read(self, data, **headers):
        return guard.json_body(request(
            data=data, CONTENT_TYPE="application/json; charset=utf-8", **headers))

    def refused(self, data, error=guard.BadRequest):
        with self.assertRaises(error) as caught:
            self.read(data)
        return str(caught.exception)

    def test_json_comes_as_it_is(self):
        for value in (None, True, 5, -2**63, 2**63 - 1, 1.5, "ä\n", [], {},
                      {"a": [1, {"b": "[{\"\\"}]}):
            self.assertEqual(self.read(json.dumps(value).encode()), value)

    def test_another_content_type_is_refused_before_anything_is_read(self):
        for kind in "", "text/plain", "application/x-www-form-urlencoded", "text/json":
            with self.assertRaises(guard.WrongContentType):
                guard.json_body(request(data=b"{}", CONTENT_TYPE=kind))

    def test_more_bytes_than_the_limit_are_not_read(self):
        asked = request(data=b"[]", CONTENT_TYPE="application/json",
                        CONTENT_LENGTH=str(body.BODY_LIMIT + 1))
        with self.assertRaises(guard.TooLarge):
            guard.json_body(asked)
        self.assertEqual(asked.bodyStream.cacheStream.tell(), 0)

    def test_a_body_of_unknown_length_is_read_up_to_the_limit(self):
        stream = io.BytesIO(b"x" * (body.BODY_LIMIT + 100))
        asked = TestRequest(stream, {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "",
                                     "CONTENT_TYPE": "application/json"})
        with self.assertRaises(guard.TooLarge):
            guard.json_body(asked)
        self.assertEqual(stream.tell(), body.BODY_LIMIT + 1)

    def test_a_body_can_be_read_again_when_the_request_is_repeated(self):
        asked = request(data=b"[1]", CONTENT_TYPE="application/json")
        self.assertEqual(guard.json_body(asked), [1])
        self.assertEqual(guard.json_body(asked.retry()), [1])

    def test_what_hides_something_is_refused(self):
        for text in ('{"a": 1, "a": 2}', "NaN", "[Infinity]", "-Infinity", "1e999",
                     '"\\ud800"', '"a\\u0000b"', '{"\\u0007": 1}', '"\\u007f"',
                     "9" * 5_000, str(2**63), str(-2**63 - 1), "[1,]", "", "{", "'a'",
                     "\ufeff1"):
            self.refused(text.encode())
        self.refused(b'"\xff"')
        self.refused(b"\xff\xfe1\x00")

    def test_what_is_too_deep_or_has_too_many_values_is_refused(self):
        depth = body.DEPTH_LIMIT
        self.read(b"[" * depth + b"]" * depth)
        for text in ("[" * (depth + 1) + "]" * (depth + 1), "[" * 100_000,
                     '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000,
                     "[" + "1," * body.NODE_LIMIT + "1]", "[" + "[]," * 100_000 + "1]",
                     '"' + "a" * (body.TEXT_LIMIT + 1) + '"'):
            self.refused(text.encode())

    def test_brackets_in_texts_are_no_depth(self):
        value = ["[" * 1_000, '"[{\\"', "\\"]
        self.assertEqual(self.read(json.dumps(value).encode()), value)

    @profile(max_examples=200, deadline=None)
    @given(strategies.binary(max_size=200) | strategies.text("[]{}\",:\\0aeE.-ud8 \n",
                                                             max_size=60).map(str.encode))
    def test_any_bytes_are_a_value_or_refused(self, data):
        try:
            value = body.json_value(data)
        except guard.BadRequest:
            return
        self.assertEqual(json.loads(data), value)


def text_of(*arguments, method="echo"):
    return xmlrpc.client.dumps(arguments, method, allow_none=True).encode()


class TheCall(unittest.TestCase):
    """XML-RPC, read by our own reader."""

    def refused(self, data):
        with self.assertRaises(guard.BadRequest):
            call.read_call(data)

    def test_arguments_and_the_name_in_parts(self):
        values = (1, -5, True, None, 2.5, "ä<&>", b"\0bytes", [1, [2]], {"a": {"b": []}})
        self.assertEqual(call.read_call(text_of(*values, method="system.listMethods")),
                         (values, ["system", "listMethods"]))

    def test_what_is_declared_is_not_read(self):
        for head in ("<!DOCTYPE a>", '<!DOCTYPE a [<!ENTITY b "c">]>',
                     '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
                     '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://a.example/"> %x;]>'):
            self.refused(b'<?xml version="1.0"?>' + head.encode()
                         + text_of(1).split(b"?>", 1)[1])

    def test_what_is_no_call_is_refused(self):
        for data in (b"", b"x", b"<a>", b"<a/>", b"<methodCall/>", b"\xff\xfe",
                     b"<methodCall><methodName>a</methodName>",
                     xmlrpc.client.dumps((1,), methodresponse=True).encode(),
                     xmlrpc.client.dumps(xmlrpc.client.Fault(1, "x")).encode(),
                     text_of(1).replace(b"<int>1", b"<int>one"),
                     text_of(1).replace(b"<int>1", b"<int>" + b"9" * 5_000),
                     text_of(1).replace(b"int>", b"i8>").replace(b"1", b"9" * 30),
                     text_of(1).replace(b"int>", b"bigdecimal>"),
                     text_of(1.5).replace(b"1.5", b"nan"),
                     text_of(1.5).replace(b"1.5", b"1e999"),
                     text_of(True).replace(b"1<", b"2<"),
                     text_of(b"x").replace(b"eA==", b"\xc3\xa4"),
                     b"<methodCall><methodName>a</methodName><params><param><value>"
                     b"<dateTime.iso8601>yesterday</dateTime.iso8601></value></param>"
                     b"</params></methodCall>"):
            self.refused(data)

    def test_names_lead_to_methods_and_nowhere_else(self):
        for name in ("", "a b", "++vh++http:evil.example:80", "@@manage", "..", "a..b",
                     "a/b", ".", "1a", "a." * 20 + "a", "a" * 200, "\xe4"):
            self.refused(text_of(method=name))

    def test_depth_and_number_are_bounded(self):
        deep = []
        for _ in range(100):
            deep = [deep]
        self.refused(text_of(deep))
        self.refused(text_of([0] * 20_000))
        self.refused(text_of("x" * (body.TEXT_LIMIT + 1)))
        self.refused(b"<a>" * 300_000)

    @profile(max_examples=200, deadline=None)
    @given(strategies.binary(max_size=80) | strategies.lists(strategies.sampled_from(
        "<methodCall> <methodName> </methodName> a <params> <param> <value> </value> "
        "<int> 1 </int> <array> <data> </data> </array> <struct> <member> <name> b </name> "
        "</member> </struct> <base64> <nil/> </param> </params> </methodCall> "
        "<dateTime.iso8601> <double>".split()), max_size=40).map(
            lambda words: "".join(words).encode()))
    def test_any_bytes_are_a_call_or_refused(self, data):
        try:
            call.read_call(data)
        except guard.BadRequest:
            pass

    def test_its_time_grows_with_its_length_and_no_faster(self):
        """zope.publisher's own reader takes four times as long for twice as much."""
        def seconds(data):
            best = 1e9
            for _ in range(3):
                begun = time.thread_time()
                try:
                    call.read_call(data)
                except guard.BadRequest:
                    pass
                best = min(best, time.thread_time() - begun)
            return best

        for piece in b"a\n", b"\n", b"<a>\n</a>", b"&lt;\n":
            head = b"<methodCall><methodName>"
            short, long = (seconds(head + piece * (size // len(piece)))
                           for size in (2**17, 2**20))
            self.assertLess(long, 30 * max(short, 0.002), piece)


class TheRequest(unittest.TestCase):
    """What cannot be read is a BadRequest when it is read, nothing before."""

    def trouble(self, kind=requests.BrowserRequest, data=b"", **environ):
        asked = kind(io.BytesIO(data), {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_HOST": "x", **environ})
        with self.assertRaises(guard.Refusal) as caught:
            asked.processInputs()
        return caught.exception.status

    def test_fields_that_are_not_what_they_say(self):
        for query in ("x:int=a", "x:float=", "x:required=", "x:long=1.5", "x:int=",
                      "x:tokens:int=a"):
            self.assertEqual(self.trouble(QUERY_STRING=query), 400, query)

    def test_paths_and_headers_that_are_none(self):
        for environ in (dict(PATH_INFO="/\xff\xfe"), dict(PATH_INFO="/a\0b"),
                        dict(PATH_INFO="/a\r\nSet-Cookie: x"),
                        dict(HTTP_HOST='x"><script>'), dict(HTTP_HOST="a b"),
                        dict(CONTENT_LENGTH="five"), dict(CONTENT_LENGTH="-5")):
            for kind in (requests.BrowserRequest, requests.HTTPRequest,
                         requests.XMLRPCRequest):
                self.assertEqual(self.trouble(kind, **environ), 400, environ)

    def test_a_body_that_is_too_large_is_not_read(self):
        for kind, limit in ((requests.BrowserRequest, requests.FORM_LIMIT),
                            (requests.XMLRPCRequest, body.BODY_LIMIT)):
            self.assertEqual(self.trouble(
                kind, REQUEST_METHOD="POST", CONTENT_LENGTH=str(limit + 1),
                CONTENT_TYPE="text/xml"), 413)
        self.assertEqual(self.trouble(
            QUERY_STRING="a=&" * (requests.QUERY_LIMIT // 3 + 1)), 414)
        for digits in "9" * 30, "9" * 10_000:
            self.assertEqual(self.trouble(CONTENT_LENGTH=digits), 413)

    def test_a_form_with_files_may_be_larger(self):
        asked = requests.BrowserRequest(io.BytesIO(), {
            "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(requests.FORM_LIMIT + 1),
            "CONTENT_TYPE": "multipart/form-data; boundary=x"})
        self.assertIsNone(asked.trouble)

    def test_addresses_of_either_kind_are_hosts(self):
        for host in "", "a.example", "a_b:80", "127.0.0.1:8080", "[::1]:8080", "[::1]":
            self.assertIsNone(requests.trouble_with({"HTTP_HOST": host}, 1), host)

    def test_virtual_hosts_and_skins_stand_where_they_mean_something(self):
        for path, good in {
                "/++skin++A/x": True, "/++vh++http:a.example:80/++/x": True,
                "/site/++vh++https:a.example:443/a/b/++/++skin++A/x": True,
                "/++vh++http:a.example:80": False, "/++vh++http:a.example/++/": False,
                "/++vh++ftp:a.example:80/++/": False, "/x/++skin++A": False,
                "/++vh++http:a:80/++/++vh++http:b:80/++/": False,
                "/++vh++http:a:80/++/x/++skin++A": False}.items():
            found = requests.trouble_with({"PATH_INFO": path}, 1)
            self.assertIs(found is None, good, path)


class TheRoom(ServiceCase):
    """How many jobs may wait, when they come from outside."""

    storage = "mapping"

    def setUp(self):
        super().setUp()
        people.set_up(self)
        self.service.configure(waiting_limit=6, waiting_limit_each=4)

    def add(self, who, number=1, **options):
        with acting_as(who):
            guard.require_room(self.service, number)
            return [self.service.add("echo", **options) for _ in range(number)]

    def test_one_principal_may_not_have_more_than_the_cap_wait(self):
        self.add("submitter", 4)
        with self.assertRaises(guard.TooManyJobs) as caught:
            self.add("submitter")
        self.assertEqual(caught.exception.status, 429)
        self.assertIn("Retry-After", caught.exception.headers)
        self.add("manager")

    def test_all_together_may_not_either(self):
        self.add("submitter", 3)
        self.add("manager", 3)
        with self.assertRaises(guard.TooManyJobs):
            self.add("operator")

    def test_many_at_once_count_as_many(self):
        with self.assertRaises(guard.TooManyJobs):
            self.add("submitter", 5)

    def test_those_that_have_ended_do_not_count(self):
        self.add("submitter", 4)
        self.service.process()
        self.add("submitter", 4)

    def test_those_that_wait_for_their_time_count(self):
        self.add("submitter", 2, delay=60)
        self.add("submitter", 2, startLater=True)
        with self.assertRaises(guard.TooManyJobs):
            self.add("submitter")

    def test_those_count_that_are_not_in_the_books_yet(self):
        """Thousands that were added at once are one long run for the clerk."""
        self.service.configure(waiting_limit=10_000, waiting_limit_each=3_000)
        with acting_as("submitter"):
            self.service.addMany("echo", range(2_999))
            guard.require_room(self.service)
            self.service.add("echo")
            with self.assertRaises(guard.TooManyJobs):
                guard.require_room(self.service)
        with acting_as("manager"):
            guard.require_room(self.service)

    def test_code_is_not_bound_by_it(self):
        for _ in range(10):
            self.service.add("echo")


class TheHeaders(unittest.TestCase):

    def test_no_inline_script_no_frames_of_others_no_sniffing(self):
        response = request("GET").response
        guard.secure(response)
        policy = response.getHeader("Content-Security-Policy")
        self.assertIn("default-src 'self'", policy)
        self.assertIn("frame-ancestors 'self'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(response.getHeader("X-Content-Type-Options"), "nosniff")
        self.assertEqual(response.getHeader("Cache-Control"), "no-store")

    def test_one_can_be_replaced_or_left_out(self):
        response = request("GET").response
        guard.secure(response, cache_control="max-age=60", referrer_policy=None)
        self.assertEqual(response.getHeader("Cache-Control"), "max-age=60")
        self.assertIsNone(response.getHeader("Referrer-Policy"))


if __name__ == "__main__":
    unittest.main()
