"""JSON, events and XML-RPC for programs, below the URL of a service.

    <service>/api/v1/...    JSON: see routes.py, which is the whole list
    <service>               XML-RPC: see xmlrpc.py

    request ──> api ──> routes ──> handlers ──> the service's verbs
                 │                    │
                 └──── problems <─────┘      errors, as RFC 9457 has them

Everything asks access.py for permission and guard for what may come in.
"""
