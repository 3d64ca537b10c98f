"""How a refusal is shown: its status, its title, and one line that says why."""
from html import escape
from xmlrpc.client import Fault

from lovely.remotetask.guard.headers import secure

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""


class Refused:
    """The page of a Refusal, for browsers; a line of text for everything else."""

    kind = "text/plain"

    def __init__(self, context, request):
        self.context, self.request = context, request

    def __call__(self):
        response = self.request.response
        secure(response)
        response.setStatus(self.context.status)
        for name, value in self.context.headers.items():
            response.setHeader(name, value)
        response.setHeader("Content-Type", f"{self.kind};charset=utf-8")
        return self.body()

    def body(self):
        return f"{self.context.title}: {self.context}\n"


class RefusedPage(Refused):
    kind = "text/html"

    def body(self):
        return PAGE.format(title=escape(self.context.title),
                           text=escape(str(self.context)))


class RefusedCall(Refused):
    """An XML-RPC call that was not read.  HTTP says why, and so does the fault."""

    def __call__(self):
        super().__call__()
        return Fault(self.context.status, str(self.context))
