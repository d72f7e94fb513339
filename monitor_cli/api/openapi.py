"""/openapi.json: what the incident API takes and answers, as OpenAPI 3.1; tests hold it against the API's behaviour."""

from __future__ import annotations

import json
from typing import Any

from monitor_cli import __version__

Schema = dict[str, Any]

_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_ETAG = {
    "ETag": {"description": "Names these very bytes, for If-None-Match.", "schema": {"type": "string"}},
    "Cache-Control": {"schema": {"type": "string", "const": "private, no-cache"}},
}
_KEY = {"type": "string", "minLength": 1}
_METHOD = {"type": "string", "enum": ["monitor"]}
_FORMAT = {"type": "string", "enum": ["json", "xml"], "default": "json"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _error(description: str, *names: str, headers: Schema | None = None) -> Schema:
    schema = _ref(names[0]) if len(names) == 1 else {"oneOf": [_ref(name) for name in names]}
    media = {"schema": schema}
    return {
        "description": description,
        **({"headers": headers} if headers else {}),
        "content": {"application/json": media, "application/xml": {"schema": {"type": "string"}}},
    }


def _status(description: str, *statuses: str, message: str | None = None) -> Schema:
    """An error document."""
    return {
        "type": "object",
        "description": description,
        "properties": {
            "status": {"type": "string", "enum": list(statuses)},
            "message": {"type": "string", **({"const": message} if message else {"minLength": 1})},
        },
        "required": ["status", "message"],
        "additionalProperties": False,
    }


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_SCHEMAS = {
    "Incidents": _object(
        status={"type": "string", "const": "200"},
        message={"type": "string", "const": "OK"},
        data=_object(incidents={"type": "array", "minItems": 1, "items": _ref("Entry")}),
    ),
    "Entry": _object(
        region={"type": "string", "examples": ["karnataka"]},
        region_code={"type": "string", "examples": ["KA-IN"]},
        type={"type": "string", "enum": ["operational", "warning", "critical"]},
        service={"type": "string", "const": "all"},
        numbers={"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}},
    ),
    "Nothing": _status("The plugin is not subscribed (E542), or there is nothing to list (E701).", "E542", "E701"),
    "BadRequest": _status("The message says which parameter, or what else, is wrong.", "400"),
    "Unauthorized": _status(
        "The same for a missing key and an unknown one.", "401", message="The API key is missing or unknown"
    ),
    "NotFound": _status("There is no such path.", "404", message="Not found"),
    "MethodNotAllowed": _status("The message, and the header Allow, say what is allowed.", "405"),
    "TooManyRequests": _status("From this key or this address; the header Retry-After says how long to wait.", "429"),
    "Unavailable": _status("The database does not answer; the header Retry-After says how long to wait.", "503"),
    "Fine": _status("All is well.", "200", message="OK"),
}

_ANSWERS: Schema = {
    "200": _error("The incidents of the account, or why there are none.", "Incidents", "Nothing", headers=_ETAG),
    "304": {"description": "Unchanged since the answer whose ETag was sent in If-None-Match.", "headers": _ETAG},
    "400": _error("A parameter is missing, unknown or given twice.", "BadRequest"),
    "401": _error(
        "The API key is missing or unknown.",
        "Unauthorized",
        headers={"WWW-Authenticate": {"schema": {"type": "string"}}},
    ),
    "405": _error("The HTTP method.", "MethodNotAllowed", headers={"Allow": {"schema": {"type": "string"}}}),
    "429": _error("Too many requests.", "TooManyRequests", headers=_RETRY),
    "503": _error("The database is away.", "Unavailable", headers=_RETRY),
}


def _query(name: str, schema: Schema, description: str, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


_QUERY = [
    _query("method", _METHOD, "What is asked for; there is one method.", required=True),
    _query("format", _FORMAT, "The form of the answer, errors included."),
]
_UNCHANGED = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an answer that the client has: 304 where it would be the same.",
    "schema": {"type": "string", "pattern": '^(W/)?"[0-9a-f]{32}"$'},
}
_FORM = {
    "type": "object",
    "properties": {"api_key": _KEY, "method": _METHOD, "format": _FORMAT},
    "required": ["api_key", "method"],
}


def _operation(operation_id: str, summary: str, **rest: Any) -> Schema:
    security: list[Schema] = [{"query": []}, {"header": []}]
    return {"operationId": operation_id, "summary": summary, "security": security, "responses": _ANSWERS, **rest}


def _plain(operation_id: str, summary: str, responses: Schema) -> Schema:
    wrong = _error("The HTTP method.", "MethodNotAllowed", headers={"Allow": {"schema": {"type": "string"}}})
    return {
        "get": {
            "operationId": operation_id,
            "summary": summary,
            "security": [],
            "responses": {**responses, "405": wrong},
        }
    }


def _fine() -> Schema:
    return {"description": "Yes.", "content": {"application/json": {"schema": _ref("Fine")}}}


def _document() -> Schema:
    metrics = {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    described = {"description": "This document.", "content": {"application/json": {"schema": {"type": "object"}}}}
    unavailable = _error("The database does not answer.", "Unavailable", headers=_RETRY)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Incident API",
            "version": __version__,
            "description": "The status of an account's numbers, by region. HEAD is GET without a body. Each answer has "
            "a header X-Request-Id. Error documents have the HTTP status as their status.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            "/v1/": {
                "get": _operation("getIncidents", "The incidents of an account", parameters=[*_QUERY, _UNCHANGED]),
                "post": {
                    **_operation("postIncidents", "The same, with the parameters in a form"),
                    "security": [{}],
                    "requestBody": {
                        "required": True,
                        "content": {"application/x-www-form-urlencoded": {"schema": _FORM}},
                    },
                },
            },
            "/healthz": _plain("getHealth", "Whether the process is up", {"200": _fine()}),
            "/readyz": _plain("getReadiness", "Whether the database answers", {"200": _fine(), "503": unavailable}),
            "/metrics": _plain("getMetrics", "Metrics in Prometheus' text format", {"200": metrics}),
            "/openapi.json": _plain("getDescription", "This document", {"200": described}),
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "query": {"type": "apiKey", "in": "query", "name": "api_key"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


DOCUMENT = json.dumps(_document(), ensure_ascii=False, separators=(",", ":")).encode()
