"""Changes only by requests that say they come from our own pages.

A browser sends along who somebody is, whichever site made it ask.  So a change
needs a method that no link and no picture uses, and a word from the browser about
where the request comes from: `Sec-Fetch-Site`, which no page can forge; of old
browsers `Origin` or `Referer`.  Programs that are no browsers send none of these,
and no site can use them against their owner.
"""
from urllib.parse import urlsplit

from lovely.remotetask.guard.refusals import ForeignSite, MethodNotAllowed

OURS = ("same-origin", "none")   # none: typed or bookmarked by the user
PORTS = {"http": 80, "https": 443}


def require_method(request, *allowed) -> None:
    """Raise MethodNotAllowed unless the request has one of these methods."""
    if request.method.upper() not in allowed:
        raise MethodNotAllowed(request.method, allowed)


def require_change(request, *methods) -> None:
    """Raise a Refusal unless this request may change something.

    *methods*: those that may, POST alone when none is named.
    """
    require_method(request, *(methods or ("POST",)))
    require_own_site(request)


def require_own_site(request) -> None:
    """Raise ForeignSite for a request that another site's page has caused."""
    site = _header(request, "Sec-Fetch-Site")
    if site:
        if site.strip().lower() not in OURS:
            raise ForeignSite("a page of another site has asked for this change")
        return
    source = _header(request, "Origin") or _header(request, "Referer")
    if source and _place(source) != _place(request.getApplicationURL()):
        raise ForeignSite("the page that asked for this change is of another site")


def _header(request, name):
    return request.getHeader(name, "", literal=False) or ""


def _place(url):
    """(scheme, host, port) of a URL; an odd one is equal to none, not even itself."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or PORTS[parts.scheme]
        if not parts.hostname:
            raise ValueError
    except (ValueError, KeyError):
        return object()
    return parts.scheme, parts.hostname, port
