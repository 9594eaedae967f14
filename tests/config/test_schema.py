"""The configuration file: what it says, and what is said when it is wrong."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import streamer
from streamer.config.reference import sections
from streamer.config.schema import example, load_config
from streamer.config.sources import StreamSettings
from streamer.config.yaml import LARGEST
from streamer.detection.sounds import Sounds
from streamer.errors import ConfigError
from streamer.model.labels import AUDIOSET

CONFIGS = Path(__file__).parents[2] / "configs"

SMALL = """\
sources:
  room: {demo: true}
sounds:
  dog: {labels: [Dog]}
"""

ONE_KIND = "a source has exactly one of: microphone, stream, command, wyoming, node, demo"

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "x.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def faults(path: Path) -> list[str]:
    """The lines of the error, without the directory."""
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert error.value.exit_code == 78
    return [line.removeprefix(f"{path.parent}/") for line in str(error.value).splitlines()]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_configurations_load_and_name_labels_of_audioset(path: Path) -> None:
    """Whoever copies one begins with a file that works."""
    config = load_config(path)

    Sounds({name: config.sound(name).labels for name in config.sounds}, AUDIOSET)
    for sound in config.sounds.values():
        assert len(set(sound.labels)) == len(sound.labels)


@pytest.mark.parametrize("name", ["home", "quickstart", "gpu"])
def test_an_installation_has_the_examples(name: str) -> None:
    """They lie in the package, so that commands have a default in any directory."""
    path = example(name)
    assert path.is_relative_to(Path(streamer.__file__).parent)
    assert load_config(path).sounds


def test_home_shows_every_setting() -> None:
    """The file that explains the settings leaves none out."""
    settings = {key for _, section in sections() for key in section.model_fields}

    written = set(re.findall(r"^[# ]*([a-z_]+):", (CONFIGS / "home.yaml").read_text(), re.MULTILINE))

    assert settings - written == {"demo", "fallback"}  # said in words, and in quickstart.yaml


def test_what_home_comments_out_is_right_when_put_back(write: Write) -> None:
    """Uncommenting any line makes no mistake: each is a setting as it should be written."""
    text = (CONFIGS / "home.yaml").read_text()
    whole = re.sub(r"^( *)# ( *[a-z_]+:( |$))", r"\1\2", text, flags=re.MULTILINE)
    config = load_config(write(whole))

    assert set(config.sources) == {"living_room", "front_door", "rehearsal", "garage", "study", "yard"}
    assert config.mqtt.tls is not None
    follow_others = {"off", "confirm_of"}
    assert config.detection.model_dump(exclude=follow_others) == load_config(
        CONFIGS / "home.yaml"
    ).detection.model_dump(exclude=follow_others)


def test_a_sound_takes_from_detection_what_it_does_not_say(write: Write) -> None:
    """Its own settings go first; `off` is half of `on` where nobody says it; on and off are words as keys."""
    own = "sounds: {a: {labels: [Dog]}, b: {labels: [Dog], on: 0.8, off: 0.3, merge_gap_s: 4, confirm: 2}}\n"
    sources = "sources: {room: {demo: true}}\n"

    config = load_config(write(sources + own + "detection: {on: 0.6, min_duration_s: 0.5}\n"))
    a, b = config.sound("a"), config.sound("b")
    assert (a.on, a.off, a.merge_gap_s, a.confirm, a.min_duration_s) == (0.6, 0.3, 1.0, 1, 0.5)
    assert (b.on, b.off, b.merge_gap_s, b.confirm, b.min_duration_s) == (0.8, 0.3, 4.0, 2, 0.5)
    assert a.labels == ("Dog",)

    config = load_config(write(sources + own + "detection: {off: 0.1}\n"))
    assert (config.sound("a").off, config.sound("b").off) == (0.1, 0.3)


def test_every_mistake_is_told_at_once_in_order_with_line_key_and_way_out(write: Write) -> None:
    """One line for each: file, line, where, what is wrong, and the nearest right key."""
    path = write(
        """\
node: My House
sources:
  here: {microphone: default, chanel: 1}
  "Bad Name": {demo: yes}
  two: {demo: true, stream: x.wav}
  cam: {stream: 12}
  left: {microphone: default, channel: 0}
detection:
  of: 0.2
  on: .nan
sounds:
  dog:
    labels: [Dog, 12]
    on: 0.3
    off: 0.4
  cat: {labels: []}
  cat: {labels: [Cat]}
  cow:
  owl: {on: 2}
mqtt:
  tls: {cert: x}
  threshold: 3
  port: "1883"
  username: 2024-13-45
