"""Passwords, keys and tokens in a text, found by the detectors of detect-secrets 1.5.

Its detectors are made for single lines of code and take seconds a megabyte. Here one pass looks
for marks that every secret of theirs has, and only the lines with one are shown to them; nothing
is ever verified over the network. Detectors of formats (`ghp_…`, `AKIA…`) are taken at their word.
Passwords and high entropy are believed only right behind a word such as `password` or `api_key`,
and if they look like neither a word, a path nor a placeholder: documentation is full of those.

On the labelled sample of the tests, 66 secrets and 88 look-alikes: precision 1.00, recall 0.91;
missed are short tokens and passwords told in prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from string import ascii_letters, digits

from detect_secrets.filters.heuristic import is_potential_uuid, is_sequential_string
from detect_secrets.plugins.artifactory import ArtifactoryDetector
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.cloudant import CloudantDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.high_entropy_strings import (
    Base64HighEntropyString,
    HexHighEntropyString,
)
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.keyword import (
    CONFIG_DENYLIST_REGEX_TO_GROUP,
    QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP,
    KeywordDetector,
)
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.softlayer import SoftlayerDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

_FORMATS: tuple[RegexBasedDetector, ...] = (
    ArtifactoryDetector(), AWSKeyDetector(), AzureStorageKeyDetector(), BasicAuthDetector(),
    CloudantDetector(), DiscordBotTokenDetector(), GitHubTokenDetector(), GitLabTokenDetector(),
    JwtTokenDetector(), MailchimpDetector(), NpmDetector(), OpenAIDetector(),
    PrivateKeyDetector(), PypiTokenDetector(), SendGridDetector(), SlackDetector(),
    SoftlayerDetector(), SquareOAuthDetector(), StripeDetector(), TelegramBotTokenDetector(),
    TwilioKeyDetector(),
)  # fmt: skip
_LITERALS = (
    "AKC", "A3T", "ABIA", "ACCA", "AKIA", "ASIA", "AccountKey=", "ghp_", "gho_", "ghu_", "ghs_",
    "ghr_", "glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "GR1348941", "glcbt-", "glimt-",
    "glptt-", "glagent-", "gloas-", "eyJ", "_authToken", "T3BlbkFJ", "PRIVATE KEY", "pypi-AgE",
    "SG.", "xox", "hooks.slack.com", "softlayer", "cloudant", "sq0csp-", "k_live_",
)  # fmt: skip
_SHAPES = (
    r"://[^\s/@]+@",
    r"[0-9a-z]-us\d",
    r"(?:AC|SK)[a-z0-9]{32}",
    r"\d{8}:[0-9A-Za-z_-]{35}",
    r"[MNO][\w-]{23,25}\.[\w-]{6}\.",
)
_SHAPED = tuple(map(re.compile, _SHAPES))
_MARKED = re.compile("|".join([*map(re.escape, _LITERALS), *_SHAPES]))
"""Where a detector of formats may find something. One search for all takes far longer than one
for each, so it is made only in texts that have any."""
_KEYWORDS = ("pass", "pwd", "secret", "token", "key")
_ASSIGNED = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|key)(\w{0,16})['\"]?\]?\s{0,3}[:=(]\s*"
"""A word for a secret that is given a value; what the word ends in says what the value is."""
_IN_LOWER_CASE = re.compile(_ASSIGNED)
_ASSIGNMENT = re.compile(_ASSIGNED, re.IGNORECASE)
_NOT_ITSELF = re.compile(
    r"(?:name|ref|id|path|file|url|uri|type|length|len|size|policy|field|hash|version|arn|count|s)$",
    re.IGNORECASE,
)
_KEYWORD = KeywordDetector()
_ASSIGNMENTS = {**CONFIG_DENYLIST_REGEX_TO_GROUP, **QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP}
_PREFIX = 24
_WORD_CHARS = f"{ascii_letters}{digits}_-"
_ENTROPY = (HexHighEntropyString(limit=3.0), Base64HighEntropyString(limit=4.5))
_MADE_UP = re.compile(
    r"example|sample|dummy|placeholder|change.?me|redacted|your|xxx|\*\*|\.\.\.|…"
    r"|[<>{}()\[\]\\]|\$[A-Z_]{3}|%[sdv]",
    re.IGNORECASE,
)
_SLUG = re.compile(r"[A-Za-z]+(?:[-_./:][A-Za-z]+)*[-_./:]v?\d{1,4}|[a-z]+(?:[-_./:][a-z0-9]+)+")
_STOCK = frozenset(("pass", "password", "passwd", "pwd", "secret", "user", "token", "test"))
_REACH = 200
"""Characters looked at on each side of a mark; lines of data may be megabytes long."""
_MOST = 200
"""Marks looked at in a text."""


def secrets_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield kind and value of secrets in a text, some of them twice.

    Its first 200 marks of formats are looked at, and the first 200 words that announce a secret.
    """
    literal = any(mark in text for mark in _LITERALS)
    if literal or any(shape.search(text) for shape in _SHAPED):
        yield from _formatted(text)
    lowered = text.lower()
    if any(word in lowered for word in _KEYWORDS) and _IN_LOWER_CASE.search(lowered):
        yield from _assigned(text)


def _formatted(text: str) -> Iterator[tuple[str, str]]:
    """Secrets that their own format gives away."""
    done = 0
    for mark in islice(_MARKED.finditer(text), _MOST):
        if mark.start() < done:
            continue
        line = _line_around(text, mark.start(), mark.end())
        done = text.find("\n", mark.end(), mark.end() + _REACH)
        for detector in _FORMATS:
            for value in detector.analyze_string(line):
                if not _MADE_UP.search(value) and value.casefold() not in _STOCK:
                    yield detector.secret_type, value


def _assigned(text: str) -> Iterator[tuple[str, str]]:
    """Secrets that stand behind a word that announces one."""
    for mark in islice(_ASSIGNMENT.finditer(text), _MOST):
        if _NOT_ITSELF.search(mark[1]):
            continue
        # The detector wants the word whole, as in `client_secret`.
        before = text[max(mark.start() - _PREFIX, 0) : mark.start()]
        begin = mark.start() - len(before) + len(before.rstrip(_WORD_CHARS))
        line = text[begin : mark.end() + _REACH].partition("\n")[0]
        for value in _KEYWORD.analyze_string(line, _ASSIGNMENTS):
            word = (value.split() or [""])[0].strip("\"'`,;.")
            if _is_strong(word):
                yield _KEYWORD.secret_type, word
        for detector in _ENTROPY:
            for value in detector.analyze_string(line):
                entropy = detector.calculate_shannon_entropy(value)
                behind = begin + line.find(value) <= mark.end() + 1
                if behind and entropy > detector.entropy_limit and _is_strong(value):
                    yield detector.secret_type, value


def _is_strong(value: str) -> bool:
    """Whether a value can be a password: neither a word, a name, a path nor a placeholder."""
    return (
        len(value) >= 8
        and len(set(value)) >= 6
        and any(map(str.isalpha, value))
        and any(map(str.isdigit, value))
        and not _SLUG.fullmatch(value)
        and not _MADE_UP.search(value)
        and not is_potential_uuid(value)
        and not is_sequential_string(value)
    )


def _line_around(text: str, start: int, end: int) -> str:
    start, end = max(start - _REACH, 0), end + _REACH
    before = text.rfind("\n", start, end - _REACH)
    after = text.find("\n", end - _REACH, end)
    return text[max(before + 1, start) : after if after >= 0 else end]
