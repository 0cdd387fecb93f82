"""What somebody, or a script fed by somebody, may type: exit code 2 and a sentence for all of it.

Nothing is sent for it, no traceback is shown, and what was typed is shown escaped. The command
runs in this process, since there are many of them; what the kernel keeps from a real command line
(NUL) can be said here as well.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hostilebed import nothing_raw
from testbed import AT_ONCE, PUBLIC, SECRET, make_file

from ufile_cli.cli.main import _run, cli
from ufile_cli.emulator.server import Emulator

SURROGATE = "\udcff\ud800"
ESCAPE = "\x1b[2J\x1b]0;x\x07\x9b2J"


class Typed:
    """The command in this process. What it did is in `requests` of the emulator."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        for name in list(os.environ):
            if name.startswith("UFILE_"):
                monkeypatch.delenv(name)
        for name, value in {
            "UFILE_STATE_DIR": str(home / "state"),
            "UFILE_LOCAL_DIR": str(home / "local"),
            "UFILE_CONFIG": str(home / "config.toml"),
            "UFILE_PUBLIC_KEY": PUBLIC,
            "UFILE_PRIVATE_KEY": SECRET,
            "UFILE_ENDPOINT": url,
        }.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        err = io.StringIO()
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            code = _run(list(arguments))
        words = err.getvalue()
        nothing_raw(words)
        assert "Traceback" not in words and "bug of ufile" not in words, (arguments, words)
        assert SECRET not in words
        return code, words


@pytest.fixture
def typed(tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    make_file(tmp_path / "file", 1000)
    monkeypatch.chdir(tmp_path)
    yield Typed(tmp_path, monkeypatch, emulator.url)


def refused(typed: Typed, emulator: Emulator, *arguments: str, says: str = "") -> None:
    code, words = typed(*arguments)
    assert code == 2, (arguments, code, words)
    assert words.startswith("ufile: ") and len(words) > 20, words
    assert says in words, words
    assert len(words) < 30_000
    assert not emulator.requests, arguments


@pytest.mark.parametrize(
    "header",
    [
        "X: a\r\nAuthorization: b", "X: a\nb", "X: a\0b", "X: \x1b[2J", "X", ": v", "", "X Y: v",
        "X\r\n: v", "Ünder: v", "X: \u4e2d", "X: " + SURROGATE, "Authorization: UCloud x:y",
        "hOsT: evil", "Content-Length: 5", "Transfer-Encoding: chunked", "Content-MD5: x",
        "Content-Type: text/html", "X\x00: v", "X: a\x0bb", "X: a\x85b",
        "X: " + "a" * 8000, "X" * 8001 + ":",
    ],
    ids=lambda header: ascii(header[:20]),
)  # fmt: skip
def test_headers(typed: Typed, emulator: Emulator, header: str) -> None:
    refused(typed, emulator, "upload", "demo", "k", "file", "-H", header, *AT_ONCE)


@pytest.mark.parametrize(
    "meta",
    [
        "a", "=v", "a b=v", "a\n=v", "a=\n", "a=\x1b[2J", "a=\0", "a=" + SURROGATE, "a=\u4e2d",
        "a=" + "x" * 9000, "_=v", "", "ä=v", "a=\x7f",
    ],
)  # fmt: skip
def test_metadata(typed: Typed, emulator: Emulator, meta: str) -> None:
    refused(typed, emulator, "upload", "demo", "k", "file", "--meta", meta, *AT_ONCE)


@pytest.mark.parametrize(
    "mime_type",
    ["a\r\nb: c", "\x1b[2J", "a\0b", SURROGATE, "a/b\n", "a" * 8001],
    ids=lambda text: ascii(text[:20]),
)
def test_mime_types(typed: Typed, emulator: Emulator, mime_type: str) -> None:
    refused(typed, emulator, "upload", "demo", "k", "file", "--mime-type", mime_type, *AT_ONCE)


KEYS = {
    "": "empty",
    "a\0b": "NUL",
    SURROGATE: "UTF-8",
    "a" * 10_000: "10,000 bytes",
    "\u4e2d" * 4000: "12,000 bytes",
}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key[:8]))
@pytest.mark.parametrize("command", ["upload", "verify", "abort", "upload-stream", "resume"])
def test_keys(typed: Typed, emulator: Emulator, command: str, key: str) -> None:
    arguments = {
        "upload": ("upload", "demo", key, "file", *AT_ONCE),
        "verify": ("verify", "demo", key, "file"),
        "abort": ("abort", "--bucket", "demo", "--key", key, "--upload-id", "u"),
        "upload-stream": ("upload-stream", "demo", key, *AT_ONCE, "--", "true"),
        "resume": ("resume", "--bucket", "demo", "--key", key, "--upload-id", "u",
                   "--file", "file", *AT_ONCE),
    }[command]  # fmt: skip
    refused(typed, emulator, *arguments, says=KEYS[key])


