"""Settings of a run: options before the journal, before the environment, before the profile.

Reads the environment and the configuration file; knows no network and no terminal. Where each
value came from is kept, so that it can be shown. The private key leaves this module inside
`Credentials` alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ufile_cli.credentials import Credentials
from ufile_cli.errors import NotConfigured, UsageError

__all__ = [
    "CredentialSource",
    "Profile",
    "Settings",
    "config_path",
    "local_directory",
    "read_profiles",
    "state_directory",
]

DEFAULT_PROFILE = "default"
_LONGEST = 1024 * 1024
"""Bytes of a configuration file, at most: what is larger is none, but /dev/zero or the like."""

_KEYS_HINT = (
    "ufile configure stores them, or set UFILE_PUBLIC_KEY and UFILE_PRIVATE_KEY; "
    "to try things out without an account: --endpoint local"
)


def state_directory(environ: Mapping[str, str]) -> Path:
    """Where journals live: `UFILE_STATE_DIR`, else the user state directory."""
    if named := environ.get("UFILE_STATE_DIR"):
        return Path(named).absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("ufile", appauthor=False))


def local_directory(environ: Mapping[str, str]) -> Path:
    """Where the endpoint `local` keeps its objects: `UFILE_LOCAL_DIR`, else user data."""
    if named := environ.get("UFILE_LOCAL_DIR"):
        return Path(named).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("ufile", appauthor=False)) / "local"


def config_path(environ: Mapping[str, str]) -> Path:
    """The configuration file: `UFILE_CONFIG`, else `config.toml` in the user config directory."""
    if named := environ.get("UFILE_CONFIG"):
        return Path(named).absolute()
    import platformdirs

    return Path(platformdirs.user_config_dir("ufile", appauthor=False)) / "config.toml"


@dataclass(frozen=True, slots=True)
class Profile:
    """One section `[profiles.NAME]` of the configuration file; what is missing there is None."""

    name: str
    endpoint: str | None = None
    internal: bool = False
    custom_domain: bool = False
    public_key: str | None = None
    private_key: str | None = field(default=None, repr=False)


def read_profiles(path: Path, warn: Callable[[str], None] = lambda _: None) -> dict[str, Profile]:
    """The profiles of the configuration file by name; none where there is no file.

    Args:
        warn: told when others can read the file.

    Raises:
        UsageError: the file can't be read or understood; says where.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LONGEST + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"the configuration {path} can't be read: {error.strerror}") from error
    if len(content) > _LONGEST:
        raise UsageError(f"the configuration {path} is larger than {_LONGEST >> 20} MiB")
    import tomllib  # only where there is a configuration to read

    try:
        raw = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # The message of the parser may quote the line, and the line may be the private key's.
        where = str(error).rpartition("(")[2].rstrip(")")
        raise UsageError(f"the configuration {path} is no TOML ({where})") from None
    except RecursionError:
        raise UsageError(f"the configuration {path} is no TOML (nested too deeply)") from None
    # Not of /dev/null, which stands for no configuration, or of the FIFO of `<(decrypt keys)`.
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        warn(f"others can read the keys in {path}: chmod 600 {path}")
    sections = raw.get("profiles", {})
    if not isinstance(sections, dict):
        raise UsageError(f"the configuration {path} has no sections [profiles.NAME]")
    return {name: _profile(path, name, section) for name, section in sections.items()}


