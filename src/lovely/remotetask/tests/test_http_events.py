"""Answers that go on: events and waits, through the real web server."""
import base64
import http.client
import json
import threading
import unittest
from unittest import mock

from lovely.remotetask import clock, processor
from lovely.remotetask.app.web import WebServer
from lovely.remotetask.http import lines, streams, watch
from lovely.remotetask.testing import BOUND
from lovely.remotetask.tests.house import JSON, SERVICE, InTheHouse

API = SERVICE + "/api/v1"
THREADS = 2


class Events:
    """A stream of events as a browser reads it."""

    def __init__(self, web, who="manager", last=None):
        self.connection = http.client.HTTPConnection(
            "127.0.0.1", web.port, timeout=BOUND)
        word = base64.b64encode(f"{who}:{who}".encode()).decode()
        headers = {"Authorization": f"Basic {word}", "Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last
        self.connection.request("GET", API + "/events", headers=headers)
        self.answer = self.connection.getresponse()
        self.id = None

    def read(self):
        """(name, data) of the next event; (None, line) of a line that is none; None
        at the end."""
        name = None
        while line := self.answer.readline():
            line = line.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("id: "):
                self.id = line[4:]
            elif line.startswith("data: "):
                return name, json.loads(line[6:])
            elif line:
                return None, line
        return None

    def until(self, wanted, data=None):
        """The events up to one of that name (and with that data)."""
        found = []
        while (event := self.read()) is not None:
            found.append(event)
            if event[0] == wanted and (data is None or data.items() <= event[1].items()):
                return found
        raise AssertionError(f"ended before {wanted} {data}: {found}")

    def close(self):
        self.answer.close()
        self.connection.close()


class Case(unittest.TestCase):

    layer = InTheHouse

    def setUp(self):
        self.house = self.layer.house
        self.web = WebServer("127.0.0.1", 0, threads=THREADS)
        self.web.start(self.house.db)
        self.addCleanup(self.end)
        for name, seconds in (("NAP_SECONDS", 0.05), ("PAUSE_SECONDS", 0.0)):
            patch = mock.patch.object(watch, name, seconds)
            patch.start()
            self.addCleanup(patch.stop)

    def end(self):
        self.web.stop()
        self.left()
        with self.house.service() as service:
            for job in list(service.jobs.values()):
                service.cancel(job.id)
            service.clean()

    def left(self):
        """Wait until nobody follows any more."""
        thread = watch.over(self.house.db)._thread
        if thread is not None:
            thread.join(BOUND)
        self.assertEqual(len(watch.over(self.house.db)), 0)

    def stream(self, **options):
        stream = Events(self.web, **options)
        self.addCleanup(stream.close)
        self.assertEqual(stream.answer.status, 200)
        return stream

    def add(self, **options):
        with self.house.service() as service:
            return service.add("echo", **options)

    def work(self):
        with self.house.service() as service:
            service.process()

    def get(self, path, who="manager"):
        connection = http.client.HTTPConnection("127.0.0.1", self.web.port, timeout=BOUND)
        word = base64.b64encode(f"{who}:{who}".encode()).decode()
        try:
            connection.request("GET", API + path,
                               headers={"Authorization": f"Basic {word}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")
        finally:
            connection.close()


class TheStream(Case):

    def test_what_happens_is_told(self):
        stream = self.stream()
        self.assertEqual(stream.answer.getheader("Content-Type"), "text/event-stream")
        stream.until("counts")
        jobid = self.add(startLater=True)
        stream.until("job", {"id": jobid, "status": "start later"})
        with self.house.service() as service:
            service.startJob(jobid)
        stream.until("job", {"id": jobid, "status": "queued"})
        self.work()
        stream.until("job", {"id": jobid, "status": "completed", "task": "echo"})
        stream.until("counts", {"completed": 1})

    def test_what_is_in_hand_is_told(self):
        going_on = threading.Event()
        self.house.task("gate", lambda input: going_on.wait(BOUND))
        stream = self.stream()
        stream.until("counts")
        with self.house.service() as service:
            jobid = service.add("gate")
            service.startProcessing()
        try:
            stream.until("job", {"id": jobid, "status": "processing"})
            going_on.set()
            stream.until("job", {"id": jobid, "status": "completed"})
        finally:
            going_on.set()
            processor.stop_all(self.house.db, grace=BOUND)

    def test_who_comes_back_hears_what_was_missed(self):
        stream = self.stream()
        stream.until("counts")
        stream.close()
        self.left()           # nobody was there: it is told from the books
        jobid = self.add()
        self.work()
        back = self.stream(last=stream.id)
        back.until("job", {"id": jobid, "status": "completed"})

    def test_from_memory_each_change_is_told(self):
        first, other = self.stream(), self.stream()
        first.until("counts")
        other.until("counts")
        first.close()
        jobid = self.add(startLater=True)
        other.until("job", {"id": jobid, "status": "start later"})
        with self.house.service() as service:
            service.cancel(jobid)
        other.until("job", {"id": jobid, "status": "cancelled"})
        back = self.stream(last=first.id)
        found = back.until("job", {"id": jobid, "status": "cancelled"})
        self.assertIn(("job", {"id": jobid, "task": "echo", "status": "start later",
                               "reason": None}), found)

    def test_an_id_that_is_none_begins_anew(self):
        for last in ("x", "1", "-1.5", "9" * 30 + ".1"):
            self.stream(last=last).until("counts")

    def test_too_much_is_not_told_one_by_one(self):
        with mock.patch.object(streams, "TOLD", 2):
            stream = self.stream()
            stream.until("counts")
            with self.house.service() as service:
                service.addMany("echo", range(5))
            found = stream.until("counts", {"queued": 5})
            self.assertIn(("reset", {}), found)
            self.assertNotIn("job", [name for name, _ in found])
            long_ago = f"{clock.micros() - 60_000_000}.0"
            self.assertIn(("reset", {}), self.stream(last=long_ago).until("counts"))

    def test_silence_is_told_too(self):
        with mock.patch.object(streams, "HEARTBEAT_SECONDS", 0.1):
            stream = self.stream()
            stream.until("counts")
            self.assertEqual(stream.read(), (None, ":"))

    def test_after_a_time_the_client_is_to_come_again(self):
        with mock.patch.object(streams, "LIFETIME_SECONDS", 0.1):
            stream = self.stream()
            stream.until("counts")
            self.assertIsNone(stream.read())   # a proper end, no broken chunk

    def test_who_goes_is_forgotten(self):
        stream = self.stream()
        stream.until("counts")
        stream.close()
        self.left()

    def test_streams_and_waits_take_no_thread(self):
        jobid = self.add(startLater=True)
        streams_ = [self.stream() for _ in range(10)]
        waits = [threading.Thread(target=self.get, args=(f"/jobs/{jobid}?wait=20",))
                 for _ in range(5)]
        for each in waits:
            each.start()
        for each in streams_:
            each.until("counts")
        self.assertEqual(self.get("/health/live")[0], 200)
        with self.house.service() as service:
            service.cancel(jobid)
        for each in streams_:
            each.until("job", {"id": jobid, "status": "cancelled"})
        for each in waits:
            each.join(BOUND)
            self.assertFalse(each.is_alive())
        self.assertEqual(
            sum(thread.name == watch.THREAD for thread in threading.enumerate()), 1)

    def test_there_are_only_so_many(self):
        for name, limit in (("STREAMS_LIMIT", 2), ("STREAMS_EACH", 2)):
            with mock.patch.object(streams, name, limit):
                held = [self.stream() for _ in range(2)]
                for each in held:
                    each.until("counts")
                status, data = self.get("/events")
                self.assertEqual(status, 429)
                self.assertTrue(data["type"].endswith("too-many-streams"))
                if name == "STREAMS_EACH":
                    viewer = self.stream(who="viewer")
                    viewer.until("counts")
                    viewer.close()
                for each in held:
                    each.close()
            self.left()

    def test_a_client_that_does_not_read_is_let_go(self):
        with mock.patch("lovely.remotetask.app.web.CLOGGED", -1):
            stream = self.stream()
            while stream.read() is not None:
                pass
            self.left()

    def test_a_server_that_stops_ends_them(self):
        stream = self.stream()
        stream.until("counts")
        self.web.stop()
        while stream.read() is not None:
            pass
        self.web = WebServer("127.0.0.1", 0, threads=THREADS)
        self.web.start(self.house.db)


class Waiting(Case):

    def later(self, path):
        """What a request will have been answered, once it is."""
        found = []
        thread = threading.Thread(target=lambda: found.append(self.get(path)))
        thread.start()
        self.addCleanup(thread.join, BOUND)

        def answer():
            thread.join(BOUND)
            return found[0]
        return answer

    def follows(self):
        """Wait until somebody follows."""
        follower = watch.over(self.house.db)
        arrived = threading.Event()
        join = follower.join

        def joined(each):
            join(each)
            arrived.set()
        return mock.patch.object(follower, "join", joined), arrived

    def test_the_answer_comes_with_the_end(self):
        jobid = self.add()
        patch, arrived = self.follows()
        with patch:
            answer = self.later(f"/jobs/{jobid}?wait=30")
            self.assertTrue(arrived.wait(BOUND))
        self.work()
        status, data = answer()
        self.assertEqual((status, data["status"], data["id"]), (200, "completed", jobid))

    def test_or_in_time(self):
        jobid = self.add(startLater=True)
        status, data = self.get(f"/jobs/{jobid}?wait=0.1")
        self.assertEqual((status, data["status"]), (200, "start later"))

    def test_a_job_at_its_end_is_told_at_once(self):
        jobid = self.add()
        self.work()
        self.assertEqual(self.get(f"/jobs/{jobid}?wait=60")[1]["status"], "completed")

    def test_a_job_that_is_removed(self):
        jobid = self.add(startLater=True)
        patch, arrived = self.follows()
        with patch:
            answer = self.later(f"/jobs/{jobid}?wait=30")
            self.assertTrue(arrived.wait(BOUND))
        with self.house.service() as service:
            service.cancel(jobid)
            service.remove(jobid)
        self.assertTrue(answer()[1]["type"].endswith("unknown-job"))

    def test_the_viewer_waits_and_sees_no_input(self):
        jobid = self.add(input="secret", startLater=True)
        _, data = self.get(f"/jobs/{jobid}?wait=0.05", "viewer")
        self.assertIn("input", data["withheld"])
        self.assertNotIn("input", data)

    def test_how_long_one_waits_is_bounded(self):
        jobid = self.add(startLater=True)
        self.assertEqual(self.get(f"/jobs/{jobid}?wait=61")[0], 400)


class AtOnce(Case):
    """Requests that meet: the server has two threads."""

    def test_the_same_key_makes_one_job(self):
        answers, gate = [], threading.Barrier(8)

        def post():
            connection = http.client.HTTPConnection(
                "127.0.0.1", self.web.port, timeout=BOUND)
            connection.connect()
            gate.wait(BOUND)
            connection.request("POST", API + "/jobs", b'{"task":"echo"}', {
                "Authorization": "Basic bWFuYWdlcjptYW5hZ2Vy", **JSON,
                "Idempotency-Key": "at once"})
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())["id"]))
            connection.close()

        threads = [threading.Thread(target=post) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        self.assertEqual(len(answers), 8)
        self.assertEqual(len(set(answers)), 1, answers)
        self.assertEqual(answers[0][0], 202)
        with self.house.service() as service:
            self.assertEqual(sum(service.counts().values()), 1)


class InOtherServers(Case):
    """A WSGI server that iterates over what it is given, as they all do."""

    def body(self, path, query=""):
        feed = lines.Stream.feed
        del lines.Stream.feed
        try:
            answer = self.house.ask("GET", API + path, "manager", headers=JSON, query=query)
        finally:
            lines.Stream.feed = feed
        return answer.status, answer.body

    def test_a_thread_waits(self):
        jobid = self.add(startLater=True)
        status, body = self.body(f"/jobs/{jobid}", "wait=0.05")
        self.assertEqual((status, json.loads(body)["id"]), (200, jobid))

    def test_no_more_threads_wait_than_may(self):
        jobid = self.add(startLater=True)
        with mock.patch.object(lines, "PATIENT", threading.BoundedSemaphore(1)):
            self.assertTrue(lines.PATIENT.acquire(blocking=False))
            _, body = self.body(f"/jobs/{jobid}", "wait=60")   # at once
            self.assertEqual(json.loads(body)["status"], "start later")
            _, body = self.body("/events")
            self.assertIn(b"event: counts", body)
            lines.PATIENT.release()


if __name__ == "__main__":
    unittest.main()
