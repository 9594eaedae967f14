"""What the discovery says of the program itself: name, version, and where to get help."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

from streamer import __version__

HELP_URLS = ("support", "documentation", "homepage")
"""labels of `[project.urls]` in pyproject.toml, the best first"""


def origin(package: str = "streamer") -> dict[str, str]:
    """The `origin` of a discovery payload, abbreviated; no `support_url` where the package names no address.

    Source: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
    """
    about = {"name": "streamer", "sw": __version__}
    try:
        given = metadata(package).get_all("Project-URL") or []
    except PackageNotFoundError:  # run from its folder, without an installation
        given = []
    urls = {label.strip().lower(): url.strip() for label, _, url in (line.partition(",") for line in given)}
    for label in HELP_URLS:
        if label in urls:
            return about | {"url": urls[label]}
    return about


ORIGIN = origin()
