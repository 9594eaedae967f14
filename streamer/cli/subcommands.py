"""A group of commands one of which may be left unnamed."""

from __future__ import annotations

import typer
from typer.core import TyperGroup


def default_command(name: str) -> type[TyperGroup]:
    """A group in which `GROUP ARGUMENT` stands for `GROUP NAME ARGUMENT`."""

    class Group(TyperGroup):
        def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own class
            if args and args[0] not in self.commands and args[0] != "--help":
                args = [name, *args]
            return super().parse_args(ctx, args)

    return Group
