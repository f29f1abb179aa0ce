"""Sends requests to a bucket of the S3 store that the environment names.

A request is retried with exponential backoff, for a limited time, if the connection or the server (5xx) fails. Every
other failure is raised at once, with a message that names the object and the remedy.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from miniml.errors import MinimlError, StoreError, StoreUnavailableError
from miniml.store import credentials

AWS = "https://s3.amazonaws.com"

CONNECT_TIMEOUT = 3.0
"""Seconds."""
READ_TIMEOUT = 30.0
"""Seconds without a byte; S3 may take long to assemble a large object."""

MAX_LISTED = 100_000
"""Objects in a listing. A longer one is refused: it may have no end."""
PAGES_LISTED = 2 * MAX_LISTED // 1000
"""Requests for a listing. A page can hold 1,000 objects, but the store may return fewer."""
BYTES_READ_WHOLE = 64 * 2**20
"""Bytes of a response or an object that is read into memory: a page of a listing, a manifest of some 300,000 files."""

CONNECTION_ERRORS = (NewConnectionError, ConnectTimeoutError, ReadTimeoutError, ProtocolError)
"""Errors of a lost connection, after which a request is retried."""

_WRONG_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}


@dataclass(frozen=True)
class RetryTimeouts:
    """The time limits for retrying a store that does not answer, in seconds."""

    first: float = 10.0
    """The limit before the store's first answer. On a laptop the address is probably wrong: better said soon."""
    later: float = 60.0
    """The limit after its first answer. A pod that restarts is back within a minute."""


# A pod gets the address from a secret, so it is probably right, and the store may be restarting.
RETRY_TIMEOUTS = RetryTimeouts(first=60.0) if "KUBERNETES_SERVICE_HOST" in os.environ else RetryTimeouts()


class Backoff:
    """Waits between attempts with exponential backoff: from 0.25 s to 5 s, with 50 % jitter."""

    def __init__(self, limit: float) -> None:
        """Starts the clock.

        Args:
            limit: Seconds from now after which no further attempt is made.
        """
        self._end = time.monotonic() + limit
        self._pause = 0.25

    def wait(self) -> bool:
        """Waits for the next attempt, or returns False at once if it would come after the limit."""
        # The jitter keeps many stages that lost the same server from retrying at the same moment.
        pause = self._pause * random.uniform(0.5, 1.5)  # noqa: S311  # not for cryptography
        if time.monotonic() + pause > self._end:
            return False
        time.sleep(pause)
        self._pause = min(2 * self._pause, 5.0)
        return True


@dataclass(frozen=True)
class Endpoint:
    """The address of the store."""

    url: str
    region: str | None
    """None lets the client ask Amazon for the bucket's region."""

    @classmethod
    def from_environment(cls) -> Endpoint:
        """Reads the endpoint from the environment; Amazon's is the default.

        The first one that is set counts: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, S3_ENDPOINT (which is http if
        S3_USE_HTTPS is 0).

        Raises:
            StoreError: the variable holds no endpoint.
        """
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT")
        name = next((name for name in names if os.environ.get(name)), "")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not name:
            return cls(AWS, region)
        url = os.environ[name].rstrip("/")
        if "://" not in url:
            plain = os.environ.get("S3_USE_HTTPS", "1").lower() in ("0", "false")
            url = f"{'http' if plain else 'https'}://{url}"
        split = urlsplit(url)
        if "@" in url:
            raise StoreError(
                f"{name} holds an '@', as an address with credentials does; it is not repeated here. "
                f"Leave them out. {credentials.REMEDY}."
            )
        if split.scheme not in ("http", "https") or not split.hostname or split.path or split.query:
            raise StoreError(
                f"{name} is {url!r}. Write it as http(s)://host:port, without a path or a query."
            )
        # Stores other than Amazon's have no regions, but a signature must name one.
        return cls(url, region or "us-east-1")


@dataclass(frozen=True)
class Stored:
    """An entry of a listing: an object, or a folder, whose key ends in a slash."""

    key: str
    size: int
    etag: str
    modified: datetime | None


class Readable(Protocol):
    """A source of bytes to upload."""

    def read(self, size: int = -1, /) -> bytes:
        """Reads at most `size` bytes, or all that is left if `size` is -1; returns no bytes at the end."""


