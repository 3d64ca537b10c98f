"""The service as a whole over JSON: what there is, tasks, workers, figures."""
from lovely.remotetask import plain
from lovely.remotetask.http import tasks as described
from lovely.remotetask.http.answers import Answer
from lovely.remotetask.http.problems import Problem


def index(call) -> Answer:
    names = ("jobs", "schedules", "tasks", "workers", "statistics", "metrics", "events",
             "openapi.json")
    return Answer(data=dict(
        version="1", service=call.service.__name__ or "",
        links={name: call.url(name) for name in names}
        | {"live": call.url("health", "live"), "ready": call.url("health", "ready")}))


def tasks(call) -> Answer:
    found = call.service.getAvailableTasks()
    return Answer(data=dict(tasks=[
        described.described(name, found[name]) for name in sorted(found)]))


def task(call, name) -> Answer:
    found = call.service.findTask(name)
    if found is None:
        raise Problem("not-found", "there is no task of that name")
    return Answer(data=described.described(name, found))


def workers(call) -> Answer:
    return Answer(data=dict(workers=[
        {**{name: plain.moment(value) if hasattr(value, "isoformat")
            else plain.value(value) for name, value in worker.items()
            if name != "holds"},
         "holds": [plain.value(id) for id in list(worker["holds"])[:200]],
         "holding": len(worker["holds"])}
        for worker in call.service.workers()]), tagged=False)


def statistics(call) -> Answer:
    service = call.service
    found = service.statistics(call.query["step"], call.query["count"])
    return Answer(data=dict(
        counts=service.counts(), queueLength=service.queueLength(),
        oldestWaiting=service.oldestWaiting(), step=call.query["step"],
        steps=[{**step, "moment": plain.moment(step["moment"])} for step in found]),
        tagged=False)


def metrics(call) -> Answer:
    try:
        from lovely.remotetask.http.metrics import exposition
    except ImportError:
        raise Problem("not-found", "prometheus-client is not installed: it comes with "
                      "the extra 'metrics'") from None
    body, kind = exposition(call.service)
    return Answer(data=body, headers={"Content-Type": kind}, tagged=False)
