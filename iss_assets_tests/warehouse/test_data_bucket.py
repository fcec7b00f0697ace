"""A shared warehouse whose data are in a bucket, on a server of object storage that runs in the tests."""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import certifi
import duckdb
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from iss_assets.cli.doctor import _home as look_at_home
from iss_assets.schemas.modeling import CvSplits
from iss_assets.settings import Settings, WarehouseSettings
from iss_assets.warehouse import lake, object_storage
from iss_assets.warehouse.data_bucket import Bucket
from iss_assets.warehouse.database import Warehouse, WarehouseError
from iss_assets.warehouse.engine import DATABASE, encryption_library
from iss_assets.warehouse.errors import WarehouseAway
from iss_assets.warehouse.lake_erasure import erase
from iss_assets.warehouse.lake_store import LakeStore
from iss_assets.warehouse.lake_study import AnotherStudy, LakeStudy
from iss_assets.warehouse.maintenance import maintain
from iss_assets_tests.lakes import PREFIX, data_files, names, stop_engines, unnamed_files
from iss_assets_tests.proxy import proxy_to
from iss_assets_tests.s3_server import ENVIRONMENT, S3Server
from iss_assets_tests.warehouse.test_database import splits

SETTING = "ISS_WAREHOUSE__DATA_PATH"
MARKER = "quokka-marker-4711"
ALL_VERSIONS = {"method": "GET", "text": "versions"}

pytestmark = pytest.mark.parametrize("data_place", ["bucket"], indirect=True)


@pytest.fixture
def fresh_client() -> Iterator[None]:
    """Credentials and settings of this test's own."""
    object_storage.look_again()
    yield
    object_storage.look_again()


def bucket_of(warehouse: Warehouse) -> str:
    return str(warehouse.settings.data_path).split("/")[2]


def place_of_data(warehouse: Warehouse) -> Bucket:
    assert isinstance(warehouse.store, LakeStore) and isinstance(warehouse.store.place, Bucket)
    return warehouse.store.place


def elsewhere(warehouse: Warehouse, **changed: object) -> Warehouse:
    """Return the warehouse with other settings, as another process sees it."""
    stop_engines()
    return Warehouse(warehouse.path, warehouse.settings.model_copy(update=changed))


def told(warehouse: Warehouse, *, write: bool = False) -> str:
    """Return the error of whoever uses it, which quotes no address and no credentials."""
    with pytest.raises(WarehouseAway, match=SETTING) as error:
        if write:
            warehouse.replace(CvSplits, splits("new", 3), {})
        else:
            names(warehouse)
    text = str(error.value)
    secrets = (str(warehouse.settings.data_path), bucket_of(warehouse), "127.0.0.1", *ENVIRONMENT.values())
    assert not [secret for secret in secrets if len(secret) > 4 and secret in text], text
    assert "\n" not in text
    return text


def everything_kept(s3: S3Server, bucket: str) -> list[bytes]:
    """Return the bytes of every version of every object, of what can be listed only as versions, and of marks of deletion."""
    found = s3.client.list_object_versions(Bucket=bucket)
    bodies = [
        s3.client.get_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])["Body"].read()
        for one in found.get("Versions", ())
    ]
    return [*bodies, *(b"deleted" for _ in found.get("DeleteMarkers", ()))]


def mark_and_delete(warehouse: Warehouse) -> None:
    """Write a row with a text unlike all others, and delete it."""
    warehouse.replace(CvSplits, splits(MARKER, 1, split=5), {"split": 5})
    with warehouse.write() as writer:
        writer.execute("delete from cv_splits where split = 5")


def test_what_a_write_asks_the_server_for(tables: Warehouse, s3: S3Server) -> None:
    s3.requests()
    tables.replace(CvSplits, splits("new", 3), {})
    asked = [request.partition(" ")[0] for request in s3.requests()]
    # whether the bucket is the right one, what is replaced, and the new file; nothing for the commit
    assert asked.count("PUT") == 1 and asked.count("DELETE") == 0 and len(asked) <= 4, asked


def test_whoever_commits_has_a_duckdb_of_its_own(tables: Warehouse) -> None:
    # during a commit it reaches no file, and nobody may give it access again or read with it
    one, two, reader = (tables.store.open(read_only=read_only) for read_only in (False, False, True))
    assert isinstance(tables.store, LakeStore)
    databases = {id(opened._engine.connection) for opened in (one, two, reader)}  # type: ignore[attr-defined]
    assert len(databases) == 3
    for opened in (one, two, reader):
        opened.close()
    assert len(lake._spare) == 1 and not lake._lent