windows: [1, 2]
"""
    )

    name = "should be a name of a-z, 0-9, _ and -, at most 64 long, not"
    assert faults(path) == [
        f"x.yaml:1: node: {name} 'My House'",
        "x.yaml:3: sources.here.chanel: unknown key, did you mean channel?",
        f"x.yaml:4: sources.Bad Name: {name} 'Bad Name'",
        f"x.yaml:5: sources.two: {ONE_KIND}",
        "x.yaml:6: sources.cam.stream: should be a valid string, not 12",
        "x.yaml:7: sources.left.channel: should be 'mix', not 0, "
        "or should be greater than or equal to 1, not 0",
        "x.yaml:9: detection.of: unknown key, did you mean off?",
        "x.yaml:10: detection.on: should be less than 1, not nan",
        "x.yaml:13: sounds.dog.labels[1]: should be a valid string, not 12",
        "x.yaml:16: sounds.cat.labels: should have at least one entry",
        "x.yaml:17: sounds.cat: written twice, before in line 16",
        "x.yaml:18: sounds.cow: has no value; give it one or remove the line",
        "x.yaml:19: sounds.owl.on: should be less than 1, not 2",
        "x.yaml:21: mqtt.tls.cert: unknown key, did you mean cert_file?",
        "x.yaml:22: mqtt.threshold: unknown key, here may stand: enabled, host, port, embedded, username, "
        "password_file, tls, client_id, prefix, keepalive_s, commands",
        "x.yaml:23: mqtt.port: should be a valid integer, not '1883'",
        "x.yaml:24: mqtt.username: cannot be read as a value: '2024-13-45'; put it in quotes if it is text",
        "x.yaml:25: windows: should be a mapping, not [1, 2]",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "microphone: default, pace: fast, loop: true, sample_rate: 8000, chanel: 1",
            [
                "chanel: unknown key, did you mean channel?",
                "loop: unknown key, it belongs to a stream or demo, and this is a microphone",
                "pace: unknown key, it belongs to a stream or demo, and this is a microphone",
                "sample_rate: unknown key, it belongs to a command, and this is a microphone",
            ],
        ),
        (
            "stream: a.wav, fallback: demo",
            ["fallback: unknown key, it belongs to a microphone, and this is a stream"],
        ),
        ("command: []", ["command: should have at least one entry"]),
        ("demo: false", ["demo: should be True, not False"]),
        ("stream: ''", ["stream: String should have at least 1 character, not ''"]),
    ],
)
def test_a_key_of_another_kind_of_source_is_refused(write: Write, source: str, expected: list[str]) -> None:
    """Each wrong key is a line that says where it belongs."""
    assert faults(write(f"sources: {{room: {{{source}}}}}\nsounds: {{dog: {{labels: [Dog]}}}}\n")) == [
        f"x.yaml:1: sources.room.{line}" for line in expected
    ]


@pytest.mark.parametrize("source", ["{}", "{channel: 2}", "{demo: true, microphone: x}", "{microphon: x}"])
def test_a_source_of_no_kind_or_of_two_is_refused(write: Write, source: str) -> None:
    """What a source is stands in one of six keys."""
    assert faults(write(f"sources: {{room: {source}}}\nsounds: {{dog: {{labels: [Dog]}}}}\n")) == [
        f"x.yaml:1: sources.room: {ONE_KIND}"
    ]


@pytest.mark.parametrize(
    ("detection", "sound", "expected"),
    [
        ("{}", "on: 0.3, off: 0.4", "x.yaml:4: sounds.dog: off (0.4) is above on (0.3)"),
        ("{off: 0.4}", "on: 0.3", "x.yaml:4: sounds.dog: off (0.4) is above on (0.3)"),
        ("{on: 0.3}", "off: 0.4", "x.yaml:4: sounds.dog: off (0.4) is above on (0.3)"),
        ("{on: 0.3, off: 0.4}", "on: 0.5", "x.yaml:1: detection: off (0.4) is above on (0.3)"),
    ],
)
def test_off_is_never_above_on(write: Write, detection: str, sound: str, expected: str) -> None:
    """Wherever the two come from."""
    dog = f"sounds:\n  dog: {{labels: [Dog], {sound}}}\n"

    found = faults(write(f"detection: {detection}\nsources: {{room: {{demo: true}}}}\n{dog}"))

    assert found == [f"{expected}: an event would end as soon as it began"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "x.yaml: empty; copy configs/quickstart.yaml to begin with"),
        ("# nothing\n", "x.yaml: empty; copy configs/quickstart.yaml to begin with"),
        (
            "- a\n- b\n",
            "x.yaml:1: should be a mapping, as in configs/quickstart.yaml, not a list or a single value",
        ),
        (
            "word",
            "x.yaml:1: should be a mapping, as in configs/quickstart.yaml, not a list or a single value",
        ),
        (SMALL + "mqtt: {host: [\n", "x.yaml:6: not YAML: .*"),
        (SMALL + "mqtt:\n\thost: a\n", "x.yaml:6: not YAML: .*: indent with spaces, not tabs"),
        (SMALL + "---\n" + SMALL, "x.yaml:5: not YAML: .*"),
        (SMALL + "node: &n a\n", r"x.yaml:5: not YAML: anchors \(&\) and aliases \(\*\) are not supported"),
        (SMALL + "node: *n\n", r"x.yaml:5: not YAML: anchors \(&\) and aliases \(\*\) are not supported"),
        (SMALL + "node: !!python/name:os.system a\n", "x.yaml:5: node: cannot be read as a value: .*"),
        (SMALL + "? [a, b]\n: c\n", r"x.yaml:5: \?: a key should be a single word"),
        (SMALL.encode() + b"node: \xff\n", "x.yaml:5: not text in UTF-8"),
        (SMALL + "node: \x07\n", "x.yaml:5: not text: character #x0007"),
        ("[" * 50_000, "x.yaml: not a configuration: nested too deep"),
        (b"#" * (LARGEST + 1), "x.yaml: not a configuration: larger than 1 MiB"),
        ("node: a\n", "x.yaml:1: sounds: missing\nx.yaml:1: sources: missing"),
    ],
)
def test_what_is_no_configuration_is_refused_in_a_line(
    write: Write, content: str | bytes, expected: str
) -> None:
    """Whatever the file holds, the error names it, the line where there is one, and the cause."""
    assert re.fullmatch(expected, "\n".join(faults(write(content))))


@pytest.mark.parametrize("seed", range(20))
def test_a_file_that_a_disk_has_changed(write: Write, seed: int) -> None:
    """Cut off anywhere, or with a few bits flipped, it still makes sense, or each fault is a line."""
    content, rng = bytearray((CONFIGS / "home.yaml").read_bytes()), random.Random(seed)
    if seed % 2:
        del content[rng.randrange(len(content)) :]
    else:
        for _ in range(5):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path = write(bytes(content))
    try:
        load_config(path)
    except ConfigError as error:
        assert all(line.startswith(f"{path}:") for line in str(error).splitlines())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Nor is a directory read as a file."""
    assert faults(tmp_path / "none.yaml") == ["none.yaml: no such file"]
    assert faults(tmp_path)[0].endswith(": cannot be read: Is a directory")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert faults(tmp_path / "pipe.yaml") == ["pipe.yaml: this is a pipe, which may never end; name a file"]


