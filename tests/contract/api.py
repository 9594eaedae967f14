"""Holds an answer of the API against the schema of its route: all tests of the page ask through here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from streamer.web.openapi import SCHEMAS


def check_answer(
    described: Mapping[str, Any],
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
) -> None:
    """Raises where an answer is not as the OpenAPI document says; what it does not describe is left alone."""
    operation = _operation(described, method, path)
    if operation is None or not body:
        return
    content = operation["responses"][f"{status // 100}XX"].get("content", {})
    kind = headers["content-type"].partition(";")[0]
    assert kind in content, f"{method} {path}: {status} is answered with {kind}"
    if kind == "application/json":
        check_value(content[kind]["schema"]["$ref"].rpartition("/")[2], json.loads(body))


def check_value(name: str, value: object) -> None:
    """Raises where a value is not as a schema of `answers.json` says."""
    _validator(name).validate(value)


def _operation(described: Mapping[str, Any], method: str, path: str) -> Mapping[str, Any] | None:
    for template, operations in described["paths"].items():
        pattern = "[^/]+".join(map(re.escape, re.split(r"{\w+}", template)))
        if method.lower() in operations and re.fullmatch(pattern, path):
            found: Mapping[str, Any] = operations[method.lower()]
            return found
    return None


@cache
def _validator(name: str) -> Draft202012Validator:
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)
