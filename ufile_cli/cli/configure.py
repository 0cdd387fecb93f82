"""`ufile configure`: profiles of endpoint and keys in the configuration file.

Asks only where standard input is a terminal, and the private key without showing it; elsewhere
values come from options and the private key from standard input, never from an option, which
process lists would show. The file is replaced as a whole, mode 0600; what it says besides stays.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ufile_cli.cli.logs import Log, keep_secret
from ufile_cli.cli.options import (
    Server,
    Verbosity,
    complete_endpoints,
    complete_profiles,
    verbosity_options,
)
from ufile_cli.errors import (
    CredentialsRefused,
    JournalWriteError,
    NotConfigured,
    NotFound,
    UFileError,
    UsageError,
)
from ufile_cli.progress import text
from ufile_cli.settings import (
    DEFAULT_PROFILE,
    Profile,
    Settings,
    config_path,
    local_directory,
    read_profiles,
    state_directory,
)
from ufile_cli.us3.endpoints import Endpoint

__all__ = ["command"]

_LONGEST_KEY = 4096


@click.command(
    "configure",
    epilog="""\b
Examples:
  ufile configure                                  # asks for everything
  ufile configure --profile work --bucket backups  # tries the keys first
  ufile configure --endpoint cn-bj --public-key TOKEN_ab12 < private.key
  ufile configure --show
  ufile configure --remove work
