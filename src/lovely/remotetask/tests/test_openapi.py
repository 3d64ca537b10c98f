"""The description of the JSON interface, compared with what the server does."""
import json
import os
import re
import subprocess
import sys
import unittest
from importlib.util import find_spec

from lovely.remotetask.http import openapi, problems, routes
from lovely.remotetask.tests.house import JSON, SERVICE, InTheHouse
from lovely.remotetask.tests.test_app import TestCase

SEED = "20261121"
EXAMPLES = "8"           # of each operation, beside those that limits suggest
LONGEST = 900            # seconds, on a machine that has other things to do

#: What a shape cannot say: that a moment has passed, that a job is at its end already,
#: what its tag is; and how many bytes a text of so many characters has.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "412", "422", "429"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "412", "413", "415", "422"]
"""

#: Streams never end; how long a wait takes is not theirs to find out.
LEFT_OUT = ("/events",)


class TheDescription(unittest.TestCase):

    layer = InTheHouse

    def setUp(self):
        answer = self.layer.house.ask(
            "GET", SERVICE + "/api/v1/openapi.json", "viewer", headers=JSON)
        self.assertEqual(answer.status, 200)
        self.document = json.loads(answer.body)

    def test_each_route_is_described(self):
        described = {(method.upper(), path) for path, place in
                     self.document["paths"].items() for method in place
                     if method != "parameters"}
        self.assertEqual(
            described, {(route.method, "/" + route.path) for route in routes.ROUTES})

    def test_each_reference_leads_somewhere(self):
        names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(self.document)))
        self.assertEqual(names - set(self.document["components"]["schemas"]), set())

    def test_the_tasks_there_are_are_named(self):
        body = self.document["paths"]["/jobs"]["post"]["requestBody"]["content"]
        schema = body["application/json"]["schema"]
        named = {branch["properties"]["task"]["const"]
                 for branch in schema.get("oneOf", [schema])}
        self.assertIn("echo", named)

    def test_it_says_where_it_is(self):
        self.assertEqual(self.document["servers"],
                         [{"url": f"http://127.0.0.1:8080{SERVICE}/api/v1"}])

    def test_all_conditions_are_told(self):
        told = self.document["components"]["schemas"]["Problem"]["properties"]["type"]
        self.assertEqual({each.removeprefix(problems.TYPE) for each in told["enum"]},
                         set(problems.CONDITIONS))
        self.assertEqual(openapi.TITLE, "lovely.remotetask")


@unittest.skipUnless(find_spec("schemathesis"), "schemathesis is not installed")
class TheServer(TestCase):
    """Requests made up from the description, to the server: it keeps to it."""

    level = 2

    def test_it_does_what_it_says(self):
        application = self.started()
        login = ":".join(self.kept_login())
        url = application.url.rstrip("/") + SERVICE + "/api/v1/openapi.json"
        (self.parent / "schemathesis.toml").write_text(CONFIGURATION)
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", url, "--auth", login,
             "--header", "Sec-Fetch-Site: none", "--seed", SEED,
             "--max-examples", EXAMPLES, "--generation-database", "none",
             "--no-color", "--phases", "examples,coverage,fuzzing",
             "--request-timeout", "120", "--workers", "1",
             *[word for path in LEFT_OUT for word in ("--exclude-path", path)]],
            capture_output=True, text=True, timeout=LONGEST, cwd=self.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        self.assertEqual(done.returncode, 0, done.stdout[-8_000:] + done.stderr)
        self.assertRegex(done.stdout, r"Test cases:\n\s+\d+ generated")
        self.assertEqual(application.stop(), 0)
        self.assertNotIn("failed, reference", self.log())


if __name__ == "__main__":
    unittest.main()
