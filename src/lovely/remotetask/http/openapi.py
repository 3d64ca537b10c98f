"""The OpenAPI document of a service, made from the table of routes.

It names the tasks that there are, each with the schema of its input.
"""
from typing import Any

from lovely.remotetask.http import bodies, problems, tasks
from lovely.remotetask.http.answers import Answer

TITLE = "lovely.remotetask"
TASKS_LIMIT = 200     # whose inputs are described one by one
#: What guard takes as a value: 50 levels and 10,000 values are the most.
VALUE: dict[str, Any] = {"anyOf": [
    {"type": ["null", "boolean", "number"]},
    {"type": "integer", "minimum": -2**63, "maximum": 2**63 - 1},
    {"type": "string", "maxLength": 262_144,
     "pattern": "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f]*$"},
    {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
    {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"},
     "propertyNames": {"pattern": "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f"
                       "\\u007f]*$"}}]}
ON_THE_WAY = {"400": ("text/html", "text/plain"), "401": ("text/html", "text/plain"),
              "403": ("text/plain",), "413": ("text/html", "text/plain")}
EVERYWHERE = ("bad-request", "not-logged-in", "not-allowed", "busy")
CHANGING = ("foreign-site",)
WITH_BODY = ("too-large", "wrong-content-type")
SCHEMAS = {"Job": bodies.JOB, "JobSummary": bodies.SUMMARY_OF_A_JOB,
           "Schedule": bodies.SCHEDULE, "ScheduleSummary": bodies.SUMMARY_OF_A_SCHEDULE,
           "Page": bodies.PAGE, "SchedulePage": bodies.SCHEDULE_PAGE,
           "Task": bodies.TASK}
PROBLEM: dict[str, Any] = {
    "type": "object", "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [
            problems.TYPE + condition for condition in problems.CONDITIONS]},
        "title": {"type": "string"}, "status": {"type": "integer"},
        "detail": {"type": "string"}, "reference": {"type": "string"},
        "errors": {"type": "array", "items": {
            "type": "object", "properties": {
                "pointer": {"type": "string"}, "detail": {"type": "string"}}}}}}


def served(call) -> Answer:
    return Answer(data=document(call.service, call.base))


def document(service, base: str) -> dict[str, Any]:
    """The description of a service that is found at *base*."""
    from lovely.remotetask.http.routes import ROUTES

    paths: dict[str, dict[str, Any]] = {}
    available = service.getAvailableTasks()
    for route in ROUTES:
        place = paths.setdefault("/" + route.path, {})
        place[route.method.lower()] = _operation(route, available)
    for path, place in paths.items():
        if "{" in path:
            place["parameters"] = [_in_path(name) for name in ("id", "name")
                                   if f"{{{name}}}" in path]
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": "1", "description":
                 "Jobs of one task service. Moments are RFC 3339, durations seconds."},
        "servers": [{"url": base}],
        "security": [{"basic": []}],
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS, "Problem": PROBLEM, "Value": VALUE},
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}}},
    }


def _operation(route, available) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.operation, "summary": route.summary,
        "x-permission": route.permission,
        "parameters": [*map(_in_query, route.query.items()), *_headers(route)],
        "responses": {str(status): _answer(route, status, shape)
                      for status, shape in route.answers.items()},
    }
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": {
            "application/json": {"schema": _body(route, available)}}}
    conditions = [*EVERYWHERE, *route.problems]
    if route.method != "GET":
        conditions += CHANGING
    if route.body is not None:
        conditions += WITH_BODY
    if route.conditional:
        conditions.append("changed-meanwhile")
    told: dict[str, list[str]] = {}
    for condition in conditions:
        told.setdefault(str(problems.status_of(condition)), []).append(condition)
    for status, names in told.items():
        content: dict[str, Any] = {problems.MEDIA_TYPE: {
            "schema": {"$ref": "#/components/schemas/Problem"}}}
        # What is refused on the way to the service, or before it, is not told by us.
        for kind in ON_THE_WAY.get(status, ()):
            content[kind] = {"schema": {"type": "string"}}
        found["responses"].setdefault(status, {
            "description": " or ".join(problems.CONDITIONS[name][1] for name in names),
            "content": content})
    return found


def _answer(route, status, shape) -> dict[str, Any]:
    found: dict[str, Any] = {"description": route.summary}
    if shape is not None:
        found["content"] = {route.kind: {"schema": _named(shape)}}
    if status in (201, 202):
        found["headers"] = {"Location": {
            "description": "where it is told", "schema": {"type": "string"}}}
    return found


def _named(shape) -> dict[str, Any]:
    for name, known in SCHEMAS.items():
        if shape is known:
            return {"$ref": f"#/components/schemas/{name}"}
    return shape


def _body(route, available) -> dict[str, Any]:
    """What is to be sent; of jobs and schedules, one branch for each task."""
    value = {"$ref": "#/components/schemas/Value"}
    if "task" not in route.body["properties"] or not 0 < len(available) <= TASKS_LIMIT:
        return {**route.body, "properties": {**route.body["properties"], "input": value}}
    branches = []
    for name in sorted(available):
        schema = tasks.json_schema(getattr(available[name], "inputSchema", None))
        properties = {**route.body["properties"],
                      "task": {"type": "string", "const": name},
                      "input": schema or value}
        required = ["task", "input"] if schema.get("required") else ["task"]
        branches.append({**route.body, "properties": properties, "required": required})
    return branches[0] if len(branches) == 1 else {"oneOf": branches}


def _in_query(item) -> dict[str, Any]:
    name, shape = item
    return {"name": name, "in": "query", "required": False,
            "description": shape.get("description", ""),
            "schema": {key: value for key, value in shape.items()
                       if key != "description"}}


def _in_path(name) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True,
            "schema": bodies.NUMBER if name == "id" else
            {"type": "string", "minLength": 1}}


def _headers(route):
    if route.conditional:
        yield _header("If-Match", "ETag that it must have still")
    if route.method == "POST" and route.path == "jobs":
        yield _header("Idempotency-Key", "your own name for this request: made again "
                      "with it, the same job is meant", minLength=1, maxLength=200,
                      pattern="^[ -~]{1,200}$")
    if route.kind == "text/event-stream":
        yield _header("Last-Event-ID", "the last event that was heard")


def _header(name, description, **limits) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description,
            "schema": {"type": "string", **limits}}
