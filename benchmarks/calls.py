"""What a call of the interfaces costs with a thousand jobs and with a million.

JSON and XML-RPC, asked for through the whole publication, by the manager.  Each is
asked for with a warm cache and with a cold one; what is shown is the median of the
milliseconds until the whole answer is there.  Adding is measured with its commit.
"""
import base64
import io
import json
import sys
import time
from pathlib import Path
from xmlrpc.client import dumps

sys.path.insert(0, str(Path(__file__).parent))

from pages import TASKS, Pages, ask_all  # noqa: E402


SERVICE = "/++etc++site/default/tasks"


class Interfaces(Pages):

    def __init__(self, size):
        super().__init__(size)
        self.manager.begin()
        # Half of the jobs wait: more than may when one is added from outside.
        self.service.configure(waiting_limit=10 * size + 1_000)
        self.manager.commit()

    def ask(self, call, login, cold=False):
        """Milliseconds of one answer to a call: (method, path, type, body)."""
        method, path, kind, body = call
        if cold:
            for connection in list(self.db.pool.all):
                connection.cacheMinimize()
        token = base64.b64encode(f"{login.login}:{login.password}".encode()).decode()
        path, _mark, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method, "PATH_INFO": SERVICE + path, "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "HTTP_HOST": "127.0.0.1",
            "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
            "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Basic {token}"}
        answer = []
        begun = time.perf_counter()
        parts = self.application(environ, lambda status, headers, *more: answer.append(status))
        body = b"".join(parts)
        spent = (time.perf_counter() - begun) * 1000
        if answer[0][0] != "2" or b"<fault>" in body:
            raise SystemExit(f"{method} {path}: {answer[0]}\n{body[:2_000].decode()}")
        return spent


def calls(store):
    """What is asked for: {name: call}."""
    def get(path):
        return "GET", "/api/v1/" + path, "", b""

    def call(name, *arguments):
        return "POST", "", "text/xml", dumps(arguments, name).encode()

    add = json.dumps({"task": TASKS[0], "input": {"number": 1}}).encode()
    return {
        "index": get(""), "jobs": get("jobs"), "jobs, 200 of them": get("jobs?limit=200"),
        "jobs, queued": get("jobs?status=queued"), "jobs, error": get("jobs?status=error"),
        "jobs, by task": get("jobs?task=" + TASKS[1]),
        "jobs, by task and status": get(f"jobs?task={TASKS[1]}&status=cancelled"),
        "jobs, by tag": get("jobs?tag=mail"),
        "jobs, of nobody": get("jobs?owner=nobody"),
        "jobs, task and tag that never meet": get(f"jobs?task={TASKS[0]}&tag=report"),
        "a job": get(f"jobs/{store.some}"), "schedules": get("schedules"),
        "a schedule": get(f"schedules/{store.cron}"),
        "add a job": ("POST", "/api/v1/jobs", "application/json", add),
        "tasks": get("tasks"), "workers": get("workers"), "statistics": get("statistics"),
        "statistics, 14 days of hours": get("statistics?step=hour&count=336"),
        "live": get("health/live"), "openapi": get("openapi.json"),
        "metrics": get("metrics"),
        "XML-RPC getStatus": call("getStatus", store.some),
        "XML-RPC getError": call("getError", store.some),
        "XML-RPC add": call("add", TASKS[0], {"number": 1}),
    }


if __name__ == "__main__":
    ask_all(__doc__, "A call with a thousand jobs and with a million", Interfaces, "call",
            calls, Interfaces.ask)