@pytest.mark.parametrize(
    "prefix", ["a\0b", SURROGATE, "a" * 10_000], ids=["NUL", "surrogate", "long"]
)
def test_prefixes(typed: Typed, emulator: Emulator, tmp_path: Path, prefix: str) -> None:
    (tmp_path / "tree").mkdir()
    make_file(tmp_path / "tree" / "a", 10)
    refused(typed, emulator, "upload", "-r", "demo", prefix, "tree", *AT_ONCE)
    refused(typed, emulator, "upload", "-r", "demo", prefix, "tree", "--dry-run")


def test_a_prefix_that_leaves_no_room_for_a_name(
    typed: Typed, emulator: Emulator, tmp_path: Path
) -> None:
    """The longer name fails, the other one goes."""
    tree = tmp_path / "tree"
    tree.mkdir()
    make_file(tree / "b", 10)
    make_file(tree / "long", 10)
    for more in ((), ("--skip-existing",), ("--dry-run",)):
        code, words = typed("upload", "-r", "demo", "a" * 7998 + "/", "tree", *AT_ONCE, *more)
        assert code == 66 and "long: " in words and "8,003 bytes" in words, words
        assert "attempt" not in words, words
    assert [record.key[-2:] for record in emulator.requests if record.call == "put"] == ["/b"] * 1


BUCKETS = [
    "", ".", "..", "a.b", "a/b", "a@b", "a:80", "evil.com#", "-a", "a-", "a" * 64, "a\n", "ä",
    "a b", "\x1b[2J", SURROGATE, "a\0", "%2e", "a_b?",
]  # fmt: skip


@pytest.mark.parametrize("bucket", BUCKETS, ids=ascii)
def test_buckets_cannot_name_another_host(typed: Typed, emulator: Emulator, bucket: str) -> None:
    refused(typed, emulator, "upload", bucket, "k", "file", *AT_ONCE)
    refused(typed, emulator, "verify", bucket, "k", "file")


ENDPOINTS = [
    "https://user:password@cn-bj.ufileos.com", "https://user@host.example", "https://a@b@c.d",
    "https://cn-bj.ufileos.com/path", "https://cn-bj.ufileos.com/?q", "https://h.example#f",
    "https://h.example\\@evil.example", "https://h.example:99999", "https://h.example:+80",
    "https://h.example:0", "https://h.example:x", "https://", "http:///x", "ftp://h.example",
    "file:///etc/passwd", "https://h\r\nHost: x", "https://h\x1b[2J.example", "//h.example",
    "https://[::1", "https://127.1", "https://0x7f.1", "https://1.2.3.4.5", "", " ", "nowhere",
    "https://" + "a" * 300 + ".example", "https://..", SURROGATE, "https://" + SURROGATE + ".x",
    "javascript:alert(1)", "cn-bj.ufileos.com/x", "user:password@h.example", "https://h%00.x",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=ascii)
def test_endpoints(typed: Typed, emulator: Emulator, endpoint: str) -> None:
    code, words = typed("upload", "demo", "k", "file", *AT_ONCE, "--endpoint", endpoint)
    assert code == 2 or (not endpoint.strip() and code in (2, 78)), (code, words)
    assert "password" not in words
    assert not emulator.requests


OF_A_SERVER = {
    "upload": ("demo", "k", "file"),
    "upload -r": ("-r", "demo", "k/", "."),
    "upload-stream": ("demo", "k", "--", "true"),
    "resume": ("--all",),
    "resume an upload": ("--bucket", "demo", "--key", "k", "--upload-id", "u", "--file", "file"),
    "status": (),
    "status --remote": ("--remote", "demo"),
    "abort": ("--all",),
    "abort an upload": ("--bucket", "demo", "--key", "k", "--upload-id", "u"),
    "verify": ("demo", "k", "file"),
    "doctor": (),
    "doctor --offline": ("--offline",),
    "configure": ("--profile", "p"),
}


@pytest.mark.parametrize("name", sorted(OF_A_SERVER))
def test_endpoints_of_every_command(typed: Typed, emulator: Emulator, name: str) -> None:
    """Also where there is nothing to ask a server about: the next time there may be."""
    command = name.partition(" ")[0]
    for endpoint, says in (
        ("http://user:password@host.example", "credentials"),
        ("https://host.example/path", "no path"),
        ("nowhere", "no region"),
    ):
        arguments = (command, f"--endpoint={endpoint}", *OF_A_SERVER[name])
        refused(typed, emulator, *arguments, says=says)


