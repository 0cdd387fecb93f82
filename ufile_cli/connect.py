"""From settings to a client that is ready to speak; starts the embedded server for `local`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ufile_cli.credentials import Credentials
from ufile_cli.errors import NotConfigured, UsageError
from ufile_cli.settings import CredentialSource, Settings, local_directory
from ufile_cli.us3.endpoints import Endpoint

if TYPE_CHECKING:
    from ufile_cli.emulator.server import Emulator
    from ufile_cli.us3.client import Client, RequestRecord

__all__ = ["Connection", "Connector"]


@dataclass(slots=True)
class Connection:
    """A client, and what belongs to it. A context manager.

    Attributes:
        rotated: reads the keys anew; True where they are others than those with this tag.
        keys_from: where the keys came from, in words; None for the embedded server's.
    """

    client: Client
    rotated: Callable[[str | None], bool]
    keys_from: str | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()


class Connector:
    """Makes clients for one endpoint as one user; keeps the embedded server, where there is one."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._environ = os.environ if environ is None else environ
        self.endpoint = Endpoint.parse(
            settings.endpoint,
            internal=settings.internal,
            custom_domain=settings.custom_domain,
        )
        self._server: Emulator | None = None
        self._pair: Credentials | None = None
        self._source: CredentialSource | None = None

    def check(self) -> None:
        """Make sure that there are keys, before anything is begun.

        Raises:
            NotConfigured: there are none.
        """
        if self.endpoint.is_local or self._source is not None:
            return
        try:
            self._source = CredentialSource(self.settings.keys)
        except NotConfigured as error:
            if self.endpoint.is_loopback:
                error.hint = (
                    "a local server that was started without keys takes any: "
                    "export UFILE_PUBLIC_KEY=any UFILE_PRIVATE_KEY=any"
                )
            raise

    def connect(
        self,
        bucket: str,
        *,
        threads: int = 4,
        timeout: float = 60.0,
        log: Callable[[RequestRecord], None] | None = None,
    ) -> Connection:
        """A client for the bucket.

        Raises:
            NotConfigured: no keys.
            UsageError: the bucket's name can't be one, or the embedded server can't start.
        """
        from ufile_cli.us3.client import Client

        if self.endpoint.is_local:
            server = self._embedded()
            address = self.endpoint.local_address(bucket, server.url)
            client = Client(
                address,
                self._pair,
                connections=threads,
                timeout=timeout,
                proxies_from_env=False,
                log=log,
            )
            return Connection(client, lambda _tag: False)
        self.check()
        source = self._source
        if source is None:
            raise RuntimeError("check() leaves a source of keys")
        address = self.endpoint.address(bucket)
        client = Client(address, source, connections=threads, timeout=timeout, log=log)
        return Connection(client, source.rotated, self.settings.origin.get("keys"))

    def _embedded(self) -> Emulator:
        """The server of the endpoint `local`, in this process, with keys that nobody else knows."""
        if self._server is None:
            from ufile_cli.emulator.server import Emulator

            # Random keys: other users of this host can reach the port, but not use it.
            self._pair = Credentials(secrets.token_hex(16), secrets.token_hex(32))
            directory = local_directory(self._environ)
            log = self._environ.get("UFILE_LOCAL_REQUEST_LOG")
            try:
                self._server = Emulator(
                    directory,
                    keys=(self._pair.public_key, self._pair.private_key),
                    request_log=Path(log) if log else None,
                    remember=0,
                ).start()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                where = error.filename if isinstance(error, OSError) else None
                raise UsageError(
                    f"the server of the endpoint local can't start: {why} ({where or directory})",
                    hint="name another directory for its objects in UFILE_LOCAL_DIR",
                ) from error
        return self._server

    def close(self) -> None:
        """Stop the embedded server, if there is one."""
        if self._server is not None:
            self._server.close()
            self._server = None
