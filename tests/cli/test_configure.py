"""`ufile configure`: profiles are written, checked, listed, shown and removed; keys stay hidden."""

from __future__ import annotations

import os
import pty
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from testbed import COMMAND, PUBLIC, SECRET, Running, Ufile

from ufile_cli.emulator.server import Emulator

NO_KEYS = {"UFILE_PUBLIC_KEY": None, "UFILE_PRIVATE_KEY": None}


@pytest.fixture
def bare(alone: Ufile) -> Ufile:
    """The command without keys or endpoint."""
    for name in NO_KEYS:
        del alone.env[name]
    alone.env["UFILE_CONFIG"] = str(alone.home / "config" / "deep" / "config.toml")
    return alone


def config(ufile: Ufile) -> Path:
    return Path(ufile.env["UFILE_CONFIG"])


def profiles(ufile: Ufile) -> dict[str, Any]:
    return dict(tomllib.loads(config(ufile).read_text())["profiles"])


def configure(ufile: Ufile, *arguments: str, key: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, "configure", *arguments], env=ufile.env, cwd=ufile.home, input=key.encode(),
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_from_options_and_standard_input(bare: Ufile) -> None:
    options = ("--endpoint", "cn-bj", "--internal", "--public-key", PUBLIC)
    code, out, err = configure(bare, *options, key=SECRET + "\n")
    assert (code, out) == (0, ""), err
    assert err == f"profile default is stored in {config(bare)}\n"
    expected = {"endpoint": "cn-bj", "internal": True, "public_key": PUBLIC, "private_key": SECRET}
    assert profiles(bare) == {"default": expected}
    assert stat.S_IMODE(config(bare).stat().st_mode) == 0o600
    assert stat.S_IMODE(config(bare).parent.stat().st_mode) == 0o700
    assert os.listdir(config(bare).parent) == ["config.toml"]


def test_other_profiles_stay_and_a_key_is_rotated(bare: Ufile) -> None:
    configure(bare, "--endpoint", "cn-bj", "--public-key", "a", key="first")
    configure(bare, "--profile", "工作", "--endpoint", "hk", "--public-key", "b", key="second")
    config(bare).chmod(0o644)
    code, _, _ = configure(bare, key="rotated")
    assert code == 0 and stat.S_IMODE(config(bare).stat().st_mode) == 0o600
    assert profiles(bare) == {
        "default": {"endpoint": "cn-bj", "public_key": "a", "private_key": "rotated"},
        "工作": {"endpoint": "hk", "public_key": "b", "private_key": "second"},
    }


@pytest.mark.parametrize(
    ("arguments", "key", "code", "says"),
    [
        ((), "", 2, "nothing to store"),
        (("--public-key", "a"), "", 2, "no private key on standard input"),
        (("--endpoint", "cn-bj"), "secret", 2, "goes with --public-key"),
        (("--endpoint", "cn-bejing"), "", 2, "did you mean cn-bj"),
        (("--public-key", "a b"), "secret", 2, "no key has"),
        (("--public-key", "a"), "one\ntwo", 2, "more than the one line"),
        (("--public-key", "a"), "s" * 5000, 2, "more than the one line"),
        (("--public-key", "a"), "schlüssel", 2, "no key has"),
        (("--profile", "a\nb", "--endpoint", "hk"), "", 2, "control characters"),
        (("--remove", "nobody"), "", 2, "there is no profile nobody"),
        (("--list", "--show"), "", 2, "exclude each other"),
    ],
)
def test_what_is_refused(
    bare: Ufile, arguments: tuple[str, ...], key: str, code: int, says: str
) -> None:
    got, out, err = configure(bare, *arguments, key=key)
    assert (got, out) == (code, "") and says in err, err
    assert not config(bare).exists()
    assert not key or key not in err


def test_tries_the_keys_first(bare: Ufile, emulator: Emulator) -> None:
    options = ("--endpoint", emulator.url, "--bucket", "demo", "--public-key", PUBLIC)
    code, _, err = configure(bare, *options, key="wrong-key-0000")
    assert code == 77 and "nothing was stored" in err and "wrong-key" not in err
    assert not config(bare).exists()
    code, _, err = configure(bare, *options, key=SECRET)
    assert code == 0 and err.startswith("the keys work on the bucket demo\n")
    assert profiles(bare)["default"]["private_key"] == SECRET
    # A token that may not list, but read and write.
    emulator.faults.add(call="list_uploads", status=403)
    assert configure(bare, *options, key=SECRET)[0] == 0


