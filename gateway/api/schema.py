"""What `/openapi.json` says of bodies and answers: models, and an example for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from gateway.api.auth import Allow
from gateway.bodies import Body

_REF = "#/components/schemas/{model}"
_SCHEMAS = "x-schemas"
"""Where a route carries its body's schemas until the contract is put together."""

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["at", "code", "message"],
                "properties": {
                    "at": {"type": "string"},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
        "current": {"type": ["object", "null"]},
    },
}


def takes(model: type[Body], example: Any) -> dict[str, Any]:
    """A route's body."""
    return _body(model, {"$ref": _REF.format(model=model.__name__)}, example)


def takes_items(model: type[Body], example: Any) -> dict[str, Any]:
    """A batch route's body."""
    items = {"type": "array", "items": {"$ref": _REF.format(model=model.__name__)}, "maxItems": 1000}
    schema = {"type": "object", "required": ["items"], "properties": {"items": items}}
    return _body(model, schema, {"items": [example]})


def _body(model: type[Body], schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    made = model.model_json_schema(ref_template=_REF)
    content = {"application/json": {"schema": schema, "example": example}}
    return {
        "requestBody": {"required": True, "content": content},
        _SCHEMAS: {**made.pop("$defs", {}), model.__name__: made},
    }


def asks(model: type[Body]) -> dict[str, Any]:
    """A list route's query."""
    made = model.model_json_schema(ref_template=_REF)
    listed = [{"name": name, "in": "query", "schema": schema} for name, schema in made["properties"].items()]
    return {"parameters": listed, _SCHEMAS: made.get("$defs", {})}


def gives(status: int, example: Any) -> dict[int | str, dict[str, Any]]:
    """A route's answer."""
    content = {"application/json": {"example": example}}
    problem = {"$ref": _REF.format(model="Problem")}
    return {
        status: {"description": "Done.", "content": content},
        "default": {"description": "Not done.", "content": {"application/problem+json": {"schema": problem}}},
    }


def roles_of(route: APIRoute) -> frozenset[str] | None:
    """The roles that may use a route; None for whoever comes."""
    guards = [d.call for d in route.dependant.dependencies if isinstance(d.call, Allow)]
    return frozenset(guards[0].roles) if guards else None


def openapi(routes: Sequence[APIRoute], version: str) -> dict[str, Any]:
    """The whole contract; roles stand at each route as `x-roles`."""
    made = get_openapi(title="Outreach gateway", version=version, routes=routes)
    made["components"] = {
        "schemas": {"Problem": PROBLEM},
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    }
    for route in routes:
        for method in route.methods or ():
            operation = made["paths"].get(route.path, {}).get(method.lower())
            if operation is not None:
                made["components"]["schemas"] |= operation.pop(_SCHEMAS, {})
                _finish(operation, route)
    return made


def _finish(operation: dict[str, Any], route: APIRoute) -> None:
    operation["responses"].pop("422", None)
    roles = roles_of(route)
    if roles is not None:
        operation["x-roles"] = sorted(roles)
        operation["security"] = [{"key": []}]