""",
)
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=complete_profiles,
    help=f"The profile to write or show.  [default: {DEFAULT_PROFILE}]",
)
@click.option(
    "--endpoint",
    metavar="ENDPOINT",
    shell_complete=complete_endpoints,
    help="A region (cn-bj), a suffix, a URL, or local.",
)
@click.option("--internal", is_flag=True, help="The region's intranet address.")
@click.option("--custom-domain", is_flag=True, help="The URL is the bucket's own.")
@click.option("--public-key", metavar="KEY", help="The private key comes from standard input.")
@click.option("--bucket", metavar="NAME", help="Try the keys on this bucket before storing them.")
@click.option("--list", "listing", is_flag=True, help="List the profiles.")
@click.option("--show", is_flag=True, help="Show each value and where it comes from.")
@click.option(
    "--remove", metavar="NAME", shell_complete=complete_profiles, help="Remove this profile."
)
@verbosity_options
def command(
    profile: str | None,
    endpoint: str | None,
    internal: bool,
    custom_domain: bool,
    public_key: str | None,
    bucket: str | None,
    listing: bool,
    show: bool,
    remove: str | None,
    **values: Any,
) -> int:
    """Store endpoint and keys as a profile, check and show them.

    Where standard input is no terminal nothing is asked, and its one line is the private key.
    """
    log = Log(Verbosity.of(values))
    if sum((listing, show, remove is not None)) > 1:
        raise UsageError("--list, --show and --remove exclude each other")
    path = config_path(os.environ)
    server = Server(profile, endpoint, internal, custom_domain)
    if listing:
        return _list(path, log)
    if show:
        return _show(path, server, log)
    if remove is not None:
        return _remove(path, remove, log)
    name = profile or os.environ.get("UFILE_PROFILE") or DEFAULT_PROFILE
    if not name.isprintable():
        raise UsageError("the profile's name holds control characters")
    before = read_profiles(path).get(name, Profile(name))
    wished = _Wished(before, endpoint, internal, custom_domain, public_key)
    try:
        chosen = _asked(wished) if sys.stdin.isatty() else _given(wished)
    except click.Abort:
        click.echo("\nnothing was stored", err=True, nl=False)
        raise
    if chosen.private_key is not None:
        keep_secret(chosen.private_key)
    _check(chosen)
    if bucket is not None:
        _try(chosen, bucket, log)
    _store(path, chosen)
    if not log.verbosity.quiet:
        click.echo(text.printable(f"profile {name} is stored in {path}"), err=True)
        shadow = [v for v in ("UFILE_ENDPOINT", "UFILE_PUBLIC_KEY") if os.environ.get(v)]
        if shadow:
            click.echo(f"note: {' and '.join(shadow)} in the environment count before it", err=True)
    return 0


@dataclass(frozen=True, slots=True)
class _Wished:
    """What options ask for, and what the profile says now."""

    before: Profile
    endpoint: str | None
    internal: bool
    custom_domain: bool
    public_key: str | None

    def profile(self, endpoint: str | None, public: str | None, private: str | None) -> Profile:
        before = self.before
        same = endpoint == before.endpoint
        return Profile(
            before.name,
            endpoint,
            self.internal or (same and before.internal),
            self.custom_domain or (same and before.custom_domain),
            public,
            private,
        )


def _asked(wished: _Wished) -> Profile:
    """From a person at a terminal; what is given as an option is not asked for."""
    before = wished.before
    endpoint = wished.endpoint
    while endpoint is None:
        endpoint = _prompt(
            "Endpoint (a region such as cn-bj, a suffix, a URL, or local)", before.endpoint
        )
        try:
            _parse(wished.profile(endpoint, None, None))
        except UsageError as error:
            click.echo(f"  {text.printable(error.message)}", err=True)
            endpoint = None
    if endpoint.strip().lower() == "local" and wished.public_key is None:
        return wished.profile(endpoint, before.public_key, before.private_key)
    public = wished.public_key or _prompt("Public key", before.public_key)
    kept = before.private_key if public == before.public_key else None
    words = "Private key (not shown" + (", empty: the one stored)" if kept else ")")
    while True:
        private = click.prompt(
            words, hide_input=True, err=True, default="", show_default=False
        ).strip()
        if private or kept:
            return wished.profile(endpoint, public, private or kept)
        click.echo("  a private key is needed", err=True)


def _prompt(words: str, default: str | None) -> str:
    return str(click.prompt(words, default=default, err=True)).strip()


def _given(wished: _Wished) -> Profile:
    """From options, and the private key from standard input; what is not given stays."""
    before = wished.before
    private = _read_key()
    endpoint = wished.endpoint or before.endpoint
    public = wished.public_key or before.public_key
    if private is None:
        if wished.public_key is not None and wished.public_key != before.public_key:
            raise UsageError(
                "no private key on standard input",
                hint="ufile configure --public-key KEY < FILE_WITH_THE_PRIVATE_KEY",
            )
        if wished.endpoint is None and wished.public_key is None:
            raise UsageError(
                "nothing to store, and standard input is no terminal to ask at",
                hint="ufile configure --endpoint cn-bj --public-key KEY < PRIVATE_KEY_FILE",
            )
        private = before.private_key
    elif public is None:
        raise UsageError("a private key on standard input goes with --public-key")
    return wished.profile(endpoint, public, private)


def _read_key() -> str | None:
    """The one line of standard input, None where it is empty or closed."""
    try:
        raw = sys.stdin.buffer.read(_LONGEST_KEY + 1)
    except (OSError, AttributeError, ValueError):
        return None
    try:
        said = raw.decode("ascii").strip()
    except UnicodeDecodeError:
        raise UsageError("standard input holds characters that no key has") from None
    if len(raw) > _LONGEST_KEY or "\n" in said or "\r" in said:
        raise UsageError("standard input is more than the one line of a private key")
    return said or None


def _parse(profile: Profile) -> None:
    """Make sure that the endpoint is one.

    Raises:
        UsageError: it can't be understood.
    """
    if profile.endpoint is not None:
        Endpoint.parse(
            profile.endpoint, internal=profile.internal, custom_domain=profile.custom_domain
        )


def _check(profile: Profile) -> None:
    _parse(profile)
    for kind, key in (("public", profile.public_key), ("private", profile.private_key)):
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise UsageError(f"the {kind} key holds characters that no key has")


def _try(profile: Profile, bucket: str, log: Log) -> None:
    """Make one cheap call with the keys; nothing is stored where it is refused."""
    from ufile_cli.cli.asking import Asking
    from ufile_cli.connect import Connector
    from ufile_cli.credentials import Credentials

    if profile.endpoint is None:
        raise NotConfigured("there is no endpoint to try the keys on", hint="say --endpoint")

    def keys() -> Credentials | None:
        if profile.public_key is None or profile.private_key is None:
            return None
        return Credentials(profile.public_key, profile.private_key)

    settings = Settings(
        profile.endpoint, profile.internal, profile.custom_domain, profile.name, keys, {}
    )
    connector = Connector(settings)
    try:
        with Asking(connector, bucket, log) as asking:
            client = asking.client
            try:
                asking.ask("the list of uploads", lambda: client.list_uploads(limit=1))
            except CredentialsRefused:
                # A token may be allowed to read and write, but not to list.
                nothing = f"ufile-configure-{secrets.token_hex(8)}"
                try:
                    asking.ask("HeadFile", lambda: client.head(nothing))
                except NotFound:
                    pass
    except UFileError as error:
        error.hint = "nothing was stored" + (f"; {error.hint}" if error.hint else "")
        raise
    finally:
        connector.close()
    if not log.verbosity.quiet:
        click.echo(f"the keys work on the bucket {bucket}", err=True)


# -- the file -----------------------------------------------------------------------------------


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(f"the configuration {path} can't be read: {error.strerror}") from error


def _store(path: Path, profile: Profile) -> None:
    from ufile_cli.configtext import Unchangeable, with_profile

    values: dict[str, str | bool | None] = {
        "endpoint": profile.endpoint,
        "internal": profile.internal or None,
        "custom_domain": profile.custom_domain or None,
        "public_key": profile.public_key,
        "private_key": profile.private_key,
    }
    try:
        changed = with_profile(_text_of(path), profile.name, values)
    except Unchangeable as error:
        raise UsageError(
            f"the configuration {path}: {error}", hint="change it with an editor"
        ) from error
    _write(path, changed)


def _remove(path: Path, name: str, log: Log) -> int:
    from ufile_cli.configtext import Unchangeable, without_profile

    profiles = read_profiles(path)
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise UsageError(f"there is no profile {name} in {path}", hint=f"known: {known}")
    try:
        changed = without_profile(_text_of(path), name)
    except Unchangeable as error:
        raise UsageError(
            f"the configuration {path}: {error}", hint="change it with an editor"
        ) from error
    _write(path, changed)
    if not log.verbosity.quiet:
        click.echo(text.printable(f"profile {name} is removed from {path}"), err=True)
    return 0


def _write(path: Path, content: str) -> None:
    from ufile_cli.journal.durable import FileLayer, make_directory, replace

    try:
        tomllib.loads(content)
        # Where the file is a link into somebody's collection of dot files, the link stays.
        real = Path(os.path.realpath(path))
        layer = FileLayer()
        make_directory(real.parent, layer)
        replace(real, [content.encode("utf-8")], layer)
    except JournalWriteError as error:
        reason = error.message.partition(": ")[2]
        raise UsageError(
            f"the configuration can't be written: {reason}",
            hint="name another file in UFILE_CONFIG",
        ) from error


# -- showing ------------------------------------------------------------------------------------


def _list(path: Path, log: Log) -> int:
    profiles = read_profiles(path, lambda words: log.shown(f"ufile: warning: {words}"))
    if not profiles:
        click.echo(f"no profiles in {path}; ufile configure writes one", err=True)
        return 0
    rows = [
        (
            text.printable(profile.name),
            text.printable(profile.endpoint or "-") + (" (internal)" if profile.internal else ""),
            masked(profile.public_key),
        )
        for profile in profiles.values()
    ]
    rows.insert(0, ("PROFILE", "ENDPOINT", "PUBLIC KEY"))
    widths = [max(text.columns(row[i]) for row in rows) for i in range(2)]
    for row in rows:
        cells = [text.pad(cell, width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[2]]))
    return 0


def masked(key: str | None) -> str:
    """A public key as it may be shown: enough to tell it from another."""
    if not key:
        return "-"
    return f"{key[:8]}…{key[-4:]}" if len(key) >= 20 else f"{key[:2]}…"


_SURROUNDINGS = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def _show(path: Path, server: Server, log: Log) -> int:
    """Every value that counts, and where it is from; exit code 78 where keys or endpoint lack."""
    rows: list[tuple[str, str, str]] = []
    lacking = False
    profiles = read_profiles(path, lambda words: log.shown(f"ufile: warning: {words}"))
    named = server.profile or os.environ.get("UFILE_PROFILE")
    origin = "the option --profile" if server.profile else "the environment (UFILE_PROFILE)"
    rows.append(("profile", named or DEFAULT_PROFILE, origin if named else "the default"))
    place, settings = server.endpoint, None
    try:
        settings = Settings.gather(
            environ=os.environ,
            endpoint=server.endpoint,
            internal=server.internal,
            custom_domain=server.custom_domain,
            profile=server.profile,
        )
        endpoint = Endpoint.parse(
            settings.endpoint, internal=settings.internal, custom_domain=settings.custom_domain
        )
        place = settings.endpoint
        if endpoint.canonical != place:
            place += f" = {endpoint.canonical}"
        rows.append(("endpoint", place, settings.origin["endpoint"]))
    except NotConfigured:
        lacking = True
        rows.append(("endpoint", "not set", ""))
        settings = Settings.gather(environ=os.environ, endpoint="local", profile=server.profile)
    half: NotConfigured | None = None
    try:
        keys = settings.keys()
    except NotConfigured as error:
        keys, half = None, error
    if half is not None:
        lacking = True
        rows.append(("keys", half.message, settings.origin["keys"]))
    elif keys is None:
        lacking = lacking or place != "local"
        rows += [("public key", "not set", ""), ("private key", "not set", "")]
    else:
        keep_secret(keys.private_key)
        rows.append(("public key", masked(keys.public_key), settings.origin["keys"]))
        hidden = f"******** ({len(keys.private_key)} characters)"
        rows.append(("private key", hidden, settings.origin["keys"]))
    mode = f" (mode {stat.S_IMODE(path.stat().st_mode):04o})" if path.exists() else " (not there)"
    rows.append(("configuration", f"{path}{mode}", _from("UFILE_CONFIG")))
    rows.append(("profiles", ", ".join(profiles) or "none", ""))
    state, local = state_directory(os.environ), local_directory(os.environ)
    rows.append(("journals", str(state / "journals"), _from("UFILE_STATE_DIR")))
    rows.append(("endpoint local", str(local), _from("UFILE_LOCAL_DIR")))
    for name in _SURROUNDINGS:
        for spelling in (name.lower(), name):
            if value := os.environ.get(spelling):
                rows.append((spelling, _without_password(value), "the environment"))
                break
    width = max(len(name) for name, _, _ in rows)
    for name, value, origin in rows:
        words = f"{name:<{width}} {value}" + (f"   [{origin}]" if origin else "")
        click.echo(text.printable(words))
    return 78 if lacking else 0


def _from(variable: str) -> str:
    return f"the environment ({variable})" if os.environ.get(variable) else "the default"


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    at, host = (rest if mark else scheme).rpartition("@")[1:]
    if not at:
        return url
    return f"{scheme}{mark}[redacted]@{host}" if mark else f"[redacted]@{host}"