class Bucket:
    """One bucket of the store.

    Every method raises StoreError if the store refuses the request, and StoreUnavailableError if it cannot be reached.
    """

    def __init__(self, name: str, asked: str, timeouts: RetryTimeouts) -> None:
        """Finds the endpoint and the credentials, and sends no request to the store.

        Args:
            name: The bucket.
            asked: What the user asked for (an argument and its value, or an address); it begins every error message.
            timeouts: The time limits for retrying.

        Raises:
            StoreError: the environment names no usable endpoint or credentials.
        """
        self.name, self.asked, self.timeouts = name, asked, timeouts
        self.endpoint = Endpoint.from_environment()
        self._provider, self._where = credentials.find(on_aws=self.endpoint.url == AWS)
        self._transport = _Transport(self.timeouts, {})
        self._client = self._connect(self._transport)
        self._client_that_overwrites_nothing = self._connect(
            _Transport(self.timeouts, {"If-None-Match": "*"})
        )

    def __repr__(self) -> str:
        return f"Bucket({self.name!r} at {self.endpoint.url})"

    def read(self, key: str) -> bytes | None:
        """Returns the content of a small object, or None if there is no such object.

        Raises:
            StoreError: the object cannot be read, or has more than `BYTES_READ_WHOLE` bytes.
        """
        backoff = Backoff(self.timeouts.later)
        while True:
            try:
                with self.stream(key) as (_, response):
                    content = bytes(response.read(BYTES_READ_WHOLE + 1))
                    if len(content) > BYTES_READ_WHOLE:
                        raise self.error(
                            f"the object {key} has more than {BYTES_READ_WHOLE:,} bytes, and is none of miniml's. "
                            f"Remove it."
                        )
                    return content
            except LookupError:
                return None
            except CONNECTION_ERRORS as error:
                if not backoff.wait():
                    raise self.unreachable(error) from error

    @contextmanager
    def stream(self, key: str, offset: int = 0, etag: str = "") -> Iterator[tuple[int, Any]]:
        """Opens an object for reading from an offset on.

        Reading the response raises one of `CONNECTION_ERRORS` if the connection breaks.

        Args:
            key: The object's key.
            offset: The first byte to read.
            etag: The expected ETag; "" accepts any.

        Returns:
            The offset at which the response really begins (0 if the server knows no ranges), and the response.

        Raises:
            LookupError: there is no such object.
            StoreError: the object cannot be read, or has another ETag.
        """
        headers: dict[str, str | list[str] | tuple[str]] = {"If-Match": f'"{etag}"'} if etag else {}
        with self._explained("read from it", key):
            response = self._client.get_object(self.name, key, offset=offset, request_headers=headers)
        # A response that was not read to its end would keep its connection busy.
        with closing(response):
            yield offset if response.status == 206 else 0, response

    def size(self, key: str) -> int | None:
        """Returns the size of an object in bytes, or None if there is no such object."""
        try:
            with self._explained("read from it", key):
                return self._client.stat_object(self.name, key).size
        except LookupError:
            return None

    def listing(self, prefix: str) -> list[Stored]:
        """Returns all objects under `prefix`, sorted by key.

        Raises:
            StoreError: they cannot be listed, or there are more than `MAX_LISTED`.
        """
        found = self._listed(prefix, MAX_LISTED + 1, recursive=True)
        if len(found) > MAX_LISTED:
            raise self.error(
                f"under {prefix!r} in bucket {self.name!r} the store lists more than {MAX_LISTED:,} objects, or "
                f"without an end. Give a folder with fewer, or the key of an object."
            )
        return found

    def level(self, prefix: str, limit: int = 1000) -> list[Stored]:
        """Returns the first `limit` entries directly under `prefix`, sorted by key; a folder is one entry."""
        return self._listed(prefix, limit, recursive=False)

    def _listed(self, prefix: str, limit: int, *, recursive: bool) -> list[Stored]:
        with self._explained("list it"), self._transport.at_most(PAGES_LISTED):
            found = self._client.list_objects(self.name, prefix, recursive=recursive)
            items = [
                Stored(item.object_name, item.size or 0, item.etag or "", item.last_modified)
                for item in itertools.islice(found, limit)
                if item.object_name
            ]
        return sorted(items, key=lambda item: item.key)

    def write(self, key: str, content: bytes) -> None:
        """Writes an object, or replaces it."""
        with self._explained("write to it", key):
            self._client.put_object(self.name, key, io.BytesIO(content), len(content))

    def write_once(self, key: str, content: bytes) -> bool:
        """Writes an object unless it exists. If several writers try at once, one of them succeeds.

        The server decides, by the header If-None-Match. SeaweedFS, MinIO and Amazon S3 support it; a server that does
        not know the header overwrites the object.

        Returns:
            Whether this call has written the object.
        """
        try:
            with self._explained("write to it", key):
                self._client_that_overwrites_nothing.put_object(
                    self.name, key, io.BytesIO(content), len(content)
                )
        except FileExistsError:
            return False
        return True

    def upload(self, key: str, file: Readable, size: int) -> None:
        """Writes an object from a file, without reading all of it into memory.

        Args:
            key: The key of the object.
            file: The file, open for reading in binary mode.
            size: The size in bytes.

        Raises:
            StoreError: The store refuses the request, or does not answer.
        """
        with self._explained("write to it", key):
            self._client.put_object(self.name, key, cast(BinaryIO, file), size)

    def remove(self, key: str) -> None:
        """Removes an object; one that does not exist is no error."""
        with self._explained("write to it", key):
            self._client.remove_object(self.name, key)

    def error(self, reason: str) -> StoreError:
        """Returns an error whose message begins with what the user asked for."""
        return StoreError(f"{self.asked}: {reason}")

    def _unavailable(self, reason: str) -> StoreError:
        return StoreUnavailableError(f"{self.asked}: {reason}")

    def unreachable(self, error: Exception) -> StoreError:
        """Returns the error for a store that cannot be reached, as `error` shows."""
        reason = str(error).rpartition("object at 0x")[2].partition(">: ")[2] or str(error)
        return self._unavailable(
            f"the store at {self.endpoint.url} cannot be reached ({type(error).__name__}: {reason[:200]}). "
            f"Check the network, that the store runs, and AWS_ENDPOINT_URL."
        )

    def _connect(self, transport: _Transport) -> Minio:
        split = urlsplit(self.endpoint.url)
        try:
            return Minio(
                split.netloc,
                secure=split.scheme == "https",
                region=self.endpoint.region,
                credentials=self._provider,
                http_client=transport,
            )
        except ValueError as error:
            raise self.error(
                f"{self.endpoint.url} in region {self.endpoint.region!r} is no S3 endpoint ({error}). "
                f"Set AWS_ENDPOINT_URL and AWS_REGION."
            ) from error

    @contextmanager
    def _explained(self, action: str, key: str = "") -> Iterator[None]:
        """Turns the client's errors into ours.

        Args:
            action: What the block does, as the end of "the credentials do not have the right to".
            key: The object, if there is one.

        Raises:
            LookupError: there is no such object.
            FileExistsError: there is such an object already.
            StoreError: anything else has failed.
        """
        try:
            yield
        except (MinimlError, LookupError):
            raise
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise LookupError(key) from error
            # Amazon answers 409 if several writers write the same key at once.
            if error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise self._condition_failed(action, key) from error
            raise self._refusal(error, action) from error
        except (ServerError, InvalidResponseError) as error:
            status = error.status_code if isinstance(error, ServerError) else error._code
            raise self._unexpected_status(status) from error
        except SSLError as error:
            remedy = "Check that its port speaks https; if it does not, begin the address with http://."
            if "CERTIFICATE" in str(error):
                remedy = (
                    "Set AWS_CA_BUNDLE to the certificate file of the authority that signed its certificate."
                )
            raise self.error(f"no encrypted connection to {self.endpoint.url} ({error}). {remedy}") from error
        except (HTTPError, MinioException) as error:
            raise self.unreachable(error) from error
        except _EndlessError as error:
            raise self.error(
                f"the store at {self.endpoint.url} answers without an end. Check AWS_ENDPOINT_URL. If the folder has "
                f"very many objects, give one with fewer."
            ) from error
        except ParseError as error:
            raise self.error(
                f"{self.endpoint.url} does not answer as an S3 store does ({error}). Check AWS_ENDPOINT_URL."
            ) from error
        except ValueError as error:
            if "header" not in str(error):
                raise self.error(f"bucket {self.name!r} cannot be requested ({error}).") from error
            # The error quotes the header, and with it the access key.
            raise self.error(
                f"the credentials that come from {self._where} hold a line break or another character that cannot be "
                f"sent. Remove it: echo -n writes a secret without one."
            ) from None

    def _condition_failed(self, action: str, key: str) -> Exception:
        if action == "write to it":
            return FileExistsError(key)
        return self.error(f"{key} was changed in the store while it was being read. Start again.")

    def _refusal(self, error: S3Error, action: str) -> StoreError:
        code, store = error.code or "", f"the store at {self.endpoint.url}"
        if code == "NoSuchBucket":
            return self.error(
                f"{store} has no bucket {self.name!r}{self._buckets()}. Check the spelling, or create it."
            )
        if code in _WRONG_CREDENTIALS:
            return self.error(
                f"{store} does not accept the credentials that come from {self._where} ({code}). "
                f"{credentials.REMEDY}, and check AWS_ENDPOINT_URL."
            )
        if code in _EXPIRED:
            return self.error(
                f"the credentials that come from {self._where} have expired ({code}). Renew them."
            )
        if code in _WRONG_REGION:
            return self.error(f"bucket {self.name!r} is in another region ({error.message}). Set AWS_REGION.")
        if code == "RequestTimeTooSkewed":
            return self.error(f"{store} says that this machine's clock is wrong. Set it.")
        if code == "AccessDenied" and self._provider is None:
            return self.error(
                f"{store} wants credentials for bucket {self.name!r}, and none were found. {credentials.REMEDY}."
            )
        if code in ("AccessDenied", "AllAccessDisabled"):
            return self.error(
                f"the credentials that come from {self._where} do not have the right to {action}: "
                f"bucket {self.name!r} at {self.endpoint.url}. Ask its owner for that right, or use others."
            )
        return self._unexpected_status(error.response.status, code)

    def _unexpected_status(self, status: int, code: str = "") -> StoreError:
        answer = f"{status} {code}".rstrip()
        if status >= 500:
            return self._unavailable(
                f"the store at {self.endpoint.url} answered {answer}, and did so again after retries. Try later; its "
                f"log says why."
            )
        return self.error(
            f"{self.endpoint.url} answered {answer}. Check that AWS_ENDPOINT_URL is that of an S3 store."
        )

    def _buckets(self) -> str:
        """Returns the names of all buckets for a message, or "" if the credentials may not list them."""
        try:
            names = [bucket.name for bucket in self._client.list_buckets()]
        except (MinioException, HTTPError):
            return ""
        return f"; it has: {', '.join(names) or 'none'}"