def test_a_wrong_bucket_or_prefix_is_neither_read_nor_written(tables: Warehouse, s3: S3Server) -> None:
    empty = s3.new_bucket()
    missing = elsewhere(tables, data_path="s3://no-such-bucket-here/iss/")
    with pytest.raises(WarehouseError, match="does not match existing data path"):
        names(missing)
    with pytest.raises(WarehouseError):
        missing.replace(CvSplits, splits("new", 3), {})
    # the same address, and nothing there: another endpoint, or a bucket that was made anew
    client, bucket = s3.client, bucket_of(tables)
    objects = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    bodies = {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects}
    for key in objects:
        client.delete_object(Bucket=bucket, Key=key)
    stop_engines()
    for write in (False, True):
        assert "is it the right bucket and prefix" in told(tables, write=write)
    client.delete_bucket(Bucket=bucket)
    stop_engines()
    for write in (False, True):
        assert "there is no such bucket" in told(tables, write=write)
    client.create_bucket(Bucket=bucket)
    for key, body in bodies.items():
        client.put_object(Bucket=bucket, Key=key, Body=body)
    assert names(tables) == ["old-0", "old-1"]
    assert "Contents" not in client.list_objects_v2(Bucket=empty)


def test_credentials_that_are_wrong_are_told_and_nothing_is_written(tables: Warehouse, s3: S3Server) -> None:
    everything = {"method": "*", "text": bucket_of(tables), "code": "InvalidAccessKeyId"}
    s3.refuse(everything)
    stop_engines()
    for write in (False, True):
        assert "its credentials are not valid (InvalidAccessKeyId)" in told(tables, write=write)
    # credentials that were valid until now
    s3.refuse()
    assert names(tables) == ["old-0", "old-1"]
    s3.refuse(everything)
    assert "its credentials are not valid" in told(tables, write=True)
    # only the right to write is missing
    s3.refuse({**everything, "method": "PUT", "code": "AccessDenied"})
    assert "nothing was written" in told(tables, write=True)
    s3.refuse()
    assert names(tables) == ["old-0", "old-1"]
    tables.replace(CvSplits, splits("new", 3), {})
    assert names(tables) == ["new-0", "new-1", "new-2"]


@pytest.mark.parametrize(
    ("code", "says", "lasting"),
    [
        ("AccessDenied", r"lack a right \(ListObjectsV2\)", True),
        ("ExpiredToken", "credentials have expired", False),
        ("NoSuchBucket", "there is no such bucket", False),
        ("NotImplemented", "it answers NotImplemented to ListObjectsV2", True),
        ("PermanentRedirect", "another region: AWS_REGION", False),
        ("RequestTimeTooSkewed", "clock of this host", False),
        ("SignatureDoesNotMatch", "credentials are not valid", False),
        ("Odd/Code", "it answers OddCode to", False),
    ],
)
def test_what_the_server_refuses_is_told_in_a_persons_words(
    data_place: tuple[S3Server, str], code: str, says: str, lasting: bool
) -> None:
    server, bucket = data_place
    server.refuse({"method": "GET", "text": bucket, "code": code, "status": "400"})
    with pytest.raises(object_storage.StorageProblem, match=says) as error:
        object_storage.ObjectStorage(bucket, plain_http=False).call("list_objects_v2")
    assert error.value.lasting == lasting


