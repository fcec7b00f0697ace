"""A bucket of object storage (S3), or a part of one.

DuckLake removes the files that a transaction has written if its commit fails, and takes it for failed, too, if the catalog has
carried it out and only the answer was lost. A commit itself changes the catalog only; the files are complete before. So
during a commit DuckDB has no access to the bucket, and cannot remove anything: whatever becomes of the commit and of the
writer, its files are there. If the commit has failed indeed, no table names them, and maintenance removes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Iterator, Set
from contextlib import suppress
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final

import duckdb

from iss_assets.settings import OBJECT_STORAGE
from iss_assets.warehouse.data_place import STUDY_MARK
from iss_assets.warehouse.errors import WarehouseError
from iss_assets.warehouse.object_storage import ObjectStorage, StorageProblem

_NAME: Final = "the bucket of the shared warehouse, ISS_WAREHOUSE__DATA_PATH"
_ADDRESS: Final = re.compile(r"\b(?:https?|s3)://[^\s'\"<>]*")
_SECRET: Final = "iss_data_"
"""Begin of the name of DuckDB's secret for the bucket; the rest changes with what is in it."""
_ELSEWHERE: Final = """
create or replace temporary secret iss_elsewhere (
    type s3, key_id '', secret '', session_token '', region '', endpoint '127.0.0.1:0', url_style 'path', use_ssl false,
    scope ['s3://', 's3a://', 's3n://', 'gcs://', 'gs://', 'r2://']
)
"""
"""For everything but the bucket: a port to which nothing can be sent. Without it DuckDB would take keys from the environment, and
ask Amazon."""
_RETRIES: Final = 7
"""Of DuckDB's requests, with pauses of 0.25 s, 0.5 s, ...: about half a minute."""
_TOGETHER: Final = 1000
"""Objects that one request lists or removes at most."""

_handing_over = Lock()


