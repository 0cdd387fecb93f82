"""`ufile serve`: a local US3-compatible server."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import click

from ufile_cli.cli.logs import Log, keep_secret
from ufile_cli.cli.options import SIZE, Verbosity, verbosity_options
from ufile_cli.errors import Stopped, UsageError
from ufile_cli.settings import DEFAULT_PROFILE, config_path, local_directory, read_profiles
from ufile_cli.us3.endpoints import check_bucket

__all__ = ["command"]


@click.command(
    "serve",
    epilog="""\b
Examples:
  ufile serve                                   # http://127.0.0.1:8770
  ufile serve --port 0 --dir /tmp/us3 --bucket demo --request-log log.jsonl
Then, with any keys in UFILE_PUBLIC_KEY and UFILE_PRIVATE_KEY:
  ufile upload demo hello ./hello.txt --endpoint http://127.0.0.1:8770
""",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=8770,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Where objects are kept.  [default: that of the endpoint local]",
)
@click.option(
    "--bucket",
    "buckets",
    multiple=True,
    metavar="NAME",
    help="Only such buckets exist; repeatable.",
)
@click.option("--block-size", type=SIZE, default="4M", show_default=True, help="Bytes of a part.")
@click.option("--faults", type=click.Path(path_type=Path), help="A script of faults to inject.")
@click.option("--request-log", type=click.Path(path_type=Path), help="Append each request here.")
@click.option("--profile", metavar="NAME", help="Check signatures with this profile's keys.")
@verbosity_options
def command(
    host: str,
    port: int,
    directory: Path | None,
    buckets: tuple[str, ...],
    block_size: int,
    faults: Path | None,
    request_log: Path | None,
    profile: str | None,
    **values: Any,
) -> int:
    """Run a local US3-compatible server, to try things out and to test against.

    Keys come from UFILE_PUBLIC_KEY and UFILE_PRIVATE_KEY or the profile; with none, signatures
    are not checked.
    """
    from ufile_cli.emulator.faults import FaultScript, FaultScriptError
    from ufile_cli.emulator.server import Emulator

    log = Log(Verbosity.of(values))
    if not host:
        raise UsageError("an empty --host names no address", hint="0.0.0.0 stands for all of them")
    for bucket in buckets:
        check_bucket(bucket)
    keys = _keys(profile)
    try:
        script = FaultScript.load(faults) if faults is not None else None
    except (FaultScriptError, OSError) as error:
        raise UsageError(f"the fault script {faults}: {error}") from error
    where = directory if directory is not None else local_directory(os.environ)
    try:
        emulator = Emulator(
            where,
            host=host,
            port=port,
            buckets=list(buckets) or None,
            block_size=block_size,
            keys=keys,
            faults=script,
            request_log=request_log,
            remember=0,  # nobody asks for them here, and they may be large
        ).start()
    except (OSError, TypeError, ValueError) as error:  # TypeError: a host that is no text for DNS
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        raise UsageError(
            f"the server can't start: {reason}",
            hint="say --port, 0 takes a free one" if taken else None,
        ) from error
    if not log.verbosity.quiet:
        if keys is None:
            click.echo(
                "no keys are set: signatures are not checked; a client may use any "
                "(export UFILE_PUBLIC_KEY=any UFILE_PRIVATE_KEY=any)",
                err=True,
            )
        if not _is_loopback(host):
            click.echo(
                f"warning: {host} can be reached from other machines, and this server is made "
                "for trying out",
                err=True,
            )
    click.echo(f"listening on {emulator.url}")
    try:
        emulator.serve_forever()
    except Stopped as stopped:
        return stopped.code  # how a server ends: nothing to tell
    finally:
        emulator.close()
    return 0


def _keys(profile: str | None) -> tuple[str, str] | None:
    public, private = os.environ.get("UFILE_PUBLIC_KEY"), os.environ.get("UFILE_PRIVATE_KEY")
    if profile is not None or not (public and private):
        name = profile or os.environ.get("UFILE_PROFILE") or DEFAULT_PROFILE
        found = read_profiles(config_path(os.environ)).get(name)
        if found is None and profile is not None:
            raise UsageError(f"there is no profile {profile}")
        public, private = (found.public_key, found.private_key) if found else (None, None)
    if not public or not private:
        return None
    keep_secret(private)
    return public, private


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