def _profile(path: Path, name: str, section: object) -> Profile:
    if not isinstance(section, dict):
        raise UsageError(f"profile {name} in {path} is no section")

    def of(key: str, kind: type, default: Any) -> Any:
        value = section.get(key, default)
        if value is not default and not isinstance(value, kind):
            raise UsageError(f"{key} of profile {name} in {path} is of a wrong type")
        return value

    return Profile(
        name=name,
        endpoint=of("endpoint", str, None),
        internal=of("internal", bool, False),
        custom_domain=of("custom_domain", bool, False),
        public_key=of("public_key", str, None),
        private_key=of("private_key", str, None),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to and as whom, with where each came from.

    Attributes:
        endpoint: as it was written; `us3.endpoints` understands it.
        profile: the profile that the keys are from, None where they are from the environment.
        origin: for each of `endpoint` and `keys`, in words, where it came from.
    """

    endpoint: str
    internal: bool
    custom_domain: bool
    profile: str | None
    keys: Callable[[], Credentials | None]
    origin: Mapping[str, str]

    @classmethod
    def gather(
        cls,
        *,
        environ: Mapping[str, str],
        endpoint: str | None = None,
        internal: bool = False,
        custom_domain: bool = False,
        profile: str | None = None,
        journal_endpoint: str | None = None,
        journal_custom_domain: bool = False,
        journal_profile: str | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Settings:
        """Put the settings together.

        Args:
            endpoint, internal, custom_domain, profile: from options.
            journal_endpoint, journal_custom_domain, journal_profile: of the upload resumed.

        Raises:
            NotConfigured: there is no endpoint.
            UsageError: the configuration can't be understood, or has no such profile.
        """
        path = config_path(environ)
        asked = profile or journal_profile
        name = asked or environ.get("UFILE_PROFILE") or DEFAULT_PROFILE
        profiles = read_profiles(path, warn)
        chosen = profiles.get(name)
        if chosen is None:
            if profile is not None or (asked is None and environ.get("UFILE_PROFILE")):
                known = ", ".join(sorted(profiles)) or "none"
                raise UsageError(f"there is no profile {name} in {path}", hint=f"known: {known}")
            chosen = Profile(name)
        origin: dict[str, str] = {}
        if endpoint is not None:
            place = endpoint, internal, custom_domain
            origin["endpoint"] = "the option --endpoint"
        elif journal_endpoint is not None:
            place = journal_endpoint, False, journal_custom_domain
            origin["endpoint"] = "the journal"
        elif environ.get("UFILE_ENDPOINT"):
            place = environ["UFILE_ENDPOINT"], internal, custom_domain
            origin["endpoint"] = "the environment (UFILE_ENDPOINT)"
        elif chosen.endpoint is not None:
            place = (
                chosen.endpoint,
                internal or chosen.internal,
                custom_domain or chosen.custom_domain,
            )
            origin["endpoint"] = f"profile {chosen.name} in {path}"
        else:
            raise NotConfigured(
                "no endpoint is configured",
                hint="say --endpoint REGION (such as cn-bj), set UFILE_ENDPOINT, or run ufile "
                "configure; to try things out without an account: --endpoint local",
            )
        explicit = asked is not None and chosen.public_key is not None
        from_profile = explicit or not (
            environ.get("UFILE_PUBLIC_KEY") or environ.get("UFILE_PRIVATE_KEY")
        )

        def keys() -> Credentials | None:
            if not from_profile:
                return _pair(environ.get("UFILE_PUBLIC_KEY"), environ.get("UFILE_PRIVATE_KEY"))
            current = read_profiles(path).get(name)
            return _pair(current.public_key, current.private_key) if current else None

        origin["keys"] = (
            f"profile {name} in {path}"
            if from_profile
            else "the environment (UFILE_PUBLIC_KEY, UFILE_PRIVATE_KEY)"
        )
        return cls(*place, name if from_profile and chosen.public_key else None, keys, origin)


def _pair(public: str | None, private: str | None) -> Credentials | None:
    if not public and not private:
        return None
    if not public or not private:
        missing = "public" if not public else "private"
        raise NotConfigured(f"the {missing} key is missing", hint=_KEYS_HINT)
    for name, value in (("public", public), ("private", private)):
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise NotConfigured(f"the {name} key holds characters that no key has")
    return Credentials(public, private)


class CredentialSource:
    """The current key pair, and the reading of it anew after it was refused."""

    def __init__(self, keys: Callable[[], Credentials | None]) -> None:
        self._keys = keys
        pair = keys()
        if pair is None:
            raise NotConfigured("no keys are configured", hint=_KEYS_HINT)
        self._pair = pair

    def __call__(self) -> Credentials:
        return self._pair

    def rotated(self, refused: str | None) -> bool:
        """Read the keys anew; True where they are others than those refused (by their tag)."""
        if self._pair.tag == refused:
            try:
                self._pair = self._keys() or self._pair
            except (NotConfigured, UsageError):
                pass  # being rewritten just now, perhaps; the refused ones are all there is
        return self._pair.tag != refused
