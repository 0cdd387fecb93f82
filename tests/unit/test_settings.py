"""Where settings come from, in which order, and that the private key stays inside."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ufile_cli.credentials import Credentials
from ufile_cli.errors import NotConfigured, UsageError
from ufile_cli.settings import (
    CredentialSource,
    Settings,
    config_path,
    local_directory,
    read_profiles,
    state_directory,
)

CONFIG = """
[profiles.default]
endpoint = "cn-bj"
public_key = "PUBLIC-default"
private_key = "private-default"

[profiles.other]
endpoint = "cn-sh2"
internal = true
public_key = "PUBLIC-other"
private_key = "private-other"

[profiles.bare]
endpoint = "cn-gd"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return {"UFILE_CONFIG": str(path)}


def pair_of(settings: Settings) -> Credentials:
    pair = settings.keys()
    assert pair is not None
    return pair


def test_option_journal_environment_profile(environ: dict[str, str]) -> None:
    env = {**environ, "UFILE_ENDPOINT": "from-environment"}

    def endpoint(environ: dict[str, str], option: str | None, journal: str | None) -> str:
        return Settings.gather(environ=environ, endpoint=option, journal_endpoint=journal).endpoint

    assert endpoint(env, "from-option", "from-journal") == "from-option"
    assert endpoint(env, None, "from-journal") == "from-journal"
    assert endpoint(env, None, None) == "from-environment"
    assert endpoint(environ, None, None) == "cn-bj"


def test_where_it_came_from_is_said(environ: dict[str, str]) -> None:
    settings = Settings.gather(environ=environ)
    assert "profile default" in settings.origin["endpoint"]
    assert "profile default" in settings.origin["keys"]
    settings = Settings.gather(
        environ={**environ, "UFILE_PUBLIC_KEY": "P", "UFILE_PRIVATE_KEY": "p"}, endpoint="cn-bj"
    )
    assert settings.origin["endpoint"] == "the option --endpoint"
    assert "environment" in settings.origin["keys"]
    assert settings.profile is None


def test_keys(environ: dict[str, str]) -> None:
    own = {"UFILE_PUBLIC_KEY": "P", "UFILE_PRIVATE_KEY": "p"}
    assert pair_of(Settings.gather(environ=environ)).public_key == "PUBLIC-default"
    assert pair_of(Settings.gather(environ={**environ, **own})).public_key == "P"
    named = Settings.gather(environ={**environ, **own}, profile="other")
    assert pair_of(named).public_key == "PUBLIC-other"
    assert named.internal
    journalled = Settings.gather(environ={**environ, **own}, journal_profile="other")
    assert pair_of(journalled).public_key == "PUBLIC-other"
    by_name = Settings.gather(environ={**environ, "UFILE_PROFILE": "other"})
    assert pair_of(by_name).public_key == "PUBLIC-other"


@pytest.mark.parametrize("missing", ["UFILE_PUBLIC_KEY", "UFILE_PRIVATE_KEY"])
def test_half_a_pair(environ: dict[str, str], missing: str) -> None:
    own = {"UFILE_PUBLIC_KEY": "P", "UFILE_PRIVATE_KEY": "p", missing: ""}
    with pytest.raises(NotConfigured, match="key is missing") as caught:
        Settings.gather(environ={**environ, **own}).keys()
    assert caught.value.code == 78


@pytest.mark.parametrize("key", ["with\nline", "bl\xe4h", " padded ", "nul\0"])
def test_keys_that_no_header_can_carry(key: str) -> None:
    settings = Settings.gather(
        environ={"UFILE_CONFIG": "/none", "UFILE_PUBLIC_KEY": "P", "UFILE_PRIVATE_KEY": key},
        endpoint="cn-bj",
    )
    with pytest.raises(NotConfigured) as caught:
        settings.keys()
    assert key.strip() not in caught.value.message


def test_nothing_configured(tmp_path: Path) -> None:
    environ = {"UFILE_CONFIG": str(tmp_path / "none.toml")}
    with pytest.raises(NotConfigured, match="no endpoint") as caught:
        Settings.gather(environ=environ)
    assert caught.value.code == 78
    settings = Settings.gather(environ=environ, endpoint="cn-bj")
    with pytest.raises(NotConfigured, match="no keys"):
        CredentialSource(settings.keys)


def test_a_profile_that_is_not_there(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="no profile nope") as caught:
        Settings.gather(environ=environ, profile="nope")
    assert caught.value.hint == "known: bare, default, other"


@pytest.mark.parametrize(
    "text",
    [
        "private_key = s3cret",
        '[profiles.default]\nprivate_key = "s3cret',
        "profiles = 's3cret'",
        "[profiles]\ndefault = 's3cret'",
        "[profiles.default]\npublic_key = 5\nprivate_key = 's3cret'",
        "[profiles.default]\ninternal = 's3cret'",
    ],
)
def test_a_configuration_that_cannot_be_understood(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_profiles(path)
    assert str(path) in caught.value.message
    assert "s3cret" not in caught.value.message
    assert caught.value.__cause__ is None


def test_a_configuration_that_is_no_text_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError):
        read_profiles(tmp_path / "binary")
    with pytest.raises(UsageError, match="can't be read"):
        read_profiles(tmp_path)
    assert read_profiles(tmp_path / "none") == {}


def test_others_can_read_it(environ: dict[str, str]) -> None:
    path, warnings = Path(environ["UFILE_CONFIG"]), list[str]()
    read_profiles(path, warnings.append)
    assert warnings == []
    path.chmod(0o640)
    read_profiles(path, warnings.append)
    assert len(warnings) == 1 and f"chmod 600 {path}" in warnings[0]


def test_rotated_keys_are_read_anew(environ: dict[str, str]) -> None:
    path = Path(environ["UFILE_CONFIG"])
    source = CredentialSource(Settings.gather(environ=environ).keys)
    first = source()
    assert not source.rotated(first.tag), "nothing has changed"
    path.write_text(CONFIG.replace("private-default", "private-anew"))
    assert source() == first, "only a refusal has it read"
    assert source.rotated(first.tag)
    assert source().public_key == first.public_key and source().tag != first.tag
    # Another thread's refusal of the first pair comes late: the new one is there already.
    assert source.rotated(first.tag)
    assert not source.rotated(source().tag)
    path.write_text("[profiles.default\n")
    assert not source.rotated(source().tag), "being rewritten just now"


def test_the_private_key_does_not_show(environ: dict[str, str]) -> None:
    pair = pair_of(Settings.gather(environ=environ))
    profiles = read_profiles(Path(environ["UFILE_CONFIG"]))
    for shown in (repr(pair), str(pair), repr(profiles), pair.tag, f"{pair}"):
        assert "private-default" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(pair)
    assert len(pair.tag) == 12
    assert pair.tag != Credentials(pair.public_key, "another").tag


def test_places(tmp_path: Path) -> None:
    named = {
        "UFILE_STATE_DIR": "state",
        "UFILE_LOCAL_DIR": str(tmp_path / "local"),
        "UFILE_CONFIG": "c.toml",
    }
    assert state_directory(named) == Path.cwd() / "state"
    assert local_directory(named) == tmp_path / "local"
    assert config_path(named) == Path.cwd() / "c.toml"
    assert state_directory({}).name == "ufile"
    assert config_path({}).name == "config.toml"
