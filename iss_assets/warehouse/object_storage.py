"""Requests to object storage (S3) besides those of DuckDB, and the access that DuckDB is given.

Everything about the connection comes from where other programs of this kind look for it, through boto3: credentials from the
environment (``AWS_ACCESS_KEY_ID``), ``~/.aws``, a container's or an instance's role; ``AWS_REGION``, ``AWS_PROFILE``,
``AWS_ENDPOINT_URL_S3``, ``AWS_CA_BUNDLE``. Nothing of it is in our settings, which are passed on and recorded.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

from iss_assets.warehouse.errors import WarehouseError

INSTALL: Final = "pip install 'iss-assets[cluster,s3]'"
_GUIDE: Final = "iss guide shared_warehouse"
_NOT_VALID: Final = frozenset(
    {"AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "SignatureDoesNotMatch"}
)
_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
)
_DENIED: Final = frozenset({"403", "AccessDenied", "AllAccessDisabled", "AccountProblem"})
_OTHER_REGION: Final = frozenset(
    {"301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)
_GONE: Final = frozenset({"404", "NoSuchKey"})
_NOT_OFFERED: Final = frozenset({"405", "501", "MethodNotAllowed", "NotImplemented"})
_TIMES: Final = 6
"""How often a request is tried: with the pauses in between, about half a minute."""

_client: Any = None
"""boto3's, one per process: making it takes a third of a second."""
_guard = Lock()


def _forget() -> None:
    """Leave the parent's connections alone in a forked process."""
    global _guard
    _guard = Lock()
    look_again()


def look_again() -> None:
    """Let the next request look for credentials and settings again."""
    global _client
    _client = None


os.register_at_fork(after_in_child=_forget)


class StorageProblem(OSError):
    """Object storage did not do what was asked for; `strerror` says why, without address and credentials.

    Attributes
    ----------
    lasting : bool
        Whether it stays so until somebody gives a right or changes the bucket.
    """

    def __init__(self, why: str, *, lasting: bool = False):
        super().__init__(errno.EIO, why)
        self.lasting = lasting


class ObjectGone(StorageProblem):
    """There is no object of this name, or no longer."""


@dataclass(frozen=True, repr=False)
class Access:
    """What DuckDB needs to reach a bucket.

    Attributes
    ----------
    endpoint : str
        Host, and port if it has one.
    tls : bool
        Whether the connection is encrypted.
    in_path : bool
        Whether the bucket's name is in the path of addresses, and not in the host's name.
    region, key_id, secret, token : str
        As boto3 found them; empty if there is none.
    authorities : str
        The file with the certificates of the authorities that are trusted.
    """

    endpoint: str
    tls: bool
    in_path: bool
    region: str
    key_id: str
    secret: str
    token: str
    authorities: str