def test_list_show_and_remove(bare: Ufile) -> None:
    assert "no profiles" in configure(bare, "--list")[2]
    configure(bare, "--endpoint", "cn-bj", "--public-key", PUBLIC, key=SECRET)
    configure(bare, "--profile", "试验", "--endpoint", "local")
    code, out, _ = configure(bare, "--list")
    assert code == 0 and out == (
        "PROFILE  ENDPOINT  PUBLIC KEY\ndefault  cn-bj     TO…\n试验     local     -\n"
    )
    code, out, _ = configure(bare, "--show")
    assert code == 0 and SECRET not in out and PUBLIC not in out
    assert f"cn-bj = https://cn-bj.ufileos.com   [profile default in {config(bare)}]" in out
    assert f"******** ({len(SECRET)} characters)" in out and "(mode 0600)" in out
    bare.env |= {"UFILE_PUBLIC_KEY": "from-env", "UFILE_PRIVATE_KEY": "x", "UFILE_ENDPOINT": "hk",
                 "HTTPS_PROXY": "http://me:pass@proxy:1"}  # fmt: skip
    code, out, _ = configure(bare, "--show")
    assert "[the environment (UFILE_ENDPOINT)]" in out
    assert "fr…" in out and "[the environment (UFILE_PUBLIC_KEY, UFILE_PRIVATE_KEY)]" in out
    assert "http://[redacted]@proxy:1" in out and "pass" not in out
    assert "[the option --endpoint]" in configure(bare, "--show", "--endpoint", "sg")[1]
    assert configure(bare, "--remove", "default")[0] == 0
    assert list(profiles(bare)) == ["试验"]


def test_show_with_nothing_set(bare: Ufile) -> None:
    code, out, _ = configure(bare, "--show")
    assert code == 78 and re.search(r"endpoint +not set", out) and "(not there)" in out


def test_show_with_half_a_pair(bare: Ufile) -> None:
    bare.env |= {"UFILE_PRIVATE_KEY": "x", "UFILE_ENDPOINT": "hk"}
    code, out, _ = configure(bare, "--show")
    assert code == 78 and "the public key is missing   [the environment" in out
    assert "hk = https://" in out and "journals" in out


def test_asks_at_a_terminal_without_showing_the_key(bare: Ufile) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "configure"], stdin=slave, stdout=slave, stderr=slave, env=bare.env,
        cwd=bare.home, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    running = Running(("configure",), process, {"err": os.dup(master)})
    for asked, answer in (
        ("or local): ", "cn-bj"),
        ("Public key: ", PUBLIC),
        ("Private key (not shown): ", SECRET),
    ):
        running.wait_to_say(asked)
        os.write(master, answer.encode() + b"\n")
    outcome = running.wait()
    os.close(master)
    assert outcome.code == 0 and SECRET not in outcome.err, outcome
    assert profiles(bare)["default"]["private_key"] == SECRET


def test_an_endpoint_that_is_none_is_asked_for_again(bare: Ufile) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "configure"], stdin=slave, stdout=slave, stderr=slave, env=bare.env,
        cwd=bare.home, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    running = Running(("configure",), process, {"err": os.dup(master)})
    running.wait_to_say("or local): ")
    os.write(master, b"ftp://x\n\x04")  # and the end of input where it is asked for again
    outcome = running.wait()
    os.close(master)
    assert outcome.code == 130, outcome
    assert outcome.err.count("or local): ") == 2 and "nothing was stored" in outcome.err
    assert not config(bare).exists()


def test_a_file_in_another_style_is_left_alone(bare: Ufile) -> None:
    config(bare).parent.mkdir(parents=True)
    config(bare).write_text('profiles.default.endpoint = "cn-bj"\n')
    code, _, err = configure(bare, "--endpoint", "hk")
    assert code == 2 and "editor" in err
    assert config(bare).read_text() == 'profiles.default.endpoint = "cn-bj"\n'


def test_a_link_stays_a_link(bare: Ufile) -> None:
    config(bare).parent.mkdir(parents=True)
    real = bare.home / "dotfiles.toml"
    config(bare).symlink_to(real)
    assert configure(bare, "--endpoint", "hk")[0] == 0
    assert config(bare).is_symlink() and "hk" in real.read_text()
