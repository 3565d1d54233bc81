"""An S3 endpoint for tests: moto with signatures checked, or the one in the environment."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3

# moto lets this many calls in unsigned: the three that make the user.
_UNSIGNED_CALLS = "3"
_POLICY = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
)


@dataclass(frozen=True)
class S3Server:
    """Where it is and how to get in."""

    endpoint: str
    """`http://host:port`."""
    access_key: str
    secret_key: str

    def url(self, bucket: str) -> str:
        """The address for `open_object_store`."""
        return f"s3+{self.endpoint}/{bucket}"


@contextmanager
def s3_server(folder: Path, *, presigned: bool = False) -> Iterator[S3Server]:
    """Yield LUTHIER_TEST_S3_ENDPOINT if set, else a moto server that ends with the test.

    Where moto checks signatures it fails on presigned URLs, so it checks none for those.
    """
    endpoint = os.environ.get("LUTHIER_TEST_S3_ENDPOINT")
    if endpoint:
        key = os.environ["LUTHIER_TEST_S3_ACCESS_KEY"]
        yield S3Server(endpoint, key, os.environ["LUTHIER_TEST_S3_SECRET_KEY"])
        return
    with _moto(folder, check=not presigned) as endpoint:
        yield _with_user(endpoint)


@contextmanager
def _moto(folder: Path, *, check: bool) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    unsigned = {"INITIAL_NO_AUTH_ACTION_COUNT": _UNSIGNED_CALLS} if check else {}
    environment = {**os.environ, **unsigned}
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(endpoint, process)
        yield endpoint
    finally:
        process.terminate()
        process.wait(timeout=10)


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(endpoint: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
        except urllib.error.HTTPError:
            return  # an answer, if not a page
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"moto did not start: exit code {process.poll()}")


def _with_user(endpoint: str) -> S3Server:
    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="unchecked",
        aws_secret_access_key="unchecked",
    )
    iam.create_user(UserName="luthier")
    key = iam.create_access_key(UserName="luthier")["AccessKey"]
    iam.put_user_policy(UserName="luthier", PolicyName="all", PolicyDocument=_POLICY)
    return S3Server(endpoint, key["AccessKeyId"], key["SecretAccessKey"])
