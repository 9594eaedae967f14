"""Reads YAML into sections of a schema, strictly, and says what is wrong with it, by line."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from streamer.core.home import in_home
from streamer.core.nearest import suggestion
from streamer.core.printable import printable, without_secrets
from streamer.errors import ConfigError

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""what may be the name of a source, a sound or a node"""


def _is_one_line(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("a name is one line of text that can be seen")
    return text


DisplayName: TypeAlias = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_is_one_line)]
"""What people read: any script, at most 64 characters."""


def written_out(path: Path) -> Path:
    """The path without `~`. Raises ValueError, as a schema's validators do."""
    try:
        return in_home(path)
    except ConfigError as error:
        raise ValueError(str(error)) from None


File: TypeAlias = Annotated[Path, Field(strict=False), AfterValidator(written_out)]
"""A path, which YAML can only write as text; relative to the working directory, or to a home with `~`."""


class Section(BaseModel):
    """A mapping of the file: unknown keys are errors, and a number is not written as text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""characters that no path, name or text for a broker may hold; YAML writes them as \"\\0\""""
LARGEST = 1 << 20
"""bytes of a configuration file; a larger one is something else"""

S = TypeVar("S", bound=Section)

Keys: TypeAlias = tuple[str | int, ...]
"""where a value stands: ("sounds", "dog_bark", "labels", 0)"""