def test_a_path_is_text_in_the_file(write: Write) -> None:
    """Though all other types are strict."""
    config = load_config(write(SMALL + "mqtt: {password_file: secrets/mqtt, tls: {ca_file: ca.pem}}\n"))

    assert config.mqtt.password_file == Path("secrets/mqtt")
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca_file == Path("ca.pem")


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        ("mqtt://127.0.0.1", False),
        ("127.0.0.1:1883", False),
        ("'broker:'", False),
        ("broker/", False),
        ("'me@broker'", False),
        ("'my broker'", False),
        ("'[::1]'", False),
        ("'[::1]:1883'", False),
        ("broker.home.arpa", True),
        ("127.0.0.1", True),
        ("'::1'", True),
        ("'fe80::1%eth0'", True),
    ],
)
def test_a_host_is_no_address(write: Write, host: str, is_right: bool) -> None:
    """A scheme or a port in it is refused, with the keys that they belong to."""
    path = write(SMALL + f"mqtt: {{host: {host}}}\n")
    if is_right:
        assert load_config(path).mqtt.host == host.strip("'")
    else:
        (line,) = faults(path)
        assert line.startswith("x.yaml:5: mqtt.host: a host name or address alone: the port is mqtt.port")


def test_a_file_in_the_home_directory(write: Write) -> None:
    """`~` is the home directory for a stream, as it is for all other files."""
    text = SMALL.replace("{demo: true}", "{stream: ~/x.wav}")
    (source,) = load_config(write(text)).sources.values()
    assert isinstance(source, StreamSettings)
    assert source.stream == str(Path.home() / "x.wav")


