"""The reference of the configuration, made from its schema: a page, and a JSON Schema for editors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streamer.config.capture import CaptureSettings
from streamer.config.schema import Config, SoundSettings
from streamer.config.sources import KINDS

HEAD = """\
# Configuration

One YAML file. `streamer check --config FILE` tries all of it; a wrong key is named with its line and the
nearest right one. `streamer config example home` prints a file to begin with. `streamer config schema` prints
the JSON Schema, with which an editor completes the keys: the first line of the examples names it. This page
is made by `streamer config docs`.

Paths are relative to the directory in which the program is started. `SIGHUP` (`systemctl reload`) takes a
changed file into use without a restart, except for `node`, `state_dir`, `model`, `health`, `web`, `store`,
`clips`, `alerts`, `gateway` and `fleet`.
"""
NODE = """\
# Capture nodes

`streamer capture --config FILE` reads a file of its own; [capture-nodes.md](capture-nodes.md) has both ends.
"""
_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "`true` or `false`",
    "Path": "path",
}


def sections(root: type[BaseModel] = Config) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with the dotted path of its place, in the order of the file."""
    yield "", root
    for key, field in root.model_fields.items():
        if root is Config and key == "sources":
            for kind in KINDS.values():
                yield "sources.NAME", kind
        elif root is Config and key == "sounds":
            for path, inner in sections(SoundSettings):
                yield f"sounds.NAME.{path}".strip("."), inner
        elif (section := _section(field.annotation)) is not None:
            for path, inner in sections(section):
                yield f"{key}.{path}".strip("."), inner


def json_schema(root: type[BaseModel] = Config) -> dict[str, Any]:
    """JSON Schema (2020-12) of a file."""
    schema = root.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def page() -> str:
    """docs/configuration.md."""
    pages = [_section_page(path, section) for path, section in sections()]
    return "\n".join([HEAD, *pages, NODE, _section_page("capture", CaptureSettings)])


def _section_page(path: str, section: type[BaseModel]) -> str:
    title = f"`{path}`" if path else "The file"
    if section is CaptureSettings:
        title = "The file of a capture node"
    title += "".join(f": a {kind}" for kind, settings in KINDS.items() if settings is section)
    rows = [
        f"| `{key}` | {_kind(field)} | {_default(field)} | {_text(field.description)} |"
        for key, field in section.model_fields.items()
        if not (path == "" and _section(field.annotation) is not None)
    ]
    about = " ".join((section.__doc__ or "").split())
    return "\n".join(
        [f"## {title}", "", about, "", "| key | value | default | |", "|---|---|---|---|", *rows, ""]
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value is None:
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _text(description: str | None) -> str:
    return " ".join((description or "").split()).replace("|", "\\|")


def _kind(field: FieldInfo) -> str:
    return f"{_type(field.annotation)}{_bounds(field.metadata)}".replace("|", "\\|")


def _type(annotation: Any) -> str:  # noqa: PLR0911  # one line a kind of type
    """A type in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    match origin:
        case _ if origin is Annotated:
            return _type(args[0]) + _bounds(list(args[1:]))
        case _ if origin is Literal:
            return ", ".join(f"`{arg if isinstance(arg, str) else json.dumps(arg)}`" for arg in args)
        case _ if origin in (list, tuple):
            return f"list of {_type(args[0])}"
        case _ if origin is dict:
            return f"mapping from names to {_type(args[1])}"
        case _ if args:
            return " or ".join(dict.fromkeys(_type(arg) for arg in args if arg is not type(None)))
        case _ if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return "section"
        case _:
            name = getattr(annotation, "__name__", str(annotation))
            return _WORDS.get(name, name)


def _bounds(metadata: list[Any]) -> str:
    bounds = []
    for one in metadata:
        for part in getattr(one, "metadata", None) or [one]:
            for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
                value = getattr(part, attribute, None)
                if value is not None:
                    bounds.append(f"{sign} {value:g}")
    return f", {', '.join(bounds)}" if bounds else ""


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is dict:
        return None
    return next((found for part in get_args(annotation) if (found := _section(part)) is not None), None)