@pytest.mark.usefixtures("fresh_client")
def test_credentials_come_from_where_aws_looks_for_them_and_new_ones_are_used(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    access = place_of_data(tables)._storage.access()
    assert (access.key_id, access.secret) == ("key-of-tests", "secret-of-tests")
    assert (access.token, access.region, access.in_path) == ("", "eu-central-1", True)
    assert not access.tls and "secret-of-tests" not in repr(access)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    object_storage.look_again()
    for use in (lambda: names(tables), lambda: tables.replace(CvSplits, splits("new", 3), {})):
        with pytest.raises(WarehouseAway, match="no credentials were found"):
            use()
    file = tmp_path / "credentials"
    file.write_text("[lake]\naws_access_key_id = other\naws_secret_access_key = s\naws_session_token = t\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "lake")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    object_storage.look_again()
    # the DuckDB that runs since before is given them, too
    with tables.read() as connection:
        (given,) = connection.execute(
            "select secret_string from duckdb_secrets() where name like 'iss_data%'"
        ).fetchall()
    assert "key_id=other" in given[0] and "session_token=redacted" in given[0]
    tables.replace(CvSplits, splits("new", 3), {})
    assert names(tables) == ["new-0", "new-1", "new-2"]


@pytest.mark.usefixtures("fresh_client")
@pytest.mark.parametrize(
    ("bucket", "variables", "endpoint", "in_path"),
    [
        ("clinic", {"AWS_REGION": "eu-central-1"}, "s3.eu-central-1.amazonaws.com", False),
        ("my.clinic", {"AWS_DEFAULT_REGION": "eu-west-1"}, "s3.eu-west-1.amazonaws.com", True),
        ("clinic", {"AWS_ENDPOINT_URL_S3": "https://s3.clinic.example:9000"}, "s3.clinic.example:9000", True),
    ],
)
def test_duckdb_is_given_the_address_that_aws_or_another_server_has(
    monkeypatch: pytest.MonkeyPatch,
    bucket: str,
    variables: dict[str, str],
    endpoint: str,
    in_path: bool,
    data_place: object,
) -> None:
    for name in ("AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    access = object_storage.ObjectStorage(bucket, plain_http=False).access()
    assert (access.endpoint, access.in_path, access.tls) == (endpoint, in_path, True)
    assert Path(access.authorities).is_file()


@pytest.mark.usefixtures("fresh_client")
def test_plain_http_is_for_this_machine_unless_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, data_place: object
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.clinic.example:9000")
    with pytest.raises(OSError, match=r"plain http.*ISS_WAREHOUSE__PLAIN_HTTP"):
        object_storage.ObjectStorage("clinic", plain_http=False).call("list_objects_v2")
    assert not object_storage.ObjectStorage("clinic", plain_http=True).access().tls


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Run a server whose certificate nobody knows; yield its address, the certificate, and the requests that it has seen."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]),
    )
    now, day = datetime.now(UTC), timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append(self.command)
            self.send_error(404)

        do_GET = do_HEAD = _answer

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}", certificate, seen
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("fresh_client")
def test_certificates_are_checked_by_whoever_sends_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_place: object
) -> None:
    monkeypatch.setattr("iss_assets.warehouse.data_bucket._RETRIES", 0)
    monkeypatch.setattr(object_storage, "_TIMES", 1)
    bucket = Bucket("s3://clinic/iss/", plain_http=False)

    def refused() -> list[str]:
        object_storage.look_again()
        duck = duckdb.connect(config={"allow_unsigned_extensions": True})
        duck.execute(f"load '{encryption_library()}'")
        bucket.connect(duck)
        with pytest.raises(duckdb.Error) as by_duckdb:
            # a cursor is what readers and writers have
            duck.cursor().execute("from read_blob('s3://clinic/iss/x')")
        with pytest.raises(object_storage.StorageProblem) as by_boto3:
            bucket.has_entries()
        duck.close()
        return [str(by_duckdb.value), str(by_boto3.value.strerror)]

    with tls_server(tmp_path) as (address, certificate, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setenv("AWS_CA_BUNDLE", certifi.where())
        by_duckdb, by_boto3 = refused()
        assert "SSL" in by_duckdb and "its certificate is not trusted" in by_boto3
        assert seen == []
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        by_duckdb, by_boto3 = refused()
        assert "404" in by_duckdb and "404" in by_boto3
        assert seen


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:secret@bucket/iss",
        "s3://bucket/../other",
        "s3://bucket/i*s",
        "s3://Bucket/iss",
        "s3://bucket//iss",
        "s3:///iss",
        "gs://bucket/iss",
        "https://host/bucket/iss",
    ],
)
def test_other_addresses_are_refused_and_not_repeated(address: str, data_place: object) -> None:
    with pytest.raises(ValidationError, match="s3://bucket/prefix") as refused:
        WarehouseSettings(catalog="postgres:host=db dbname=iss", data_path=address)
    assert "key:secret" not in str(refused.value)