class ObjectStorage:
    """A bucket.

    Parameters
    ----------
    bucket : str
        Its name.
    plain_http : bool
        Whether connections to other hosts may be without TLS.
    """

    def __init__(self, bucket: str, *, plain_http: bool):
        self._bucket, self._plain_http = bucket, plain_http

    def call(self, operation: str, **parameters: object) -> dict[str, Any]:
        """Do one request.

        Raises
        ------
        StorageProblem
            If it fails.
        """
        with self._explaining():
            answer: dict[str, Any] = getattr(self._checked_client(), operation)(
                Bucket=self._bucket, **parameters
            )
            return answer

    def pages(self, operation: str, **parameters: object) -> Iterator[dict[str, Any]]:
        """Yield the answers of a request that comes in pages; see `call`."""
        with self._explaining():
            yield from (
                self._checked_client().get_paginator(operation).paginate(Bucket=self._bucket, **parameters)
            )

    def access(self) -> Access:
        """Return what DuckDB needs; credentials that expire are fresh ones.

        Raises
        ------
        StorageProblem
            If there are no credentials.
        """
        from botocore.exceptions import NoCredentialsError
        from botocore.httpsession import get_cert_path

        with self._explaining():
            client = self._checked_client()
            credentials = client._request_signer._credentials
            if credentials is None:
                raise NoCredentialsError
            frozen = credentials.get_frozen_credentials()
            endpoint = urlsplit(client.meta.endpoint_url)
            # boto3's own answer to whether the bucket is in the host's name; nothing is sent
            address = urlsplit(
                client.generate_presigned_url("get_object", Params={"Bucket": self._bucket, "Key": "x"})
            )
            region = client.meta.region_name
            verify = client._endpoint.http_session._verify
            return Access(
                endpoint=endpoint.netloc,
                tls=endpoint.scheme == "https",
                in_path=not address.netloc.startswith(f"{self._bucket}."),
                region="us-east-1" if region in (None, "aws-global") else region,
                key_id=frozen.access_key,
                secret=frozen.secret_key,
                token=frozen.token or "",
                authorities=str(verify) if isinstance(verify, str) else str(get_cert_path(True)),
            )

    def _checked_client(self) -> Any:
        global _client
        with _guard:
            client = _client = _client or _new_client()
        endpoint = urlsplit(client.meta.endpoint_url)
        if endpoint.path.strip("/"):
            raise StorageProblem("its endpoint may have no path: AWS_ENDPOINT_URL_S3", lasting=True)
        if endpoint.scheme == "https" or self._plain_http or _is_this_machine(endpoint.hostname or ""):
            return client
        raise StorageProblem(
            "its endpoint is plain http, so faces and voices would cross the network for everybody to read; use https, or "
            "set ISS_WAREHOUSE__PLAIN_HTTP=true if the network itself is protected",
            lasting=True,
        )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        require_boto3()
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = re.sub(r"\W", "", str(error.response.get("Error", {}).get("Code", "")))[:40]
            if code in _NOT_VALID | _EXPIRED | _OTHER_REGION:
                look_again()
            raise _told(code, error.operation_name) from None
        except (BotoCoreError, Boto3Error) as error:
            look_again()
            raise _unsent(type(error).__name__) from None


def require_boto3() -> None:
    """Check that boto3 is installed.

    Raises
    ------
    WarehouseError
        If it is not.
    """
    try:
        import boto3  # noqa: F401
    except ImportError:
        raise WarehouseError(
            f"data in object storage needs the package boto3; install it with: {INSTALL}"
        ) from None


def _new_client() -> Any:
    from boto3.session import Session
    from botocore.config import Config

    # boto3 itself reads AWS_DEFAULT_REGION only, the other programs AWS_REGION
    return Session(region_name=os.environ.get("AWS_REGION") or None).client(
        "s3",
        config=Config(
            connect_timeout=15,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": _TIMES},
            # servers other than AWS need not know the newer checksums
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _told(code: str, operation: str) -> StorageProblem:
    if code == "NoSuchBucket":
        return StorageProblem("there is no such bucket")
    if code in _GONE:
        # or, where the endpoint is wrong, nothing at all: what was answered says more
        return ObjectGone(f"it answers {code} to {operation}")
    if code in _NOT_VALID:
        return StorageProblem(f"its credentials are not valid ({code})")
    if code in _EXPIRED:
        return StorageProblem("its credentials have expired")
    if code in _OTHER_REGION:
        return StorageProblem("the bucket is in another region: AWS_REGION")
    if code == "RequestTimeTooSkewed":
        return StorageProblem("the clock of this host is wrong")
    if code in _DENIED:
        return StorageProblem(
            f"its credentials lack a right ({operation}); which ones are needed: {_GUIDE}", lasting=True
        )
    return StorageProblem(
        f"it answers {code or 'with an error'} to {operation}", lasting=code in _NOT_OFFERED
    )


def _unsent(kind: str) -> StorageProblem:
    if "Credential" in kind or "Token" in kind or kind in ("ProfileNotFound", "ConfigParseError"):
        return StorageProblem(
            f"no credentials were found ({kind}): AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE with ~/.aws, or "
            "the role of this host"
        )
    if kind == "SSLError":
        return StorageProblem("its certificate is not trusted: AWS_CA_BUNDLE names the file of its authority")
    return StorageProblem(f"it does not answer ({kind}): AWS_ENDPOINT_URL_S3, AWS_REGION")
