"""What every answer of ours carries."""

#: No script but our own files, none of it inline; nobody frames us but ourselves
#: (the ZMI does); no base and no form that leads elsewhere.
CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'self'",
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'self'",
))

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def secure(response, **changed) -> None:
    """Put our headers into a response of zope.publisher.

    *changed*: `cache_control="max-age=3600"` and the like replaces one, None
    leaves it out.
    """
    given = {name.replace("_", "-").lower(): value for name, value in changed.items()}
    for name, value in HEADERS.items():
        value = given.get(name.lower(), value)
        if value is not None:
            response.setHeader(name, value)