class _EndlessError(Exception):
    """The store answers with more than the limits allow to be read."""


class _Transport(urllib3.PoolManager):
    """Retries requests until the time limit, and limits what is read of a response.

    The client itself cannot send a conditional PUT, waits minutes for each request, and reads responses of any size.
    """

    def __init__(self, timeouts: RetryTimeouts, headers: dict[str, str]) -> None:
        """Makes a pool of connections.

        Args:
            timeouts: The time limits for retrying.
            headers: Headers that are added to every PUT, outside its signature.
        """
        super().__init__(
            maxsize=10,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        self._timeouts, self._conditions, self._answered = timeouts, headers, False
        self._found = False
        """Whether a request has succeeded, so that the bucket exists."""
        self._requests_left = math.inf
        """The number of requests that may still be sent."""

    @contextmanager
    def at_most(self, requests: int) -> Iterator[None]:
        """Raises `_EndlessError` within the block when it sends more than `requests` requests."""
        self._requests_left = requests
        try:
            yield
        finally:
            self._requests_left = math.inf

    def urlopen(  # type: ignore[override]  # PoolManager types it by what it passes on
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        if method == "PUT":
            options["headers"].update(self._conditions)
        if self._requests_left <= 0:
            raise _EndlessError
        self._requests_left -= 1
        read_whole = options.pop("preload_content", True)
        send: Callable[..., urllib3.BaseHTTPResponse] = super().urlopen
        backoff = Backoff(self._timeouts.later if self._answered else self._timeouts.first)
        while True:
            wait = READ_TIMEOUT if self._answered else min(READ_TIMEOUT, self._timeouts.first)
            options["timeout"] = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=wait)
            try:
                response = send(method, url, redirect, preload_content=False, **options)
                if read_whole or response.status >= 300:
                    response = _read_whole(response, method)
            except CONNECTION_ERRORS:
                if not backoff.wait():
                    raise
                continue
            # A server that answers 501 does not support the request, and never will.
            fails = response.status >= 500 and response.status != 501
            if not (fails or self._forgot_the_bucket(method, response)) or not backoff.wait():
                self._answered = self._answered or response.status < 500
                self._found = self._found or response.status < 300
                return response

    def _forgot_the_bucket(self, method: str, response: urllib3.BaseHTTPResponse) -> bool:
        """Tells whether the store does not know a bucket that it had before.

        SeaweedFS, as KFP installs it, answers so while it starts: a 404 to an upload was seen 35 s after a restart.
        """
        if response.status != 404 or not self._found:
            return False
        return b"NoSuchBucket" in response.data or (method == "PUT" and b"NoSuchUpload" not in response.data)


def _read_whole(response: urllib3.BaseHTTPResponse, method: str) -> urllib3.HTTPResponse:
    """Returns the same response with its content in memory.

    Raises:
        _EndlessError: The content has more than `BYTES_READ_WHOLE` bytes.
    """
    with closing(response):
        content = response.read(BYTES_READ_WHOLE + 1)
    if len(content) > BYTES_READ_WHOLE:
        raise _EndlessError
    return urllib3.HTTPResponse(
        io.BytesIO(content),
        headers=response.headers,
        status=response.status,
        reason=response.reason,
        decode_content=False,
        enforce_content_length=False,
        request_method=method,
    )