def load_yaml(path: str | Path, choose: Callable[[dict[str, object]], type[S]], *, example: str) -> S:
    """Read and check a file by the schema that `choose` picks for its values. Raises ConfigError."""
    text = _read(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = ": indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
        raise _wrong(f"{path}:{line}: not YAML: {error.problem}{hint}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _wrong(f"{path}:{line}: not text: character #x{error.character:04x}") from None
    except RecursionError:
        raise _wrong(f"{path}: not a configuration: nested too deep") from None
    if node is None:
        raise _wrong(f"{path}: empty; copy {example} to begin with")
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(f"{path}:1: should be a mapping, as in {example}, not a list or a single value")

    tree = _Tree(loader)
    values = tree.mapping(node, ())
    schema = choose(values)
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            tree.explain(details, schema)
    if tree.faults:
        raise ConfigError(
            *(
                printable(f"{path}:{line}: {keys}: {', or '.join(reasons)}")
                for line, keys, reasons in tree.sorted()
            )
        )
    return config


def _wrong(what: str) -> ConfigError:
    """One line, whatever is in the file or in its name."""
    return ConfigError(printable(what))


def _read(path: str | Path) -> str:
    try:
        if Path(path).is_fifo() and Path(path).resolve().is_fifo():  # a shell's <(…) resolves to none
            raise _wrong(f"{path}: this is a pipe, which may never end; name a file")
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise _wrong(f"{path}: no such file") from None
    except OSError as error:
        raise _wrong(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise _wrong(f"{path}: not a configuration: larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _wrong(f"{path}:{line}: not text in UTF-8") from None


class _Loader(yaml.SafeLoader):
    """YAML of plain values. Anchors are refused: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs have no types for it
        if getattr(event, "anchor", None) is not None:  # of `&name` as of `*name`
            raise yaml.MarkedYAMLError(
                None, None, "anchors (&) and aliases (*) are not supported", event.start_mark
            )
        return super().compose_node(parent, index)


class _Tree:
    """The values of a file, the line of each, and what is wrong with them."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._lines: dict[Keys, int] = {}
        self._unread: set[Keys] = set()
        """whose values are none, so that nothing the schema says of them helps"""
        self.faults: dict[tuple[int, str], list[str]] = {}
        """by line and dotted keys; more than one reason where there is more than one way to be right"""

    def sorted(self) -> list[tuple[int, str, list[str]]]:
        """The faults, in the file's order."""
        return [(line, keys, self.faults[line, keys]) for line, keys in sorted(self.faults)]

    def plain(self, node: yaml.Node, keys: Keys) -> object:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                self._lines[*keys, i] = item.start_mark.line + 1
            return [self.plain(item, (*keys, i)) for i, item in enumerate(node.value)]
        line = node.start_mark.line + 1
        if _CONTROL.search(node.value):
            self._unread.add(keys)
            self._fault(line, keys, "should be text without control characters")
            return node.value
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            reason = f"cannot be read as a value: {_shown(node.value)}; put it in quotes if it is text"
            self._unread.add(keys)
            self._fault(line, keys, reason)
            return node.value

    def mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(line, (*keys, "?"), "a key should be a single word")
                continue
            key = str(
                key_node.value
            )  # as it is written: YAML reads the keys `on` and `off` as true and false
            here = (*keys, key)
            if key in values:
                self._fault(line, here, f"written twice, before in line {self._lines[here]}")
                continue
            self._lines[here] = line
            values[key] = self.plain(value_node, here)
        return values

    def explain(self, error: ErrorDetails, schema: type[Section]) -> None:
        """Note what the schema found wrong, where it stands in the file."""
        keys = tuple(key for key in error["loc"] if not _is_tag(key))
        here = keys
        while here and here not in self._lines:  # a missing key has no line, nor has the schema's own detail
            here = here[:-1]
        if here in self._unread:
            return
        line = self._lines.get(here, 1)
        if error["type"] == "missing":
            self._fault(line, keys, "missing")
        elif error["type"] == "extra_forbidden":
            self._fault(line, here, f"unknown key, {_way_out(error['loc'], schema)}")
        else:
            self._fault(line, here, _reason(error))

    def _fault(self, line: int, keys: Keys, reason: str) -> None:
        self.faults.setdefault((line, _dotted(keys)), []).append(reason)


def _dotted(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _reason(error: ErrorDetails) -> str:
    """One clause for people."""
    context: dict[str, Any] = error.get("ctx", {})
    found, kind = error["input"], error["type"]
    shown = _shown(found)
    if "error" in context:
        return str(context["error"])
    if context.get("pattern") == NAME:
        return f"should be a name of a-z, 0-9, _ and -, at most 64 long, not {shown}"
    if found is None:
        return "has no value; give it one or remove the line"
    is_mapping = kind not in {"model_type", "dict_type"} and (
        kind != "source_kind" or isinstance(found, dict)
    )
    reason = error["msg"].replace("Input should", "should") if is_mapping else "should be a mapping"
    if kind == "too_short":
        reason = "should have at least one entry"
    has_value = isinstance(found, bool | int | float | str) or not is_mapping
    return f"{reason}, not {shown}" if has_value else reason


def _shown(found: object) -> str:
    """The beginning of a value, without what may be secret in it."""
    if isinstance(found, str):
        return reprlib.repr(without_secrets(found))
    return without_secrets(reprlib.repr(found))


def _way_out(loc: Keys, schema: type[BaseModel]) -> str:
    """What to write instead of an unknown key: the nearest one, or where it belongs."""
    key, section, union = str(loc[-1]), schema, None
    for step in loc[:-1]:
        if step in section.model_fields:
            union = section.model_fields[str(step)].annotation
            section = _section(union, None) or section
        elif _is_tag(step):
            section = _section(union, str(step)) or section
    tags = _tags(union)
    kind = next((tag for tag, one in tags.items() if one is section), None)
    homes = [tag.strip("<>") for tag, one in tags.items() if key in one.model_fields]
    if kind is not None and homes:
        return f"it belongs to a {' or '.join(homes)}, and this is a {kind.strip('<>')}"
    return suggestion(key, list(section.model_fields)) or f"here may stand: {', '.join(section.model_fields)}"


def _is_tag(key: object) -> bool:
    """`<microphone>`: which member of a union a value was taken for; no key of the file."""
    return isinstance(key, str) and key.startswith("<") and key.endswith(">")


def _tags(annotation: object) -> dict[str, type[BaseModel]]:
    """The members of a tagged union, by tag."""
    found: dict[str, type[BaseModel]] = {}
    parts = get_args(annotation)
    tag = next((part.tag for part in parts if isinstance(part, Tag)), None)
    if tag is not None and isinstance(parts[0], type):
        return {tag: parts[0]}
    for part in parts:
        found |= _tags(part)
    return found


def _section(annotation: object, tag: str | None) -> type[BaseModel] | None:
    """The section in an annotation such as `dict[Id, SoundSettings]` or `TlsSettings | None`."""
    if tag is not None:
        return _tags(annotation).get(tag)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part, None))), None)