def test_every_command_with_an_endpoint_was_tried() -> None:
    context = click.Context(cli)
    found = set()
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        if any("--endpoint" in parameter.opts for parameter in command.params):
            found.add(name)
    assert found == {name.partition(" ")[0] for name in OF_A_SERVER}


@pytest.mark.parametrize(
    "arguments",
    [("--host", ""), ("--bucket", "../a"), ("--bucket", ESCAPE), ("--bucket", SURROGATE),
     ("--bucket", ""), ("--block-size", "513M"), ("--block-size", "0"), ("--port", "65536")],
    ids=ascii,
)  # fmt: skip
def test_what_serve_refuses(typed: Typed, emulator: Emulator, arguments: tuple[str, ...]) -> None:
    refused(typed, emulator, "serve", "--port", "0", *arguments)


ABSURD = [
    "-1", "-0.5", "1e999", "nan", "inf", "-inf", "9" * 400, "0x10", "", " ", "1" + "0" * 30 + "T",
    "1;2", "--", ESCAPE, SURROGATE, "1e-400", "None",
]  # fmt: skip


def numeric_options() -> list[tuple[str, str]]:
    """Every option of every command that takes a number, a size or a time."""
    found = []
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            kind = type(parameter.type).__name__
            if isinstance(parameter, click.Option) and kind in (
                "IntRange", "IntParamType", "FloatRange", "_Size", "_Rate", "_Duration",
                "_Seconds", "_Threads",
            ):  # fmt: skip
                found.append((name, parameter.opts[-1]))
    return found


POSITIONAL = {
    "upload": ("demo", "k", "file"),
    "upload-stream": ("demo", "k", "--", "true"),
    "resume": ("--last",),
    "verify": ("demo", "k", "file"),
    "abort": ("--all",),
}


@pytest.mark.parametrize(("command", "option"), numeric_options(), ids=" ".join)
def test_numbers(typed: Typed, emulator: Emulator, command: str, option: str) -> None:
    for value in ABSURD:
        code, words = typed(command, f"{option}={value}", *POSITIONAL.get(command, ()))
        tiny = value == "1e-400" and code in (0, 2)  # some take it for zero seconds
        assert code == 2 or tiny, (command, option, value, code, words)
        assert code != 2 or len(words) < 30_000


def test_there_are_numeric_options() -> None:
    assert len(numeric_options()) >= 20


@pytest.mark.parametrize(
    "arguments",
    [
        (ESCAPE,), ("upload", ESCAPE), (f"--{ESCAPE}",), ("upload", f"--{ESCAPE}"), (SURROGATE,),
        ("upload", "a", "b", "c", ESCAPE), ("upload", f"--progress={ESCAPE}", "a", "b", "c"),
        ("resume", ESCAPE), ("status", ESCAPE), ("abort", ESCAPE), ("resume", SURROGATE),
        ("upload", f"--storage-class={ESCAPE}", "a", "b", "c"), ("completion", ESCAPE),
        ("status", "--profile", ESCAPE, "--remote", "demo"),
        ("upload", "a", "b", "file", "--profile", ESCAPE), ("serve", "--faults", ESCAPE),
        ("serve", "--host", ESCAPE, "--port", "0"),
        ("resume", "../../etc/passwd"), ("status", "../../etc/passwd"), ("abort", "/etc/passwd"),
        ("resume", "."), ("resume", ".."), ("resume", "a\0b"), ("status", "*"), ("resume", ""),
        ("upload", "demo", "k", "file", "--log-file", f"/nowhere/{ESCAPE}"),
        ("upload", "demo", "k", "file", "--log-file", "a\0b"),
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_typed_comes_back_escaped(
    typed: Typed, emulator: Emulator, arguments: tuple[str, ...]
) -> None:
    code, words = typed(*arguments)
    assert code in (2, 66), (code, words)


@pytest.mark.parametrize("upload_id", ["", "a\nb", "\x1b[2J", SURROGATE, "a" * 5000, "a\0b"])
def test_upload_ids(typed: Typed, emulator: Emulator, upload_id: str) -> None:
    for command in ("resume", "abort"):
        more = ("--file", "file", "--block-size", "4M", *AT_ONCE) if command == "resume" else ()
        code, words = typed(
            command, "--bucket", "demo", "--key", "k", "--upload-id", upload_id, *more
        )
        assert code in (1, 2), (command, code, words)


@pytest.mark.parametrize(
    "option", ["--verify", "--no-verify", "--insecure", "--no-check-certificate", "-k",
               "--private-key"],
)  # fmt: skip
def test_nothing_turns_verification_off_or_takes_a_key(option: str) -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            assert option not in (*parameter.opts, *parameter.secondary_opts), name
