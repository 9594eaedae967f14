"""The picture of the structure, held against the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import streamer

ROOT = Path(streamer.__file__).parent

ORDER = [
    {"types", "errors", "metrics"},
    {"core", "language"},
    {"config"},
    {"capture", "signal", "model"},
    {"detection", "inference", "nodes"},
    {"store"},
    {"mqtt"},
    {"home_assistant"},
    {"sinks", "alerts"},
    {"ops"},
    {"data"},
    {"teaching"},
    {"web"},
    {"run"},
    {"archive", "fleet"},
    {"evaluation"},
    {"training"},
    {"cli"},
    {"__main__"},
]
"""each part imports only from rows above its own; within a row and a part, without a circle"""
TORCH = {
    "model": "ast.py checkpoint.py convert.py fbank.py",
    "inference": "engines/torch.py engines/cuda_graphs.py engines/packed.py",
    "data": "crops.py paths.py teacher.py",
    "evaluation": "report.py rivals.py",
    "training": "",
}
"""the files that import torch, by part: all of one that names none; a light installation does without them"""
ONLY_IMPORTERS = {
    "sounddevice": "capture/microphone.py",
    "av": "capture/stream.py data/paths.py store/flac.py",
    "aiomqtt": "mqtt/aiomqtt_internals.py mqtt/connection.py",
    "amqtt": "mqtt/broker.py",
    "apprise": "alerts/targets.py",
    "starlette": "web/account.py web/api.py web/clips.py web/events.py web/exports.py web/guard.py "
    "web/live.py web/metrics.py web/missed.py web/openapi.py web/recurring.py web/request.py "
    "web/server.py web/settings.py web/shared.py web/static_files.py web/teaching.py web/trials.py "
    "web/vetoes.py",
    "uvicorn": "web/server.py",
    "prometheus_client": "ops/prometheus.py",
    "soundfile": "nodes/flac.py",
    "soxr": "nodes/hops.py",
    "ray": "inference/ray/applications.py inference/ray/cluster.py inference/ray/engine.py",
    "grpc": "inference/ray/cluster.py",
    "wyoming": "capture/satellite.py",
    "websockets": "nodes/gateway.py nodes/link.py",
}


@cache
def imports(path: Path, *, top_level: bool) -> tuple[str, ...]:
    """The modules a file imports, dotted; with `top_level`, only those that importing it loads."""
    return tuple(_imports(path, top_level=top_level))


def _imports(path: Path, *, top_level: bool) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not (top_level and (is_function or is_for_types)):
                todo.append(child)


FILES = sorted(ROOT.rglob("*.py"))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(name: str) -> str:
    """`streamer.capture.ring` is of the part `capture`."""
    return name.split(".")[1]


def test_parts_import_downwards() -> None:
    """Values, configuration, stages, pipeline, daemon, command: nobody imports from a row below."""
    row = {name: i for i, names in enumerate(ORDER) for name in names}
    wrong = []
    for path in FILES:
        for name in imports(path, top_level=False):
            if name.startswith("streamer.") and module(path).count("."):
                here, there = part(module(path)), part(name)
                if here != there and there in row and row[there] > row[here]:
                    wrong.append(f"{module(path)} imports {name}")
    assert wrong == []


def test_there_is_no_circle() -> None:
    """The modules that load each other can be put in an order."""
    known = {module(path) for path in FILES}
    graph = {
        module(path): {name for name in imports(path, top_level=True) if name in known} - {module(path)}
        for path in FILES
    }
    assert list(TopologicalSorter(graph).static_order())


def test_there_is_no_circle_between_packages() -> None:
    """Not even by an import inside a function."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if module(path).count("."):
            here = graph.setdefault(part(module(path)), set())
            here |= {part(name) for name in imports(path, top_level=False) if name.startswith("streamer.")}
    for here, there in graph.items():
        there.discard(here)
    assert list(TopologicalSorter(graph).static_order())


def test_torch_stays_where_it_belongs() -> None:
    """All else starts in milliseconds, and works where torch is not installed."""
    own = {f"{part}/{name}" for part, names in TORCH.items() for name in names.split()}
    wrong = [
        module(path)
        for path in FILES
        if (inside := path.relative_to(ROOT).as_posix()) not in own
        and TORCH.get(inside.partition("/")[0]) != ""
        and any(name.split(".")[0] == "torch" for name in imports(path, top_level=False))
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_has_one_home(library: str) -> None:
    """What a library does is said in one place; a change of the library is a change of one file."""
    found = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name.split(".")[0] == library for name in imports(path, top_level=False))
    }
    assert found == set(ONLY_IMPORTERS[library].split())