class Bucket:
    """The bucket; see `data_place.DataPlace`.

    Parameters
    ----------
    address : str
        ``s3://``, its name, and a prefix, with a slash at the end.
    plain_http : bool
        Whether connections to other hosts may be without TLS.
    """

    name = _NAME
    gone = f"{_NAME}, has nothing at this address, but tables have files there: is it the right bucket and prefix?"
    folder: Path | None = None
    guards_commits = True

    def __init__(self, address: str, *, plain_http: bool):
        self.address = address
        bucket, _, self._prefix = address.removeprefix(OBJECT_STORAGE).partition("/")
        self._storage = ObjectStorage(bucket, plain_http=plain_http)

    def extensions(self) -> list[str]:
        """Return the one with which DuckDB reads object storage."""
        return ["httpfs"]

    def connect(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Hand DuckDB access to this part of the bucket, and to nothing else; new credentials replace older ones.

        Raises
        ------
        StorageProblem
            If there are no credentials.
        """
        access = self._storage.access()
        name = _SECRET + hashlib.sha256(repr((astuple(access), self.address)).encode()).hexdigest()[:16]
        with _handing_over:
            cursor = connection.cursor()
            before = _secrets(cursor)
            if before == {name}:
                return
            for name_of_it, value in (
                ("disabled_filesystems", "HTTPFileSystem,HuggingFaceFileSystem"),
                ("http_retries", _RETRIES),
                ("http_retry_wait_ms", 250),
                ("http_retry_backoff", 2),
                # off by default in one of DuckDB's two clients
                ("enable_server_cert_verification", True),
                ("ca_cert_file", access.authorities),
            ):
                # otherwise it would be this cursor's only
                cursor.execute(f"set global {name_of_it} = {_quoted(str(value))}")
            cursor.execute(_ELSEWHERE)
            try:
                cursor.execute(
                    f"create or replace temporary secret {name} (type s3, key_id ?, secret ?, session_token ?, region ?, "
                    "endpoint ?, url_style ?, use_ssl ?, scope ?)",
                    [
                        access.key_id, access.secret, access.token, access.region, access.endpoint,
                        "path" if access.in_path else "vhost", access.tls, self.address,
                    ],
                )  # fmt: skip
            except duckdb.Error:
                # what it says could quote them
                raise WarehouseError(f"{self.name}: DuckDB does not take these credentials") from None
            for other in before - {name}:
                cursor.execute(f"drop secret if exists {other}")

    def explained(self, text: str) -> str:
        """Return the text of an error without addresses."""
        return f"{self.name}: {_ADDRESS.sub('', text)}" if _ADDRESS.search(text) else text

    def prepare(self) -> None:
        """Do nothing: whoever made it decided on encryption, versions and who may read it."""

    def has_entries(self) -> bool:
        """Return whether there is something at this address besides the id of its study."""
        return any(True for _ in self._objects(10))

    def marks(self) -> set[str]:
        """Return the names of objects that begin with `STUDY_MARK`."""
        start = self._prefix + STUDY_MARK
        return {
            found["Key"].removeprefix(self._prefix)
            for page in self._storage.pages("list_objects_v2", Prefix=start)
            for found in page.get("Contents", ())
        }

    def mark(self, name: str) -> None:
        """Make an empty object of this name."""
        self._storage.call("put_object", Key=self._prefix + name, Body=b"")

    def names(self) -> Iterator[str]:
        """Yield the name of every object that is no mark, without the prefix."""
        return (key.removeprefix(self._prefix) for key in self._objects())

    def download(self, name: str, target: Path) -> None:
        """Write an object to a file.

        Raises
        ------
        ObjectGone
            If it is there no longer.
        """
        self._storage.call("download_file", Key=self._prefix + name, Filename=str(target))

    def upload(self, name: str, source: Path, md5: str) -> None:
        """Write a file to an object; the server refuses what does not have the checksum `md5` (base64)."""
        with source.open("rb") as file:
            self._storage.call("put_object", Key=self._prefix + name, Body=file, ContentMD5=md5)

    def known_by(self) -> Hashable:
        """Return its address: nobody can mount something else in its place."""
        return self.address

    def require_writable(self) -> None:
        """Check that it can be written to, by an upload that is given up; no object and no version is left of it."""
        key = f"{self._prefix}.writable"
        begun = self._storage.call("create_multipart_upload", Key=key)
        self._storage.call("abort_multipart_upload", Key=key, UploadId=begun["UploadId"])

    def committing(self, connection: duckdb.DuckDBPyConnection, name: str, since: float) -> Withheld:
        """Take the access to the bucket from the DuckDB that commits."""
        return Withheld(self, connection)

    def put_back_missing(self, named: Callable[[], Set[str]]) -> None:
        """Do nothing: no commit removes a file."""

    def tidy(self, older_than_s: float) -> list[str]:
        """Give up the uploads of writers that died, which keep what was sent already and cannot be seen as objects."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        try:
            for page in self._storage.pages("list_multipart_uploads", Prefix=self._prefix):
                for upload in page.get("Uploads", ()):
                    if older_than_s == 0 or upload["Initiated"] <= before:
                        self._give_up(upload)
        except StorageProblem as problem:
            if not problem.lasting:
                raise
            return [
                f"uploads to the bucket that were begun and not completed: {problem.strerror}. Have its administrator give the "
                "rights s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, then repeat the command"
            ]
        return []

    def _give_up(self, upload: dict[str, Any]) -> None:
        self._storage.call("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"])

    def files(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return the address of every object."""
        return [self.address + key.removeprefix(self._prefix) for key in self._objects()]

    def erase_history(self) -> list[str]:
        """Remove the older versions of objects and the marks of deletion, which a bucket with versions keeps."""
        try:
            left, why = self._remove_versions(), "they are held by Object Lock"
        except StorageProblem as problem:
            if not problem.lasting:
                raise
            left, why = -1, str(problem.strerror)
        if not left:
            return []
        many = "older versions" if left < 0 else f"{left} older versions"
        return [
            f"{many} of objects in the bucket: {why}, or its administrator has to give the rights s3:ListBucketVersions and "
            "s3:DeleteObjectVersion; then, or when a retention has ended, repeat the command"
        ]

    def _remove_versions(self) -> int:
        """Remove everything but the current versions, and return how many are left."""
        versions, marks = self._history()
        if not versions and not marks:
            return 0
        self._remove(versions)
        held, marks = self._history()
        # without its mark, a version that is held would be the current one
        keys = {one["Key"] for one in held}
        self._remove([mark for mark in marks if mark["Key"] not in keys])
        return sum(map(len, self._history()))

    def _remove(self, objects: list[dict[str, str]]) -> None:
        for start in range(0, len(objects), _TOGETHER):
            self._storage.call(
                "delete_objects", Delete={"Objects": objects[start : start + _TOGETHER], "Quiet": True}
            )

    def _history(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Return the versions that are no longer the current ones, and the marks of deletion."""
        versions, marks = list[dict[str, str]](), list[dict[str, str]]()
        for page in self._storage.pages("list_object_versions", Prefix=self._prefix):
            for kind, of_it in (("Versions", versions), ("DeleteMarkers", marks)):
                of_it += [
                    {"Key": found["Key"], "VersionId": found["VersionId"]}
                    for found in page.get(kind, ())
                    if kind == "DeleteMarkers" or not found["IsLatest"]
                ]
        return versions, marks

    def _objects(self, at_once: int = _TOGETHER) -> Iterator[str]:
        """Yield the key of every object that is no mark, and no name of a folder that a console has made."""
        pages = self._storage.pages(
            "list_objects_v2", Prefix=self._prefix, PaginationConfig={"PageSize": at_once}
        )
        for page in pages:
            for found in page.get("Contents", ()):
                key = found["Key"]
                if not key.removeprefix(self._prefix).startswith(STUDY_MARK) and not key.endswith("/"):
                    yield key


class Withheld:
    """A commit of a DuckDB that cannot reach the bucket meanwhile; see `data_place.Committing`.

    Parameters
    ----------
    bucket : Bucket
        The bucket.
    connection : duckdb.DuckDBPyConnection
        Of a DuckDB that nobody else uses.
    """

    def __init__(self, bucket: Bucket, connection: duckdb.DuckDBPyConnection):
        self._bucket, self._connection = bucket, connection
        cursor = connection.cursor()
        # what cannot succeed need not be repeated
        cursor.execute("set global http_retries = 0")
        for name in _secrets(cursor):
            cursor.execute(f"drop secret {name}")

    def put_back(self) -> None:
        """Do nothing: the files are where they were."""

    def forget(self) -> None:
        """Let DuckDB reach the bucket again; if that fails, its next use does."""
        with suppress(duckdb.Error, OSError, WarehouseError):
            self._bucket.connect(self._connection)


def _secrets(cursor: duckdb.DuckDBPyConnection) -> set[str]:
    found = cursor.execute(
        "select name from duckdb_secrets() where starts_with(name, ?)", [_SECRET]
    ).fetchall()
    return {name for (name,) in found}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
