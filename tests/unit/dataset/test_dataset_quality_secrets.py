import base64
import hashlib
import json
import random
import string

import pytest
from luthier_dataset.quality import secrets
from luthier_dataset.quality.secrets import secrets_in

_RANDOM = random.Random(11)
_ALPHANUMERIC = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"


def _draw(length: int, alphabet: str = _ALPHANUMERIC) -> str:
    """Secrets are put together here, so that no scanner takes the tests for a leak."""
    return "".join(_RANDOM.choice(alphabet) for _ in range(length - 1)) + "7"


def _token(part: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _secrets() -> list[str]:
    upper = string.ascii_uppercase + string.digits
    jwt = ".".join([_token({"alg": "HS256"}), _token({"sub": "7"}), _token({"x": "signature"})])
    formats = [
        f"AKIA{_draw(16, upper)}", f"aws_key = '{_draw(40)}'",
        f"gh{'p'}_{_draw(36)}", f"ghs_{_draw(36)}", f"glpat-{_draw(20)}", f"glrt-{_draw(20)}",
        f"xox{'b'}-{_draw(11, string.digits)}-{_draw(24, _HEX)}", f"sk_{'live'}_{_draw(24)}",
        f"SG.{_draw(22)}.{_draw(43)}", f"AC{_draw(32, _HEX)}", f"{_draw(32, _HEX)}-us12",
        f"{_draw(9, string.digits)}:{_draw(35)}", f"M{_draw(24)}.{_draw(6)}.{_draw(27)}",
        f"pypi-AgEIcHlwaS5vcmc{_draw(80)}", f"sq0csp-{_draw(43)}", f"AccountKey={_draw(88)}",
        f"//npm.pkg.dev/:_authToken=npm_{_draw(36)}", f"-----BEGIN RSA {'PRIVATE'} KEY-----",
        f"-----BEGIN OPENSSH {'PRIVATE'} KEY-----", jwt, f"sk-{_draw(20)}T3BlbkFJ{_draw(20)}",
        f"postgres://app:{_draw(12)}@db.corp/main", f"amqp://bus:{_draw(10)}@mq:5672",
    ]  # fmt: skip
    texts = [f"The deploy script uses {one} since May." for one in formats]
    texts += [f"config:\n  region: eu\n  {one}\n  debug: false" for one in formats]
    for form in (
        "password = \"{}\"", "api_key: '{}'", "DB_PASSWORD={}", "secret => \"{}\"", "pwd: {}",
        "\"client_secret\": \"{}\"", "export API_KEY={}", "The password is: {}", "token = '{}'",
    ):  # fmt: skip
        texts += [form.format(_draw(16)), form.format(f"{_draw(5)}$!{_draw(5)}")]
    return [*texts, "password: hunter2", "The password is Sommer, all lower case."]


_UUID = "123e4567-e89b-12d3-a456-426614174000"
_LOOK_ALIKES = (
    "Your password must have at least 12 characters.", "password: required", "password: string",
    "Enter the password: it is on the label 4711.", "api_key: YOUR_API_KEY_1", "token: <token1>",
    "password = os.environ['DB_PASSWORD_1']", "secret = get_secret(\"name-1\")", "key: value1",
    "password = \"example-password-1\"", "password: ${DB_PASSWORD1}", "api_key = \"xxxx1234xxxx\"",
    "secretName: my-app-secret-1", "secretKeyRef: db-credentials-2", "password: ********",
    "tokens: 4096", "max_tokens = 131072", "token_count: 123456789012", "key_size: 2048bits",
    "keyboard layout: qwerty123", "The key: press F12 and hold it.", "primary key (id, version2)",
    "token_type: bearer", "password_hash: sha256", "passport: C01X00T47", "monkey = \"banana12\"",
    "private_key_path: /etc/ssl/private/key1.pem", f"secret_id: {_UUID}", f"api_key: {_UUID}",
    "keys = \"abcdefghijklmnopqrstuvwxyz0123456789\"",
    "ghp_short", "AKIA is the prefix of access keys.", "SG. Dynamo Dresden", "eyJust a word",
    "https://example.com/path?x=1@2", "https://user:password@host.example", "xoxo, Anna",
    "see https://medium.com/@anna/post-1234567890", "mailto:anna@posteo.de", "The secret of 1984",
    "password: see-chapter-12", "secret: projects/x/secrets/y1", "Keynote: 10:30 to 11:15",
    "Passwords are stored with bcrypt (cost 12).", "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----", "ssh-keygen -t ed25519", "token = tokenizer.encode(text1)",
)  # fmt: skip


def _look_alikes() -> list[str]:
    digests = [hashlib.sha256(bytes([seed])).hexdigest() for seed in range(10)]
    made = [f"sha256:{digest}" for digest in digests]
    made += [f"commit {digest[:40]}" for digest in digests]
    made += [
        f'"integrity": "sha512-{base64.b64encode(digest.encode()).decode()}"' for digest in digests
    ]
    made += [f'{{"key": "checksum", "value": "{digest}"}}' for digest in digests]
    return [*_LOOK_ALIKES, *made]


def test_precision_and_recall_on_the_labelled_sample_are_as_stated() -> None:
    texts, look_alikes = _secrets(), _look_alikes()
    found = sum(any(secrets_in(text)) for text in texts)
    false = [text for text in look_alikes if any(secrets_in(text))]
    precision, recall = found / (found + len(false)), found / len(texts)
    stated = " ".join((secrets.__doc__ or "").split())
    assert f"{len(texts)} secrets and {len(look_alikes)} look-alikes" in stated
    assert f"precision {precision:.2f}, recall {recall:.2f}" in stated, false


@pytest.mark.parametrize(
    ("text", "kind", "start"),
    [
        ("x = AKIA" + "QYLPMN5HHHFPZAM2", "AWS Access Key", "AKIA"),
        ("password = 'tr0ub4dor&3xyz'", "Secret Keyword", "tr0u"),
        ("redis://:pw@h and ftp://bob:" + "s3cretPw9@h", "Basic Auth Credentials", "s3cr"),
    ],
)
def test_kind_and_value_are_told(text: str, kind: str, start: str) -> None:
    assert {(found, value[:4]) for found, value in secrets_in(text)} == {(kind, start)}


def test_a_secret_in_a_line_of_megabytes_is_found_in_linear_time() -> None:
    token = "ghp" + "_" + "a1B2c3D4e5F6" * 3
    text = f"{'x' * 1_000_000} {token} {'y' * 1_000_000}"
    assert [kind for kind, _ in secrets_in(text)] == ["GitHub Token"]


@pytest.mark.parametrize("hostile", ["password: " * 100_000, "://a@" * 200_000, "eyJ" * 300_000])
def test_many_marks_take_bounded_time(hostile: str) -> None:
    assert list(secrets_in(hostile)) == []