def test_a_typed_query_reaches_the_tables_and_a_connection_no_other_address(
    tables: Warehouse, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = s3.new_bucket()
    s3.client.put_object(Bucket=other, Key="x", Body=b"a\n1\n")
    s3.client.put_object(Bucket=bucket_of(tables), Key="beside/x", Body=b"a\n1\n")
    address = f"127.0.0.1:{s3.port}"
    for query in (
        f"select * from read_csv('s3://{other}/x')",
        f"select * from read_csv('{tables.settings.data_path}main/cv_splits/*.parquet')",
        f"copy cv_splits to 's3://{other}/stolen.csv'",
        f"select * from read_text('http://{address}/{other}/x')",
        "select * from duckdb_secrets()",
        "select * from which_secret('s3://x', 's3')",
        "create secret (type s3, key_id 'a', secret 'b')",
        f"select * from 's3://{other}/x'",
    ):
        with pytest.raises(Exception, match=r"cannot be used here|one SELECT is wanted|Only SELECT"):
            tables.answer(query)
    assert tables.answer("select count(*) n from cv_splits")["n"].to_pylist() == [2]
    # behind the parser, DuckDB itself refuses as well
    store = tables.store
    opened = store.open_for("select 1")
    for path in (f"s3://{other}/x", f"s3://{bucket_of(tables)}/beside/x", f"http://{address}/{other}/x"):
        with pytest.raises(Exception, match=r"Permission Error"):
            opened.connection.execute(f"select * from read_csv('{path}')")
    opened.close()
    s3.requests()
    with tables.read() as connection:
        connection.execute("set http_retries = 0")
        for path in (f"s3://{other}/x", f"s3a://{other}/x", f"http://{address}/{other}/x"):
            with pytest.raises(Exception, match=r"Could not connect|disabled by configuration"):
                connection.execute(f"select * from read_csv('{path}')")
    assert not [request for request in s3.requests() if other in request]


def test_secrets_that_somebody_keeps_for_other_work_are_not_used(
    tables: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with duckdb.connect() as other:
        other.execute(f"load '{lake.extension('httpfs')}'")
        # closer to the data than the bucket's own
        scope = f"{tables.settings.data_path}main/"
        other.execute(f"create persistent secret kept (type s3, key_id 'x', secret 'x', scope '{scope}')")
    with lake.start(tables.settings) as connection:
        secrets = connection.execute("select name from duckdb_secrets()").fetchall()
        assert ("kept",) not in secrets and len(secrets) > 1
        assert connection.execute(f"select count(*) from {DATABASE}.cv_splits").fetchall() == [(2,)]


def test_one_study_for_each_place(tables: Warehouse, s3: S3Server) -> None:
    study = LakeStudy(tables.settings)
    study.mark_data("one")
    study.mark_data("one")
    assert place_of_data(tables).marks() == {".study-one"}
    with pytest.raises(AnotherStudy, match=f"{SETTING}, is of another study"):
        study.mark_data("two")
    # the mark is no file of a table: it stays, and counts as nothing
    maintain(tables, timedelta(0))
    assert erase(tables) == []
    assert place_of_data(tables).marks() == {".study-one"}
    assert unnamed_files(tables) == []


def test_what_a_killed_writer_has_left_is_removed(tables: Warehouse, s3: S3Server) -> None:
    client, bucket, key = s3.client, bucket_of(tables), f"{PREFIX}/main/cv_splits/stray.parquet"
    client.put_object(Bucket=bucket, Key=key, Body=b"x")
    client.create_multipart_upload(Bucket=bucket, Key=key)
    beside = client.create_multipart_upload(Bucket=bucket, Key="beside")
    assert maintain(tables).orphans == 0
    assert unnamed_files(tables) == [f"s3://{bucket}/{key}"]
    assert maintain(tables, timedelta(0)).orphans == 1
    assert unnamed_files(tables) == [] and names(tables) == ["old-0", "old-1"]
    (left,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert left["UploadId"] == beside["UploadId"]


def test_an_upload_that_may_still_go_on_is_left_alone_by_maintenance(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, now = place_of_data(tables), datetime.now(UTC)
    # moto says of every upload that it was begun in 2010
    begun = [
        {"Key": f"{PREFIX}/{hours}", "UploadId": str(hours), "Initiated": now - timedelta(hours=hours)}
        for hours in (1, 23, 25)
    ]
    gone: list[object] = []
    monkeypatch.setattr(place._storage, "pages", lambda *_, **__: iter([{"Uploads": begun}]))
    monkeypatch.setattr(place, "_give_up", lambda upload: gone.append(upload["UploadId"]))
    assert place.tidy(timedelta(days=1).total_seconds()) == []
    assert gone == ["25"]


def versioned(tables: Warehouse, s3: S3Server) -> str:
    bucket = bucket_of(tables)
    s3.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def test_an_erasure_leaves_no_byte_in_any_version_and_no_unfinished_upload(
    tables: Warehouse, s3: S3Server
) -> None:
    bucket = versioned(tables, s3)
    mark_and_delete(tables)
    s3.client.create_multipart_upload(Bucket=bucket, Key=f"{PREFIX}/main/cv_splits/begun.parquet")
    s3.client.put_object(Bucket=bucket, Key="beside", Body=MARKER.encode())
    s3.client.put_object(Bucket=bucket, Key="beside", Body=b"another program's")
    assert any(MARKER.encode() in body for body in everything_kept(s3, bucket)[:-2])
    assert erase(tables) == []
    kept = everything_kept(s3, bucket)
    # another program's object keeps its versions
    assert sum(MARKER.encode() in body for body in kept) == 1
    assert len(kept) == len(data_files(tables)) + 2
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=bucket)
    assert names(tables) == ["old-0", "old-1"]


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        (ALL_VERSIONS, "s3:ListBucketVersions"),
        ({"method": "GET", "text": "uploads"}, "s3:ListBucketMultipartUploads"),
    ],
)
def test_an_erasure_without_a_right_says_which_one_and_is_completed_with_it(
    tables: Warehouse, s3: S3Server, rule: dict[str, str], right: str
) -> None:
    bucket = versioned(tables, s3)
    mark_and_delete(tables)
    s3.refuse({**rule, "code": "AccessDenied"})
    (left,) = erase(tables)
    assert right in left and bucket not in left
    s3.refuse()
    assert erase(tables) == []
    assert not any(MARKER.encode() in body for body in everything_kept(s3, bucket))


def test_an_erasure_that_fails_for_another_reason_is_repeated(tables: Warehouse, s3: S3Server) -> None:
    versioned(tables, s3)
    mark_and_delete(tables)
    s3.refuse({**ALL_VERSIONS, "code": "InternalError", "status": "400"})
    with pytest.raises(WarehouseAway, match=r"answers InternalError.*repeat the command"):
        erase(tables)
    s3.refuse()
    assert erase(tables) == []


def test_versions_that_object_lock_holds_are_told_and_do_not_come_back(
    tables: Warehouse, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = versioned(tables, s3)
    mark_and_delete(tables)
    place = place_of_data(tables)
    remove = place._remove

    def all_but_one(objects: list[dict[str, str]]) -> None:
        """As a server does that holds one of them; moto removes it all the same when several are named."""
        held = min(one["Key"] for one in objects) if objects else ""
        remove([one for one in objects if one["Key"] != held])

    with monkeypatch.context() as patch:
        patch.setattr(place, "_remove", all_but_one)
        (left,) = erase(tables)
    assert left.startswith("2 older versions of objects") and "Object Lock" in left
    assert unnamed_files(tables) == [] and names(tables) == ["old-0", "old-1"]
    assert erase(tables) == []
    assert not any(MARKER.encode() in body for body in everything_kept(s3, bucket))


@pytest.mark.usefixtures("fresh_client")
def test_a_server_that_is_away_for_a_while_delays_and_loses_nothing(
    tables: Warehouse, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_engines()
    with proxy_to(s3.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        object_storage.look_again()
        tables.replace(CvSplits, splits("first", 2), {})
        proxy.hold()
        proxy.cut()
        threading.Timer(2, proxy.resume).start()
        tables.replace(CvSplits, splits("second", 3), {})
        assert names(tables) == ["second-0", "second-1", "second-2"]
        # and one that stays away
        monkeypatch.setattr("iss_assets.warehouse.data_bucket._RETRIES", 0)
        monkeypatch.setattr(object_storage, "_TIMES", 1)
        object_storage.look_again()
        stop_engines()
        with pytest.raises(WarehouseAway, match=SETTING), tables.write() as writer:
            proxy.close()
            writer.replace(CvSplits, splits("third", 3), {})
    stop_engines()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{s3.port}")
    object_storage.look_again()
    assert names(tables) == ["second-0", "second-1", "second-2"]


def test_iss_doctor_says_whether_the_bucket_can_be_written_to_and_leaves_nothing_in_it(
    tables: Warehouse, s3: S3Server
) -> None:
    settings = Settings(home=tables.path.parent, warehouse=tables.settings)
    bucket = versioned(tables, s3)
    before = len(everything_kept(s3, bucket))

    def found() -> list[tuple[str, str]]:
        return [(f.state, f.text) for f in look_at_home(settings) if f.subject == "bucket"]

    assert found() == [("ok", "it answers and can be written to")]
    assert len(everything_kept(s3, bucket)) == before
    tables.require_room()
    s3.refuse({"method": "POST", "text": "uploads", "code": "AccessDenied"})
    ((state, text),) = found()
    assert state == "fail" and "lack a right (CreateMultipartUpload)" in text
    with pytest.raises(WarehouseAway, match="lack a right"):
        tables.require_room()
    s3.refuse()


def test_a_missing_package_names_the_command_that_installs_it(
    tables: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_engines()
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(WarehouseError, match=r"boto3.*iss-assets\[cluster,s3\]"):
        names(tables)
