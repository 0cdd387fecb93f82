"""The private key and signatures: in no output, file, environment or process list; modes of files.

Each command is made to fail under -v -v with a log file, against a server that refuses, breaks off
and talks back what it was sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from hostilebed import Asked, Liar, answer
from testbed import AT_ONCE, MIB, PUBLIC, SECRET, Ufile, make_file

from ufile_cli.cli.logs import fit_to_show, keep_secret, redact
from ufile_cli.cli.main import cli
from ufile_cli.emulator.server import Emulator

SIGNATURE = re.compile(r"UCloud [^\s\"']*:[A-Za-z0-9+/]{27}=")


def no_secret(text: str, where: str) -> None:
    assert SECRET not in text, where
    assert base64.b64encode(SECRET.encode()).decode() not in text, where
    assert not SIGNATURE.search(text), where


def files_below(*places: Path) -> Iterator[Path]:
    for place in places:
        yield from (path for path in place.rglob("*") if path.is_file())


COMMANDS = [
    ("upload", "demo", "big", "big.bin", *AT_ONCE, "--json"),
    ("upload", "demo", "big", "big.bin", *AT_ONCE, "--progress", "json"),
    ("upload", "demo", "small", "small.bin", *AT_ONCE),
    ("upload", "demo", "tree", "tree", "-r", *AT_ONCE),
    ("upload-stream", "demo", "big", *AT_ONCE, "--", "cat", "big.bin"),
    ("resume", "--last", *AT_ONCE),
    ("resume", "--bucket", "demo", "--key", "k", "--upload-id", "u", "--file", "big.bin", *AT_ONCE),
    ("status", "--remote", "demo"),
    ("abort", "--bucket", "demo", "--key", "k", "--upload-id", "u"),
    ("verify", "demo", "big", "big.bin"),
    ("doctor", "--remote", "demo"),
    ("configure", "--profile", "p", "--endpoint", "cn-bj", "--bucket", "demo"),
    ("configure", "--show", "--profile", "none"),
    ("status", "zzzzzzzz"),
    ("clean", "--older-than", "nonsense"),
    ("etag", "missing"),
    ("serve", "--port", "0", "--dir", "big.bin"),
]
WITHOUT_A_SERVER = ("etag", "configure", "clean", "serve")


def test_every_command_is_among_them() -> None:
    """But for completion, which prints a constant and reads nothing."""
    context = click.Context(cli)
    assert {words[0] for words in COMMANDS} == {*cli.list_commands(context)} - {"completion"}


@pytest.mark.parametrize("lie", ["echo", "refuse", "garbage"])
def test_every_command_that_fails(alone: Ufile, lie: str) -> None:
    home = alone.home
    make_file(home / "big.bin", 5 * MIB)
    make_file(home / "small.bin", 100)
    (home / "tree").mkdir()
    make_file(home / "tree" / "a", 100)

    def answers(asked: Asked) -> bytes:
        said = re.search(r"(?im)^authorization: *(.*?)\r", asked.head)
        signature = said[1] if said else "none"
        if lie == "echo":  # a server that quotes what it was sent, as proxies' pages do
            document = {"RetCode": -1, "ErrMsg": f"bad Authorization: {signature}"}
            return answer(400, document, X_SessionId=f"Authorization: {signature}")
        if lie == "refuse":
            return answer(403, {"RetCode": -2, "ErrMsg": f"UCloud  {signature[7:]} is wrong"})
        return b"\x00\x01 garbage " + signature.encode() + b"\r\n\r\n"

    tracebacks = 0
    with Liar(answers) as liar:
        for arguments in COMMANDS[::3] if lie == "garbage" else COMMANDS:
            more = () if arguments[0] in WITHOUT_A_SERVER else ("--endpoint", liar.url)
            if "--" in arguments:
                at = arguments.index("--")
                words = (*arguments[:at], *more, "-v", "-v", "--log-file", "log", *arguments[at:])
            else:
                words = (*arguments, *more, "-v", "-v", "--log-file", "log")
            outcome = alone(*words)
            # To abort, an id that the server knows no more is none that is left to be freed.
            fails = lie == "refuse" or arguments[0] != "abort"
            assert outcome.code != 70 and (outcome.code != 0 or not fails), (words, outcome)
            no_secret(outcome.out + outcome.err, str(arguments))
            tracebacks += outcome.err.count("Traceback")
    assert tracebacks >= 3, "there was something to look into"
    for path in files_below(home):
        if path.name != "config.toml":
            no_secret(path.read_bytes().decode("utf-8", "replace"), str(path))


def test_children_and_the_process_list(ufile: Ufile, emulator: Emulator) -> None:
    """A COMMAND gets an environment without the key; the list of processes shows arguments."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc")
    script = (
        "import os, pathlib; print(dict(os.environ)); "
        "print(pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_text())"
    )
    read, write = os.pipe()
    running = ufile.start(
        "upload-stream", "demo", "env", "--", sys.executable, "-c",
        script,
        stdin=read,
    )  # fmt: skip
    os.close(write)
    os.close(read)
    assert running.wait().code == 0
    stored = b"".join(path.read_bytes() for path in files_below(emulator.store._root))
    assert b"UFILE_PUBLIC_KEY" in stored and b"upload-stream" in stored
    assert SECRET.encode() not in stored and b"UFILE_PRIVATE_KEY" not in stored


