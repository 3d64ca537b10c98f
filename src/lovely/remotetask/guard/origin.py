"""Changes only by requests that come from our own pages, or from no page at all.

A browser sends along who somebody is, whichever site made it ask.  So a change
needs a method that no link and no picture uses, and a word from the browser about
where the request comes from: `Sec-Fetch-Site`, which no page can forge, and which
browsers send to https and to this machine; else `Origin` or `Referer`.

Programs that are no browsers send none of these.  They are known by what a page
cannot send to another site unasked: a body of JSON or XML, or methods like DELETE.
"""
from urllib.parse import urlsplit

from lovely.remotetask import settings
from lovely.remotetask.guard.refusals import ForeignSite, MethodNotAllowed

OURS = ("same-origin", "none")   # none: typed or bookmarked by the user
PORTS = {"http": 80, "https": 443}
#: What any page may send to any site, without that site being asked first.
UNASKED = ("", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


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
    """Raise ForeignSite for a request that another site's page may have caused.

    The own site is the Host that the request names, and those of the setting
    `own_hosts`, where a proxy before us changes that name.  What paths say of hosts
    (++vh++) does not count: anybody can write a path.
    """
    site = _header(request, "Sec-Fetch-Site")
    if site:
        if site.strip().lower() not in OURS:
            raise ForeignSite("a page of another site has asked for this change")
        return
    source = _header(request, "Origin") or _header(request, "Referer")
    if not source:
        kind = _header(request, "Content-Type").partition(";")[0].strip().lower()
        if request.method.upper() == "POST" and kind in UNASKED:
            raise ForeignSite(
                "nothing tells which page has asked for this change; programs send "
                "JSON or XML, or the header 'Sec-Fetch-Site: none'")
        return
    own = [_header(request, "Host"), *settings.process().own_hosts.split()]
    if _place_of(source) not in map(_place, own):
        raise ForeignSite("the page that asked for this change is of another site")


def _header(request, name):
    return request.getHeader(name, "") or ""


def _place_of(url):
    """(host, port) of a URL, the port None where its scheme implies it; None for
    what is no URL, as 'null'."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname:
        return None
    return parts.hostname, None if port == PORTS[parts.scheme] else port


def _place(host):
    """The same of a Host header; which scheme it was, a proxy may know alone."""
    found = _place_of(f"http://{host}")
    return found if found is None or found[1] != 443 else (found[0], None)
