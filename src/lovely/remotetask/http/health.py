"""Whether there is life, and whether there is work going on."""
from lovely.remotetask.http.answers import Answer
from lovely.remotetask.http.problems import Problem


def live(call) -> Answer:
    """The process answers, and so does its database."""
    return Answer(data=dict(status="live"), tagged=False)


def ready(call) -> Answer:
    """Somebody works for the service, or would if it were not paused."""
    alive = sum(1 for worker in call.service.workers() if worker["alive"])
    if not alive:
        raise Problem("not-ready", "no worker is alive: jobs wait until one starts")
    return Answer(data=dict(status="ready", workers=alive,
                            paused=call.service.isPaused()), tagged=False)