def test_what_redaction_takes_out() -> None:
    keep_secret(SECRET)
    keep_secret(SECRET[:20])
    keep_secret("short")  # no key of the service: it would tear holes into words
    digest = base64.b64encode(hmac.new(b"k", b"x", hashlib.sha1).digest()).decode()
    for text in (
        f"key={SECRET}", f"Authorization: UCloud {PUBLIC}:{digest}", f"{SECRET[:20]} and {SECRET}",
        f"{{'Authorization': 'UCloud {PUBLIC}:{digest}'}}", f"/k?Signature={digest}&Expires=1",
    ):  # fmt: skip
        shown = redact(text)
        assert SECRET[:20] not in shown and digest not in shown and SECRET[20:] not in shown, shown
    assert redact("shortly") == "shortly"
    assert fit_to_show("a\x1b[2J\nb\r") == "a\\x1b[2J\nb\\r"


def umask(value: int) -> Callable[[], None]:
    return lambda: void(os.umask(value))


def void(_: object) -> None:
    return None


@pytest.mark.parametrize("mask", [0, 0o777])
def test_modes_whatever_the_umask(alone: Ufile, mask: int) -> None:
    home = alone.home
    make_file(home / "big.bin", 5 * MIB)
    make_file(home / "small.bin", 10)
    (home / "served").mkdir(mode=0o755)
    (home / "served").chmod(0o755)
    env = {"UFILE_STATE_DIR": str(home / "deep" / "state"), "UFILE_LOCAL_DIR": str(home / "served"),
           "UFILE_CONFIG": str(home / "etc" / "config.toml"),
           "UFILE_LOCAL_REQUEST_LOG": str(home / "requests")}  # fmt: skip
    for arguments in (
        ("upload", "demo", "big", "big.bin", "--endpoint", "local", "--log-file", "log"),
        ("upload", "demo", "small", "small.bin", "--endpoint", "local"),
        ("upload-stream", "demo", "s", "--endpoint", "local", "--", "cat", "big.bin"),
        ("status", "--log-file", "log"),
        ("verify", "demo", "big", "big.bin", "--endpoint", "local"),
    ):
        outcome = alone(*arguments, env=env, preexec=umask(mask))
        assert outcome.code == 0, (arguments, outcome)
    made = [home / "log", home / "requests"]
    for name in ("deep", "served"):
        made += (path for path in (home / name).rglob("*"))
    assert len(made) > 10
    for path in made:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))


def test_plain_http_to_a_public_address_is_said_once(alone: Ufile, tmp_path: Path) -> None:
    path = make_file(alone.home / "f", 5 * MIB)
    for endpoint, said in (("http://203.0.113.7.example.com:9", 1), ("http://127.0.0.1:9", 0)):
        outcome = alone(
            "upload", "demo", "k", str(path), *AT_ONCE, "--endpoint", endpoint,
            env={"http_proxy": "http://127.0.0.1:9"},
        )  # fmt: skip
        assert outcome.code == 75
        assert outcome.err.count("plain HTTP") == said, outcome.err


def test_warnings_are_said_once_for_all_uploads(alone: Ufile) -> None:
    make_file(alone.home / "f", 5 * MIB)
    (alone.home / "config.toml").write_text("")
    (alone.home / "config.toml").chmod(0o644)
    env = {"http_proxy": "http://127.0.0.1:9", "UFILE_ENDPOINT": "http://203.0.113.7.example.com:9"}
    for key in "abc":
        assert alone("upload", "demo", key, "f", *AT_ONCE, env=env).code == 75
    outcome = alone("resume", "--all", *AT_ONCE, env=env)
    assert outcome.code == 75, outcome
    assert outcome.err.count("no way through the proxy") == 3
    assert outcome.err.count("plain HTTP") == 1, outcome.err
    assert outcome.err.count("others can read the keys") == 1, outcome.err
