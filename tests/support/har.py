"""The HTTP archive format 1.2 as a JSON schema, written down from its specification.

http://www.softwareishard.com/blog/har-12-spec/: which members an object must have, and of what types they
are. Members of one's own begin with an underscore.
"""

from __future__ import annotations

from typing import Any


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}) | {"comment": {"type": "string"}},
        "patternProperties": {"^_": {}},
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": -1}
_TIME = {"type": "number", "minimum": -1}
_MOMENT = {
    "type": "string",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
}
_FIELD = _object({"name": _TEXT, "value": _TEXT})
_COOKIE = _object(
    {"name": _TEXT, "value": _TEXT},
    {"path": _TEXT, "domain": _TEXT, "expires": _MOMENT, "httpOnly": {"type": "boolean"}},
)
_POSTED = _object(
    {
        "mimeType": _TEXT,
        "params": _list(_object({"name": _TEXT}, {"value": _TEXT, "fileName": _TEXT, "contentType": _TEXT})),
        "text": _TEXT,
    }
)
_CONTENT = _object(
    {"size": {"type": "integer", "minimum": 0}, "mimeType": _TEXT},
    {"compression": {"type": "integer"}, "text": _TEXT, "encoding": _TEXT},
)
_MESSAGE: dict[str, Any] = {
    "httpVersion": _TEXT,
    "cookies": _list(_COOKIE),
    "headers": _list(_FIELD),
    "headersSize": _COUNT,
    "bodySize": _COUNT,
}
_REQUEST = _object(
    {"method": _TEXT, "url": {"type": "string", "minLength": 1}, "queryString": _list(_FIELD), **_MESSAGE},
    {"postData": _POSTED},
)
_RESPONSE = _object(
    {
        "status": {"type": "integer", "minimum": 0},
        "statusText": _TEXT,
        "content": _CONTENT,
        "redirectURL": _TEXT,
        **_MESSAGE,
    }
)
_ENTRY = _object(
    {
        "startedDateTime": _MOMENT,
        "time": {"type": "number", "minimum": 0},
        "request": _REQUEST,
        "response": _RESPONSE,
        "cache": {"type": "object"},
        "timings": _object(
            {"send": _TIME, "wait": _TIME, "receive": _TIME},
            {"blocked": _TIME, "dns": _TIME, "connect": _TIME, "ssl": _TIME},
        ),
    },
    {"pageref": _TEXT, "serverIPAddress": _TEXT, "connection": _TEXT},
)
_PROGRAM = _object({"name": _TEXT, "version": _TEXT})

HAR_SCHEMA = _object(
    {
        "log": _object(
            {"version": {"const": "1.2"}, "creator": _PROGRAM, "entries": _list(_ENTRY)},
            {"browser": _PROGRAM, "pages": _list({"type": "object"})},
        )
    }
)