def test_what_is_said_can_be_printed(write: Write) -> None:
    """Keys and values with terminal commands or line ends in them forge nothing."""
    for text in ('{"sources":{"\\e[31m"}}', '{"a\\nb": 1}', '{"sources": "\\e"}'):
        assert all(line.isprintable() and line.startswith("x.yaml:") for line in faults(write(text)))


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        ("{on: 0.5}", "sounds.owl: a sound has exactly one of: labels, taught, above_background_db"),
        ("{labels: [Owl], taught: owl}", "sounds.owl: a sound has exactly one of"),
        ("{taught: owl, above_background_db: 20}", "sounds.owl: a sound has exactly one of"),
        ("{taught: ../owl}", "sounds.owl.taught: "),
        ("{labels: [Owl], above_background_db: 20}", "sounds.owl: a sound has exactly one of"),
        ("{above_background_db: 20, on: 0.5}", "sounds.owl: loudness has no on and off"),
        (
            "{labels: [Owl], priority: critical, veto: {model: ast-tiny, bias: 0, weights: {Cat: 1}}}",
            "sounds.owl: nothing may hold a critical sound back: it has no veto",
        ),
        (
            "{above_background_db: 9, veto: {model: ast-tiny, bias: 0, weights: {Cat: 1}}}",
            "sounds.owl: loudness has no labels, and so no veto",
        ),
        (
            "{labels: [Owl], expect: {every: 5m}}",
            "sounds.owl.expect.every: an hour at least and a year at most",
        ),
        (
            "{labels: [Owl], expect: {every: daily}}",
            "sounds.owl.expect.every: 'daily' is no length of time: write 90s, 30m, 24h, 7d or 2w",
        ),
        (
            "{labels: [Owl], expect: {every: 1d, at: cave}}",
            "sounds.owl.expect.at: 'cave' is no source of this file",
        ),
        ("{labels: [Owl], unless: [crow]}", "sounds.owl.unless: 'crow' is not another sound of this file"),
        ("{labels: [Owl], verify: maybe}", "sounds.owl.verify: should be 'none', 'mark' or 'require'"),
        ("{labels: [Owl], cadence: t4}", "sounds.owl: cadence has no effect without verify"),
    ],
)
def test_a_sound_that_makes_no_sense_is_refused(write: Write, sound: str, reason: str) -> None:
    """Labels or loudness, guards that exist, and what of alarms there is to ask."""
    with pytest.raises(ConfigError) as error:
        load_config(write(f"sources: {{room: {{demo: true}}}}\nsounds: {{owl: {sound}}}\n"))

    assert reason in str(error.value)


def test_clips_fit_into_the_ring(tmp_path: Path) -> None:
    """With all windows that see them; and their sounds are sounds of the file."""
    text = "sources: {room: {demo: true}}\nsounds: {siren: {labels: [Siren]}}\nwindows: {ring_s: 40}\n"
    path = tmp_path / "a.yaml"
    path.write_text(f"{text}clips: {{enabled: true, longest_s: 23}}\n", encoding="utf-8")
    assert load_config(path).clips.longest_s == 23
    path.write_text(f"{text}clips: {{enabled: true, longest_s: 24}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"so long they need windows\.ring_s: 41, and it is 40"):
        load_config(path)
    path.write_text(f"{text}clips: {{sounds: [dog]}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'dog' is no sound of this file"):
        load_config(path)
    path.write_text(f"{text}alerts: {{attach: clip}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"alerts\.attach: clip needs clips\.enabled"):
        load_config(path)


@pytest.mark.parametrize(
    ("web", "reason"),
    [
        ("{public_url: 'http://home:8927/'}", "web: public_url has no effect without enabled: true"),
        ("{enabled: true, public_url: home}", "web.public_url: "),
        ("{enabled: true, public_url: 'http://home/?a'}", "web.public_url: "),
        ("{enabled: true, public_url: 'http://home/#a'}", "web.public_url: "),
        ("{enabled: true, public_url: 'http://ho me/'}", "web.public_url: "),
    ],
)
def test_an_address_for_phones_that_leads_nowhere_is_refused(write: Write, web: str, reason: str) -> None:
    """It needs a page, and paths are put behind it."""
    text = "sources: {room: {demo: true}}\nsounds: {siren: {labels: [Siren]}}\n"
    with pytest.raises(ConfigError, match=re.escape(reason)):
        load_config(write(f"{text}web: {web}\n"))


def test_a_taught_sound_is_one_more_label(write: Write) -> None:
    """Which no model has by itself; rules apply to it as to any other."""
    config = load_config(
        write("sources: {room: {demo: true}}\nsounds: {chime: {taught: our_bell, on: 0.6}}\n")
    )

    rule = config.sound("chime")
    assert (rule.labels, rule.taught, rule.on) == (("taught: our_bell",), "our_bell", 0.6)


def test_where_a_sound_is_expected(write: Write) -> None:
    """At the only source; where there are several, the file says at which."""
    sounds = "sounds: {owl: {labels: [Owl], expect: {every: 1d}}, cat: {labels: [Cat]}}\n"
    config = load_config(write("sources: {barn: {demo: true}}\n" + sounds))
    assert config.expected == (("barn", "owl", 86400.0),)
    two = "sources: {barn: {demo: true}, wood: {demo: true}}\n"
    with pytest.raises(ConfigError, match=r"sounds\.owl\.expect: there are several sources: say with `at`"):
        load_config(write(two + sounds))
    config = load_config(write(two + sounds.replace("every: 1d", "every: 12h, at: wood")))
    assert config.expected == (("wood", "owl", 43200.0),)


FLEET = "fleet: {address: '10.0.0.5:6379', token_file: token, "


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("fleet: {token_file: token}", "fleet.address"),
        ("fleet: {address: '10.0.0.5:6379'}", "fleet.token_file"),
        ("fleet: {address: 'ray://10.0.0.5:10001', token_file: token}", "fleet.address"),
        (FLEET + "engine: dask}", "fleet.engine"),
        (FLEET + "replicas: {min: 3, max: 2}}", "max is 2 and min is 3"),
        (FLEET + "payload: opus}", "fleet.payload"),
        (FLEET + "flights: 0}", "fleet.flights"),
        (FLEET + "deadline_s: 0.1}", "fleet.deadline_s"),
        (FLEET + "fallback: remote}", "fleet.fallback"),
        (FLEET + "}\nmodel: {device: ['cuda:0', 'cuda:1']}", "each replica has one device"),
    ],
)
def test_a_fleet_that_cannot_be(write: Write, section: str, fault: str) -> None:
    """The fault names the key."""
    assert any(fault in line for line in faults(write(SMALL + section + "\n")))


