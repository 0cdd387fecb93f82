"""A key pair that keeps quiet about its private half.

Stands on the lowest floor, since the wire signs with it and the settings read it, and these two
do not know each other. repr, str and pickling never show the private key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair: an account's API keys or a token pair, which have the same form.

    Attributes:
        public_key: names the pair; may be shown.
        private_key: signs; is never shown, logged, stored in a journal or passed on.
    """

    public_key: str
    private_key: str = field(repr=False)

    @property
    def tag(self) -> str:
        """A fingerprint that tells one pair from another without giving the private key away.

        Both keys go in: a rotation may change the private key alone. Cut to 12 characters of a
        SHA-256, it can't be turned back.
        """
        both = f"{self.public_key}\0{self.private_key}".encode("utf-8", "surrogateescape")
        return hashlib.sha256(both).hexdigest()[:12]

    def __str__(self) -> str:
        return f"Credentials({self.public_key})"

    def __reduce__(self) -> str:
        raise TypeError("credentials are not pickled")
