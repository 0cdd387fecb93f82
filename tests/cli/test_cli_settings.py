"""Where settings come from, in which order, and which endpoints are the same place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testbed import MIB, PUBLIC, SECRET, Ufile, assert_same, make_file, stored_parts

from ufile_cli.emulator.server import Emulator


@pytest.fixture
def path(tmp_path: Path, emulator: Emulator) -> Path:
    emulator.block_size = MIB
    return make_file(tmp_path / "big.bin", 6 * MIB)


def configure(ufile: Ufile, text: str, mode: int = 0o600) -> Path:
    """Write the configuration file."""
    config = Path(ufile.env["UFILE_CONFIG"])
    config.write_text(text)
    config.chmod(mode)
    return config


def profile(name: str, endpoint: str | None, public: str = PUBLIC, private: str = SECRET) -> str:
    """A section of the configuration file."""
    lines = [f"[profiles.{name}]", f'public_key = "{public}"', f'private_key = "{private}"']
    if endpoint is not None:
        lines.append(f'endpoint = "{endpoint}"')
    return "\n".join(lines) + "\n"


NO_KEYS: dict[str, str | None] = {"UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None}
NOTHING: dict[str, str | None] = {**NO_KEYS, "UFILE_ENDPOINT": None}
DEAD = "http://127.0.0.1:9"


def interrupted(ufile: Ufile, emulator: Emulator, path: Path, endpoint: str | None = None) -> str:
    """All but part 3 are up; the journal's id."""
    emulator.faults.add(call="part", part=3, hang="head", reset="head")
    options = ("--endpoint", endpoint) if endpoint else ()
    running = ufile.start("upload", "demo", "big", str(path), *options)
    emulator.wait_until(lambda records: len(stored_parts(records)) == 5)
    running.kill()
    emulator.faults.clear()
    return ufile.only_journal()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("http://127.0.0.1:{port}", "HTTP://127.0.0.1:{port}/"),
        ("http://127.0.0.1:{port}/", "http://127.0.0.1:{port}"),
        ("http://localhost:{port}", "http://LOCALHOST:{port}//"),
        ("http://localhost.:{port}", "http://localhost:{port}"),
    ],
)
def test_forms_of_one_place(
    ufile: Ufile, emulator: Emulator, path: Path, first: str, second: str
) -> None:
    journal = interrupted(ufile, emulator, path, first.format(port=emulator.port))
    outcome = ufile.upload(path, "--endpoint", second.format(port=emulator.port))
    assert outcome.json["journal_id"] == journal
    assert emulator.count("initiate") == 1 and outcome.json["parts_sent"] == 1
    assert_same(emulator, path)


@pytest.mark.parametrize("link", ["symlink", "relative", "dotted"])
def test_one_file_by_several_names(ufile: Ufile, emulator: Emulator, path: Path, link: str) -> None:
    journal = interrupted(ufile, emulator, path)
    names = {
        "symlink": path.with_name("link"),
        "relative": Path(os.path.relpath(path, ufile.home)),
        "dotted": path.parent / "server" / ".." / path.name,
    }
    (path.with_name("link")).symlink_to(path)
    outcome = ufile.upload(names[link])
    assert outcome.json["journal_id"] == journal


@pytest.mark.parametrize("change", ["bucket", "key", "file", "endpoint"])
def test_another_place_is_another_upload(
    ufile: Ufile, emulator: Emulator, path: Path, tmp_path: Path, change: str
) -> None:
    journal = interrupted(ufile, emulator, path)
    bucket, key, file, endpoint = "demo", "big", path, emulator.url
    if change == "bucket":
        bucket = "other"
    elif change == "key":
        key = "Big"
    elif change == "file":
        file = make_file(tmp_path / "copy.bin", 6 * MIB)
    else:
        endpoint = "local"
    outcome = ufile("upload", bucket, key, str(file), "--endpoint", endpoint, "--json")
    assert outcome.code == 0 and outcome.json["journal_id"] != journal
    assert ufile.status(journal)["state"] == "interrupted"


