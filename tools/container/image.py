"""Carries out the stages of a Dockerfile in directories: debootstrap and chroot in the place of an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tools.container.dockerfile import DockerfileError, Ignored, Instruction, Stage

SLIM = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
"""what makes an image of Debian a slim one: dpkg leaves these out"""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
"""settings of this machine's package clients, which a builder is told as well"""
CERTIFICATES = "run/certificates.pem"
"""where pip finds those that $PIP_CERT of this machine names, as long as a stage is being built"""


@dataclass(frozen=True)
class Image:
    """What a stage has become so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "root"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()

    def line(self, command: tuple[str, ...], more: dict[str, str] | None = None) -> list[str]:
        """What to run here, as root, to run a command there; its processes end with its first one."""
        settings = [f"{name}={value}" for name, value in (self.environment | (more or {})).items()]
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc"),
            *("chroot", f"--userspec={self.user}", str(self.root)),
            *("env", "--ignore-environment", f"--chdir={self.workdir}", *settings, *command),
        ]


class Builder:
    """Builds stages into directories of a folder, each once. Needs root, debootstrap and Debian's mirror."""

    def __init__(self, stages: dict[str, Stage], context: Path, folder: Path, mirror: str) -> None:
        self._stages = stages
        self._context = context
        self._folder = folder
        self._mirror = mirror
        self._ignored = Ignored((context / ".dockerignore").read_text(encoding="utf-8"))
        self._images: dict[str, Image] = {}

    def image(self, name: str) -> Image:
        """Of a stage, or of `debian:SUITE-slim`.

        Raises DockerfileError, and CalledProcessError where a step fails.
        """
        if name not in self._images:
            stage = self._stages.get(name)
            self._images[name] = self._debian(name) if stage is None else self._build(stage)
        return self._images[name]

    def _debian(self, name: str) -> Image:
        match = re.fullmatch(r"debian:(\w+)-slim", name)
        if match is None:
            raise DockerfileError(f"{name}: only a slim Debian can be made here")
        root = self._folder / name.replace(":", "-")
        log(f"{name}: debootstrap")
        subprocess.run(
            ["debootstrap", "--variant=minbase", match[1], root, self._mirror],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(SLIM, encoding="utf-8")
        for line in SLIM.splitlines():
            if line.startswith("path-exclude"):
                shutil.rmtree(root / line.split()[1].strip("/*"))
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / waste)
            (root / waste).mkdir()
        (root / "etc/apt/apt.conf.d/keep-nothing").write_text(
            'Binary::apt-get::APT::Keep-Downloaded-Packages "false";\n'
        )
        return Image(root)

    def _build(self, stage: Stage) -> Image:
        base = self.image(stage.base)
        image = replace(base, root=self._folder / stage.name)
        subprocess.run(["cp", "--archive", "--reflink=auto", base.root, image.root], check=True)
        settings = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        if given := os.environ.get("PIP_CERT"):
            shutil.copy(given, image.root / CERTIFICATES)
            settings["PIP_CERT"] = f"/{CERTIFICATES}"
        shutil.copy("/etc/resolv.conf", image.root / "etc/resolv.conf")
        for step in stage.steps:
            log(f"{stage.name}: {step.name} {step.text[:90]}")
            image = self._carry_out(step, image, settings)
        (image.root / CERTIFICATES).unlink(missing_ok=True)
        (image.root / "etc/resolv.conf").unlink()
        return image

    def _carry_out(self, step: Instruction, image: Image, settings: dict[str, str]) -> Image:
        changed: dict[str, Any] = {}
        match step.name:
            case "RUN":
                subprocess.run(image.line(step.command, settings), check=True, stdout=sys.stderr)
            case "COPY":
                self._copy(step, image)
            case "ARG":
                settings |= step.pairs()
            case "ENV":
                changed = {"environment": image.environment | step.pairs()}
            case "WORKDIR":
                (image.root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
                changed = {"workdir": step.text}
            case "USER":
                changed = {"user": step.text}
            case "ENTRYPOINT":
                changed = {"entrypoint": step.command}
            case "CMD":
                changed = {"command": step.command}
            case "HEALTHCHECK":
                changed = {"health": step.command}
        return replace(image, **changed)  # VOLUME is for the engine

    def _copy(self, step: Instruction, image: Image) -> None:
        words = step.text.split()
        source, shown = self._context, self._ignored
        if words[0].startswith("--from="):
            source, shown = self.image(words.pop(0).removeprefix("--from=")).root, Ignored("")
        elif words[0].startswith("--"):
            raise DockerfileError(f"Dockerfile:{step.line}: {words[0]} cannot be carried out")
        *names, to = words
        target = image.root / PurePosixPath(image.workdir, to).as_posix().lstrip("/")
        for name in names:
            origin = source / name.lstrip("/")
            if origin.is_dir():
                _copy_tree(origin, target, source, shown)
            elif shown(PurePosixPath(name)):
                raise DockerfileError(f"Dockerfile:{step.line}: .dockerignore hides {name}")
            else:
                place = target / origin.name if to.endswith("/") or target.is_dir() else target
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin, place)


def _copy_tree(origin: Path, target: Path, source: Path, shown: Ignored) -> None:
    def hidden(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if shown(PurePosixPath(Path(folder, name).relative_to(source)))]

    shutil.copytree(origin, target, symlinks=True, ignore=hidden, dirs_exist_ok=True)


def size(*folders: Path) -> int:
    """Bytes of the files in some folders; one with several names counts once."""
    found: dict[tuple[int, int], int] = {}
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                status = (Path(folder) / name).lstat()
                found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
