"""What clients of stores need: a package, an account, credentials, a region; and the one line that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fsspec.registry import _registry, known_implementations
from s3fs import S3FileSystem

from esv_ray import storage
from esv_ray.errors import DataError, EsvError, SpecError, StorageError
from esv_ray.storage.transport import answers, messages
from esv_ray.storage.transport.clients import no_account, no_java, not_installed, not_known
from tests.support.client_errors import client_error, of
from tests.support.lying_server import LyingServer, lying_server

AWS = (
    "check the credentials and permissions (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN where "
    "they are temporary, or AWS_PROFILE)"
)
URL = "s3://bucket/o/object"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingServer]:
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    with lying_server() as server:
        for name, value in {**variables, "AWS_ENDPOINT_URL": server.endpoint, "ESV_STORAGE": "tries=1"}.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield server
    S3FileSystem.clear_instance_cache()


def refusal(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>says the server</Message></Error>".encode()


def lines(url: str = URL) -> tuple[str, str]:
    """What is said of a look (HEAD) and of a write (PUT)."""
    messages = []
    for act in (lambda: storage.exists(url), lambda: storage.replace(url, b"x", "write")):
        with pytest.raises(DataError) as caught:
            act()
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, StorageError) or not caught.value.transient
        messages.append(str(caught.value))
    return messages[0], messages[1]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"])
def test_an_expired_token(code: str, server: LyingServer) -> None:
    """With 400, and to HEAD without a reason."""
    server.refusal = (400, refusal(code), {})
    look, write = lines()
    assert look.startswith(
        f"cannot look up: {URL}: [Errno 22] Bad Request, without a reason; check the credentials (AWS_"
    )
    assert "expired or malformed token" in look
    assert write.startswith(f"cannot write: access to {URL} was denied (")
    assert write.endswith(AWS)


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", ""])
@pytest.mark.parametrize("status", [401, 403])
def test_denied(status: int, code: str, server: LyingServer) -> None:
    server.refusal = (status, refusal(code) if code else b"", {})
    for line in lines():
        assert f"access to {URL} was denied (" in line
        assert line.endswith(AWS)


@pytest.mark.slow
@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")])
def test_another_region(status: int, code: str, server: LyingServer) -> None:
    server.refusal = (status, refusal(code), {"x-amz-bucket-region": "eu-west-1"})
    for line in lines():
        assert f"{URL}: the bucket is in another region (" in line
        assert line.endswith("; set AWS_DEFAULT_REGION=eu-west-1")


def test_a_clock_that_is_wrong(server: LyingServer) -> None:
    server.refusal = (403, refusal("RequestTimeTooSkewed"), {})
    assert lines()[1].endswith("was denied (says the server); set the clock of this machine")


def test_a_store_without_room_is_not_tried_again(server: LyingServer) -> None:
    server.refusal = (507, refusal("XMinioStorageFull"), {})
    assert lines()[1].endswith("; free some space")
    with pytest.raises(StorageError) as caught:
        storage.replace(URL, b"x", "write")
    assert caught.value.full


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "end"), [(405, "it does not support this request"), (307, "the endpoint and any proxy")]
)
def test_what_is_no_store(status: int, end: str, server: LyingServer) -> None:
    server.refusal = (status, refusal("MethodNotAllowed" if status == 405 else "TemporaryRedirect"), {})
    assert all(end in line for line in lines())


@pytest.mark.parametrize(
    ("status", "message"), [(401, "denied"), (403, "denied"), (400, "Bad Request"), (407, "proxy")]
)
def test_a_web_server_that_refuses_does_not_say_that_nothing_is_there(
    status: int, message: str, server: LyingServer
) -> None:
    """Its client says "not found" of every refusal; an output there would pass for an empty place."""
    url = f"{server.endpoint}/object"
    server.refusal = (status, b"", {})
    for act in (lambda: storage.exists(url), lambda: storage.read_bytes(url, "read")):
        with pytest.raises(StorageError, match=message):
            act()
    server.refusal = (404, b"", {})
    assert not storage.exists(url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "Unable to locate credentials"),
        ({"AWS_PROFILE": "nosuch"}, "The config profile (nosuch) could not be found"),
        ({"AWS_ACCESS_KEY_ID": "x"}, "missing: AWS_SECRET_ACCESS_KEY"),
        ({"AWS_CONFIG_FILE": "{broken}"}, "Unable to parse config file"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}, "'/nonexistent'"),
    ],
)
def test_no_credentials(variables: dict[str, str], message: str, tmp_path: Path) -> None:
    """One line and no log of the client's; a missing file of credentials is no missing object."""
    (tmp_path / "broken").write_text("[default")
    given = {name: value.format(broken=tmp_path / "broken") for name, value in variables.items()}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ours = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    code = (
        "from esv_ray import storage\nfrom esv_ray.errors import StorageError\n"
        "try:\n    print(storage.exists('s3://bucket/object'))\nexcept StorageError as error:\n    print(error)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, env={**plain, **ours, **given}, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.startswith("cannot look up: s3://bucket/object: ")
    assert message in done.stdout
    assert "AWS_ACCESS_KEY_ID" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("gs://b/k", of("google.auth.exceptions", "DefaultCredentialsError"), "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://b/k", of("gcsfs.retry", "HttpError", code=401), "GOOGLE_APPLICATION_CREDENTIALS"),
        ("abfs://c/k", of("azure.core.exceptions", "ClientAuthenticationError", status_code=401), "AZURE_STORAGE_ACC"),
        ("abfs://c/k", of("azure.core.exceptions", "HttpResponseError", status_code=400,
                          error_code="InvalidAuthenticationInfo"), "AZURE_STORAGE_ACCOUNT_NAME"),
        ("s3://b/k", client_error(400, "ExpiredToken"), "AWS_SESSION_TOKEN"),
    ],
)  # fmt: skip
def test_other_stores_name_their_variables(url: str, error: Exception, message: str) -> None:
    assert not answers.is_transient(error)
    line = messages.data_error(url, "read", error, 1, 0.0)
    assert isinstance(line, StorageError)
    assert message in str(line)