def test_a_fleet(write: Write) -> None:
    """An address and a token are enough: the model then runs once, and this machine does not stand in."""
    fleet = load_config(write(SMALL + FLEET + "}\n")).fleet
    assert fleet is not None
    assert (fleet.replicas.min, fleet.replicas.max, fleet.fallback) == (1, 1, "none")


@pytest.mark.parametrize("char", ["\\0", "\\x1b", "\\x85", "\\uD800", "\\uDC80"])
@pytest.mark.parametrize("key", ["state_dir", "mqtt: {host", "mqtt: {username", "web: {password_file"])
def test_what_no_path_or_broker_takes_is_refused(write: Write, key: str, char: str) -> None:
    """A character that would only fail where the value is used, by then with a stack, is a line."""
    (line,) = faults(write(SMALL + f'{key}: "a{char}b"{"}" * key.count("{")}\n'))
    assert line == f"x.yaml:5: {key.replace(': {', '.')}: should be text without control characters"


@pytest.mark.parametrize("value", ['"a\\nb"', "x" * 70_000])
@pytest.mark.parametrize("key", ["username", "client_id"])
def test_what_does_not_fit_into_a_packet_is_refused(write: Write, key: str, value: str) -> None:
    """A broker closes the connection without a word, or the packet cannot be made."""
    (line,) = faults(write(SMALL + f"mqtt: {{{key}: {value}}}\n"))
    assert line == f"x.yaml:5: mqtt.{key}: should be one line of at most 1024 characters"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (SMALL + "state_dir: ~nobody-here/x\n", "5: state_dir"),
        (SMALL + "mqtt: {tls: {ca_file: ~nobody-here/x}}\n", "5: mqtt.tls.ca_file"),
        (SMALL.replace("{demo: true}", "{stream: ~nobody-here/x}"), "2: sources.room.stream"),
    ],
)
def test_the_home_of_nobody(write: Write, text: str, key: str) -> None:
    """Every path may begin with `~`; where there is no such home, it is a line like others."""
    (line,) = faults(write(text))
    assert line == f"x.yaml:{key}: ~nobody-here/x: no such user, or write the whole path"


def test_a_wrong_value_shows_no_password(write: Write) -> None:
    """Also where an address stands in the wrong place, or in a list."""
    for value in (
        "rtsp://me:pw1@cam/",
        "[rtsp://me:pw1@cam/]",
        "{a: rtsp://me:pw1@cam/}",
        "!x rtsp://me:pw1@cam/",
    ):
        for text in (f"web: {{public_url: {value}}}", f"node: {value}", f"mqtt: {{port: {value}}}"):
            assert "pw1" not in "".join(faults(write(SMALL + text + "\n")))