def test_options_before_environment_before_profile(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    small = make_file(tmp_path / "small", 10)
    configure(ufile, profile("default", DEAD) + profile("good", emulator.url))
    fast = ("--retries", "1", "--patience", "0")

    def code(*options: str, **env: str | None) -> int:
        return ufile("upload", "demo", "k", str(small), *fast, *options, env=env).code

    assert code(**NOTHING) == 75, "the default profile leads nowhere"
    assert code(**{**NOTHING, "UFILE_PROFILE": "good"}) == 0
    assert code("--profile", "good", **NOTHING) == 0
    assert code("--profile", "good", **{**NOTHING, "UFILE_PROFILE": "default"}) == 0
    assert code(**{**NO_KEYS, "UFILE_ENDPOINT": emulator.url}) == 0, "the environment counts more"
    assert code("--endpoint", emulator.url, **{**NO_KEYS, "UFILE_ENDPOINT": DEAD}) == 0
    assert code("--endpoint", DEAD, UFILE_ENDPOINT=emulator.url) == 75
    assert code("--profile", "none", **NOTHING) == 2
    assert code(**{**NOTHING, "UFILE_PROFILE": "none"}) == 2


def test_keys_of_the_environment_before_the_default_profile(
    ufile: Ufile, emulator: Emulator, tmp_path: Path
) -> None:
    small = make_file(tmp_path / "small", 10)
    configure(ufile, profile("default", None, private="a-wrong-private-key"))
    assert ufile("upload", "demo", "k", str(small)).code == 0
    assert ufile("upload", "demo", "k", str(small), env=NO_KEYS).code == 77
    # A profile that was asked for by an option is asked for, keys and all.
    assert ufile("upload", "demo", "k", str(small), "--profile", "default").code == 77


def test_the_journal_remembers_endpoint_and_profile(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    configure(ufile, profile("work", emulator.url) + profile("default", DEAD, private="wrong-one"))
    emulator.faults.add(call="part", part=3, status=400)
    outcome = ufile("upload", "demo", "big", str(path), "--profile", "work", env=NOTHING)
    assert outcome.code == 1
    emulator.faults.clear()
    document = ufile.document(ufile.only_journal())
    assert (document["endpoint"], document["profile"]) == (emulator.url, "work")
    outcome = ufile("resume", "--last", env={**NOTHING, "UFILE_ENDPOINT": DEAD})
    assert outcome.code == 0, outcome
    assert_same(emulator, path)


def test_a_resume_elsewhere(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    """The same server by another name: the option counts more than the journal."""
    journal = interrupted(ufile, emulator, path)
    other = f"http://localhost:{emulator.port}"
    outcome = ufile("resume", journal, "--endpoint", other, "--json")
    assert outcome.code == 0 and outcome.json["parts_sent"] == 1, outcome
    assert ufile.document(journal)["endpoint"] == other


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o644, True), (0o640, True)])
def test_a_configuration_that_others_can_read(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, mode: int, warns: bool
) -> None:
    small = make_file(tmp_path / "small", 10)
    config = configure(ufile, profile("default", emulator.url), mode)
    outcome = ufile("upload", "demo", "k", str(small), env=NOTHING)
    assert outcome.code == 0
    assert (f"chmod 600 {config}" in outcome.err) == warns
    assert outcome.err.count("warning") == warns
    assert SECRET not in outcome.err


@pytest.mark.parametrize(
    "text",
    [
        f'[profiles.default]\nprivate_key = "{SECRET}\n',
        f"[profiles.default]\nprivate_key = {SECRET}\n",
        "profiles = 3\n",
        "[profiles]\ndefault = 3\n",
        "[profiles.default]\npublic_key = 3\n",
        "\x00\x01",
    ],
)
def test_a_configuration_that_is_none(
    ufile: Ufile, emulator: Emulator, tmp_path: Path, text: str
) -> None:
    small = make_file(tmp_path / "small", 10)
    config = configure(ufile, text)
    outcome = ufile("upload", "demo", "k", str(small), env=NOTHING)
    assert outcome.code == 2, outcome
    assert str(config) in outcome.err and SECRET not in outcome.err
    assert "Traceback" not in outcome.err


def test_local_needs_nothing(alone: Ufile, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 9 * MIB)
    outcome = alone("upload", "b", "k", str(path), "--endpoint", "local", "--json", env=NO_KEYS)
    assert outcome.code == 0, outcome
    assert outcome.json["url"] == "local://b/k" and outcome.json["verified"] == "etag"
    assert alone.document(alone.only_journal())["endpoint"] == "local"
    with Emulator(Path(alone.env["UFILE_LOCAL_DIR"])) as server:
        assert_same(server, path, bucket="b", key="k")


def test_local_is_gone_on_with(alone: Ufile, tmp_path: Path) -> None:
    """Each process has a server of its own on the one directory."""
    path = make_file(tmp_path / "big", 24 * MIB)
    running = alone.start(
        "upload", "b", "k", str(path), "--endpoint", "local", "--progress", "json",
        "--limit-rate", "8M", "-j", "2",
    )  # fmt: skip
    running.wait_to_say('"event":"part_sent"')
    running.kill()
    outcome = alone("resume", "--last", "--limit-rate", "1G", "--json", env=NO_KEYS)
    assert outcome.code == 0, outcome
    assert outcome.json["parts_reused"] >= 1
    with Emulator(Path(alone.env["UFILE_LOCAL_DIR"])) as server:
        assert_same(server, path, bucket="b", key="k")


def test_nothing_is_local_unasked(alone: Ufile, tmp_path: Path) -> None:
    small = make_file(tmp_path / "small", 10)
    assert alone("upload", "b", "k", str(small)).code == 78
    assert not Path(alone.env["UFILE_LOCAL_DIR"]).exists()


def test_netrc_does_not_override_the_signature(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    netrc = ufile.home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\ndefault login a password b\n")
    netrc.chmod(0o600)
    ufile.upload(path)
    assert {record.signature for record in emulator.requests} == {"ok"}


def test_a_state_directory_that_cannot_be_written(
    ufile: Ufile, emulator: Emulator, path: Path
) -> None:
    blocked = ufile.home / "a-file"
    blocked.write_text("")
    outcome = ufile("upload", "demo", "big", str(path), env={"UFILE_STATE_DIR": str(blocked)})
    assert outcome.code == 74 and "UFILE_STATE_DIR" in outcome.err, outcome
    assert not emulator.requests


def test_the_default_directories(ufile: Ufile, emulator: Emulator, path: Path) -> None:
    env: dict[str, str | None] = {"UFILE_STATE_DIR": None, "UFILE_CONFIG": None}
    assert ufile("upload", "demo", "big", str(path), env=env).code == 0
    found = list(ufile.home.rglob("journals/*.json"))
    assert len(found) == 1 and "ufile" in found[0].parts
