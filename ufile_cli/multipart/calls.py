"""The calls of an upload beside its parts: initiate, list, finish, and what a refusal means.

Two questions are decided in here, and nowhere else, because a wrong answer costs a user all parts
or stores a wrong object:

- Is the upload id dead? Only where ListParts *and* the next part or Finish were refused with a
  4xx that is about the request; a server that cannot list proves nothing, nor does a redirect.
- Is the object there already? Only where HEAD shows our size and our ETag, and the upload id is
  gone: so it is after a Finish whose answer was lost. The same bytes may have been there before.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ufile_cli.errors import (
    BadAnswer,
    CredentialsRefused,
    IntegrityError,
    NetworkError,
    NotFound,
    Refused,
    ServerError,
    ServerTrouble,
    UFileError,
)
from ufile_cli.etag import BLOCK, same_form
from ufile_cli.multipart.drive import Drive
from ufile_cli.multipart.reconcile import Found, Listing, NoAdvance

if TYPE_CHECKING:
    from ufile_cli.journal.record import Record
    from ufile_cli.us3.client import Client
    from ufile_cli.us3.response import PartsPage

__all__ = ["Calls", "Completed", "Fate", "cannot_list", "headers_of"]


class Fate(Enum):
    """What a refused part or Finish and the part list together say of the upload id."""

    LIVES = "it is there, or what was refused was not about it"
    DEAD = "the server does not know it any more"
    UNKNOWN = "this server cannot list parts, so nobody can tell"


class Completed(NamedTuple):
    """The object as the server has it.

    Attributes:
        etag: empty where the server names none.
        size: bytes, None where the server does not say.
    """

    etag: str
    size: int | None


def headers_of(record: Record, *, first: bool) -> dict[str, str]:
    """The headers of a request: the user's own and the object's type.

    Args:
        first: of Initiate or PutFile, which also carry storage class and metadata.
    """
    document = record.document
    headers = dict(document.header)
    if document.mime_type is not None:
        headers["Content-Type"] = document.mime_type
    if first:
        if document.storage_class is not None:
            headers["X-Ufile-Storage-Class"] = document.storage_class
        for name, value in document.meta.items():
            headers[f"X-Ufile-Meta-{name}"] = value
    return headers


def cannot_list(error: ServerError) -> bool:
    """Whether the answer says that this server has no part list at all."""
    return error.status in (405, 501)


def speaks_of_the_id(refusal: Refused) -> bool:
    """Whether a refusal can be the answer to an upload id that is not there.

    A 4xx can. A redirect or a proxy's 407 is somebody's on the way, a captive portal say; and 405
    only tells that there is no such call.
    """
    return 400 <= refusal.status < 500 and refusal.status not in (405, 407)


class Calls:
    """The calls of one upload, each run through its drive."""

    def __init__(
        self,
        client: Client,
        record: Record,
        drive: Drive,
        rotated: Callable[[str | None], bool],
    ) -> None:
        self._client = client
        self._record = record
        self._drive = drive
        self._rotated = rotated
        self._may_write: set[str | None] = set()  # tags of key pairs that wrote in this run

    @property
    def _key(self) -> str:
        return self._record.document.key

    @property
    def _upload_id(self) -> str:
        upload_id = self._record.document.uploadid
        if upload_id is None:
            raise RuntimeError("there is no upload id yet")
        return upload_id

    def initiate(self) -> None:
        """Get an upload id and a block size, and have them in the journal, flushed.

        Raises:
            UFileError: as the client does, after its attempts.
        """
        headers = headers_of(self._record, first=True)
        initiated = self._drive.call("Initiate", lambda: self._client.initiate(self._key, headers))
        self._record.begin(initiated.upload_id, initiated.block_size)

    def written(self) -> None:
        """A part was acknowledged: the keys of this moment may write. For a worker."""
        credentials = self._client.current_credentials()
        self._may_write.add(None if credentials is None else credentials.tag)

    def page_job(self, listing: Listing) -> Callable[[], PartsPage | ServerError]:
        """A job that fetches the next page of the part list.

        Its value is the refusal itself where the server can't or won't list: that ends no upload.
        """
        marker = listing.marker

        def fetch() -> PartsPage | ServerError:
            try:
                return self._client.list_parts(self._upload_id, key=self._key, marker=marker)
            except Refused as refusal:
                return refusal
            except CredentialsRefused as refusal:
                # Keys may have the right to write and not the right to list. Where others are
                # there by now, those are tried first; wrong ones fail at the next part.
                if self._rotated(refusal.credentials_tag):
                    raise
                return refusal
            except ServerTrouble as trouble:
                if cannot_list(trouble):
                    return trouble
                raise

        return fetch

    def take_page(self, listing: Listing, answer: PartsPage | ServerError) -> None:
        """Put what `page_job` brought into the listing.

        Raises:
            BadAnswer: the list does not advance.
        """
        if isinstance(answer, ServerError):
            listing.unavailable()
            return
        found = (Found(part.number, part.size, part.etag or None) for part in answer.parts)
        try:
            listing.page(found, truncated=answer.truncated, next_marker=answer.next_marker)
        except NoAdvance as error:
            raise BadAnswer(
                f"the server's answer makes no sense: {error}", status=answer.answer.status
            ) from error

    def refusal_behind(self, error: NetworkError) -> UFileError:
        """What a broken connection was: a server that refuses early and closes looks the same.

        For a worker. One cheap call tells: it is refused as well, or it was the network. Keys that
        a part was taken from in this run are good ones; where those may not list, nothing is told.
        """
        if not error.reset or error.stale:
            return error
        try:
            self._client.list_parts(self._upload_id, limit=1)
        except CredentialsRefused as refusal:
            if refusal.credentials_tag not in self._may_write:
                return refusal
        except UFileError:
            pass
        return error

    def finish(self, parts: int, own_etag: str | None, size: int) -> Completed:
        """Have the object put together.

        Where the answer was lost, HEAD tells whether it went through all the same.

        Raises:
            IntegrityError: stored under another key, or as something else.
            Refused: the server will not.
        """
        headers = headers_of(self._record, first=False)
        etags = self._record.parts
        if etags is None or etags.pause < parts:
            raise RuntimeError("Finish needs every part")

        def job() -> Completed:
            listed = (etags.etag(number) or "" for number in range(parts))
            try:
                stored = self._client.finish(self._key, self._upload_id, listed, headers)
            except (NetworkError, BadAnswer) as error:
                if isinstance(error, NetworkError) and error.stale:
                    raise  # it never got there
                there = self._there(own_etag, size)
                if there is None or not self._id_is_gone():
                    raise error
                return there
            if stored.key is not None and stored.key != self._key:
                raise IntegrityError(
                    f"the server stored the object under another key: {stored.key!r}"
                )
            return Completed(stored.etag or "", stored.size)

        return self._drive.call("Finish", job)

    def look_up(self, completed: Completed) -> Completed:
        """Ask HEAD for what the answer to Finish did not say."""
        if completed.etag and completed.size is not None:
            return completed

        def job() -> Completed:
            try:
                head = self._client.head(self._key)
            except Refused:
                return completed
            return Completed(completed.etag or head.etag or "", head.size)

        try:
            return self._drive.call("HeadFile", job)
        except CredentialsRefused:
            # Finish succeeded; keys that may write but not read are refused here. What is
            # compared then is every part's ETag.
            return completed

    def fate(self, refusal: Refused) -> Fate:
        """What has become of the upload id, after a part or Finish was refused."""
        if not speaks_of_the_id(refusal):
            return Fate.LIVES

        def job() -> Fate:
            try:
                self._client.list_parts(self._upload_id, limit=1)
            except (Refused, ServerTrouble) as error:
                if cannot_list(error):
                    return Fate.UNKNOWN
                if isinstance(error, Refused):
                    return Fate.DEAD if speaks_of_the_id(error) else Fate.LIVES
                raise
            except CredentialsRefused as error:
                # Keys that may write and not list, as in `page_job`.
                if self._rotated(error.credentials_tag):
                    raise
                return Fate.UNKNOWN
            return Fate.LIVES

        return self._drive.call("the part list", job)

    def abort(self) -> None:
        """Free the parts of the upload id, as far as the server lets us."""

        def job() -> None:
            try:
                self._client.abort(self._key, self._upload_id)
            except (Refused, CredentialsRefused):
                pass  # gone, or keys that may write and not delete: it is the server's to expire

        self._drive.call("Abort", job)

    def there_already(self, own_etag: Callable[[], str | None], size: int) -> Completed | None:
        """The object, where it is there with our size and our ETag.

        Args:
            own_etag: computes it; may take a while, so it is asked only where the size fits.
        """
        try:
            head = self._drive.call("HeadFile", self._head)
        except CredentialsRefused:
            return None  # keys that may not read: nobody can tell
        if head is None or head.size != size or not head.etag:
            return None
        return head if head.etag == own_etag() else None

    def _head(self) -> Completed | None:
        try:
            head = self._client.head(self._key)
        except NotFound:
            return None
        except Refused:
            return None
        return Completed(head.etag or "", head.size)

    def _there(self, own_etag: str | None, size: int) -> Completed | None:
        """For a worker, after an error: None unless the object is certainly ours."""
        if own_etag is None:
            return None
        try:
            head = self._head()
        except UFileError:
            return None
        if head is None or head.size != size or head.etag != own_etag:
            return None
        return head

    def _id_is_gone(self) -> bool:
        """For a worker: whether the upload id is certainly gone, so that Finish has been done.

        The same object may have been there before; then our Finish still has to come, with its
        own metadata and storage class. Where the list can't be had, Finish is better asked again.
        """
        try:
            self._client.list_parts(self._upload_id, limit=1)
        except Refused as refusal:
            return speaks_of_the_id(refusal)
        except UFileError:
            return False
        return False


def same_object(own_etag: str | None, completed: Completed, size: int, block_size: int) -> str:
    """Compare what is stored with what was sent; `etag` or `parts`, as `Result.verified` has it.

    Raises:
        IntegrityError: the server stored something else.
    """
    again = "abort this one and upload it again; of a file, upload --restart does both"
    if completed.size is not None and completed.size != size:
        raise IntegrityError(
            f"the server stored {completed.size:,} bytes, but {size:,} were sent",
            hint=again,
        )
    if own_etag is None or not completed.etag:
        return "parts"
    if completed.etag == own_etag:
        return "etag"
    # Certain with blocks of 4 MiB. With others the form is undocumented: an ETag that counts as
    # many blocks as ours is of the known form, and then it is one of other bytes.
    if block_size == BLOCK or same_form(completed.etag, own_etag):
        raise IntegrityError(
            f"the server stored something else: its ETag is {completed.etag}, ours {own_etag}",
            hint=again,
        )
    return "parts"