@pytest.mark.parametrize(
    ("url", "package", "command"),
    [
        ("gs://b/k", "gcsfs", "pip install gcsfs"),
        ("abfs://c/k", "adlfs", "pip install adlfs"),
        ("az://c/k", "adlfs", "pip install adlfs"),
        ("gcs://b/k", "gcsfs", "pip install gcsfs"),
        ("oci://b/k", "ocifs", "pip install ocifs"),
        ("tos://b/k", "tosfs", "pip install tosfs"),
        ("lakefs://r/b/k", "lakefs_spec", "pip install lakefs-spec"),
        ("root://h/k", "fsspec_xrootd", "pip install fsspec-xrootd"),
        ("libarchive://k::/nowhere.7z", "libarchive", "pip install libarchive-c"),
        ("simplecache::tosfs://b/k", "tosfs", "pip install tosfs"),
        ("hf://datasets/a/b", "huggingface_hub", "pip install huggingface_hub"),
        ("oss://b/k", "ossfs", "pip install ossfs"),
        ("sftp://h/k", "paramiko", "pip install paramiko"),
        ("smb://h/s/k", "smbclient", "pip install smbprotocol"),
        ("webdav://h/k", "webdav4", "pip install webdav4"),
        ("simplecache::gs://b/k", "gcsfs", "pip install gcsfs"),
    ],
)
def test_a_package_that_is_missing(url: str, package: str, command: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(SpecError) as caught:
        storage.exists(url)
    assert f"is not installed (No module named '{package}'); {command}, on every machine" in str(caught.value)


@pytest.mark.parametrize("protocol", sorted(known_implementations))
def test_every_protocol_that_fsspec_knows_has_packages_to_install(protocol: str) -> None:
    """Whose client is no part of fsspec, or says that it needs more."""
    of = known_implementations[protocol]
    if of["class"].startswith("fsspec.") and ("err" not in of or protocol in ("hdfs", "arrow_hdfs")):
        return
    message = str(not_known(f"{protocol}://b/k") or not_installed(f"{protocol}://b/k", ImportError("No module")))
    assert "; pip install " in message or "; use az:// or abfss://" in message


@pytest.mark.parametrize(
    ("url", "package", "command"),
    [
        ("abfss://c@account.dfs.core.windows.net/k", "adlfs", "pip install adlfs"),
        ("simplecache::abfss://c/k", "adlfs", "pip install adlfs"),
        ("dav://h/k", "webdav4", "pip install webdav4"),
    ],
)
def test_a_protocol_that_a_client_registers_when_it_is_installed(url: str, package: str, command: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(SpecError) as caught:
        storage.exists(url)
    assert str(caught.value).endswith(f":// locations is not installed; {command}, on every machine of the job")


@pytest.mark.parametrize(
    ("url", "use"),
    [
        ("adl://c/k", "use az:// or abfss://, since"),
        ("wasbs://c@account.blob.core.windows.net/k", "use abfss://"),
        ("s3n://b/k", "use s3://"),
        ("r2://b/k", "use s3://, with AWS_ENDPOINT_URL"),
        ("S3://b/k", "use s3://"),
        ("gss://b/k", "use gs://"),
        ("simplecache::s3n://b/k", "use s3://"),
        ("zz://x", "check its spelling"),
    ],
)
def test_a_protocol_without_a_client(url: str, use: str) -> None:
    with pytest.raises(SpecError) as caught:
        storage.exists(url)
    protocol = url.split("::")[-1].partition(":")[0]
    assert f"{url}: expected a path or an fsspec URL" in str(caught.value)
    assert f"got {protocol}://, which no client serves; {use}" in str(caught.value)


def test_a_protocol_that_somebody_registered_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_registry, "r2", S3FileSystem)
    assert not_known("r2://b/k") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fsspec's, of arrow_hdfs
@pytest.mark.parametrize("protocol", ["hdfs", "arrow_hdfs"])
@pytest.mark.parametrize(
    ("library", "variables"), [("libjvm", "JAVA_HOME"), ("libhdfs", "HADOOP_HOME or ARROW_LIBHDFS_DIR")]
)
def test_hadoop_without_its_libraries(
    protocol: str, library: str, variables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pyarrow tells of them, in a text of many lines."""

    def load(*_: object, **__: object) -> None:
        raise OSError(f"Unable to load {library}\ndlopen(/usr/lib/x.so) failed: cannot open shared object file")

    monkeypatch.setattr("pyarrow.fs.HadoopFileSystem", load)
    url = f"{protocol}://nowhere/k"
    with pytest.raises(SpecError) as caught:
        storage.exists(url)
    message = str(caught.value)
    assert message.startswith(f"{url}: expected Java and Hadoop")
    assert f"found no {library}; on every machine of the job set {variables}, and CLASSPATH" in message
    assert message.endswith("or use webhdfs://, which needs neither")
    assert "dlopen" not in message
    assert no_java(url, OSError("another")) is None


def test_a_server_that_does_not_answer_while_its_client_connects() -> None:
    """Its protocol is none the worse for that."""
    with pytest.raises(
        StorageError, match=r"^cannot open: ftp://127\.0\.0\.1:9/k: .*refused.*check the endpoint"
    ) as caught:
        storage.exists("ftp://127.0.0.1:9/k")
    assert caught.value.transient


def test_names_of_one_store_are_one_kind() -> None:
    """A run.json names locations that are followed where they are of the output's kind of store."""
    for names in (("s3", "s3a"), ("gs", "gcs"), ("abfs", "abfss", "az")):
        assert len({storage.protocol_of(f"{name}://b/k") for name in names}) == 1
    kinds = ("s3", "gs", "az", "oss", "http", "https", "hdfs", "memory", "file")
    assert len({storage.protocol_of(f"{kind}://b/k") for kind in kinds}) == len(kinds)
    for url in ("gcs://", "oci://", "abfss:///k"):
        with pytest.raises(SpecError, match="an empty part"):
            storage.exists(url)


def test_a_package_of_s3_that_is_missing() -> None:
    message = str(not_installed("s3://b/k", ModuleNotFoundError("No module named 'aiobotocore'")))
    assert message.endswith("(No module named 'aiobotocore'); pip install s3fs, on every machine of the job")


def test_azure_without_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ValueError(  # of adlfs
        "unable to connect to account for Must provide either a connection_string or account_name with credentials!!"
    )
    error_: EsvError | None = no_account("abfs://c/k", error)
    assert error_ is not None
    assert "found none or a malformed one; set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY" in str(error_)
    assert no_account("abfs://c/k", ValueError("another")) is None
    if find_spec("adlfs") is not None:
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            monkeypatch.delenv(name)
        with pytest.raises(SpecError, match="AZURE_STORAGE_ACCOUNT_NAME"):
            storage.exists("abfs://c/k")
