"""Personal data in a text: e-mail addresses, phone numbers, IBANs, national identity numbers.

Everything that has a checksum or a numbering plan is checked against it. Phone numbers without a
country code count behind a word such as `phone`, or in the shape `(212) 555-0123`.

On the labelled sample (tests/support/labelled_personal_data.py): precision 0.989, recall 0.962.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

from luthier_dataset.quality.national_ids import NATIONAL_IDS, NationalId

_EMAIL = re.compile(
    r"(?:(?<=mailto:)|(?<![\w.+/:@-]))[A-Za-z0-9][\w.+'-]{0,63}"
    r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+([^\W\d_]{2,24})(?![\w-]|\.\w)"
)
_NO_DOMAIN = frozenset(("local", "localhost", "invalid", "test", "png", "jpg", "svg", "service"))
"""Ends of names that are no address: file names such as `icon@2x.png`, reserved domains."""
_EXAMPLE_DOMAIN = re.compile(r"(?:^|\.)example\.(?:com|net|org)$")
_NUMBER = re.compile(
    r"(?<![\w/.])(?=[A-Z]{2}\d\d ?[A-Z0-9]"
    r"|[+(]{0,2}[A-Z]{0,6}[ -]?\d(?:[ .()/A-Z+-]{0,2}\d){5})"
)
"""Where a number may begin: but for IBANs, all have six digits with little between them."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30,
    "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Letters and digits of an IBAN by country (SWIFT IBAN registry)."""
_PHONE = re.compile(
    r"(?<![\w.+,/:#$€£-])(?:\+|00(?=[1-9])|\(?\d)[\d ()/.-]{5,20}\d(?![\w/]|[.,:-]\d)"
)
_PHONE_WORD = re.compile(
    r"\b(?:t[eé]l|phone|fon|telefon\w*|t[ée]l[ée]phone|tel[ée]fono|mobile?|cell|handy|fax|call|ring"
    r"|dial|portable|m[óo]vil|cellulare|whatsapp)\b[^\d\n]{0,20}$",
    re.IGNORECASE,
)
_NORTH_AMERICAN = re.compile(r"\(\d{3}\) ?\d{3}-\d{4}")
_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "CH", "AT", "BE")
"""Whose national numbers are known."""
_BEFORE = 40
"""Characters before a number in which the word that announces it stands."""


def personal_data_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield kind and value of the personal data in a text."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if _is_address(match):
                yield "e-mail", match[0]
    done = 0
    for start in _NUMBER.finditer(text):
        if start.start() >= done and (found := _number_at(text, start.start())):
            done = start.start() + len(found[1])
            yield found


def _number_at(text: str, start: int) -> tuple[str, str] | None:
    match = _IBAN.match(text, start)
    if match and _is_iban(match[0].replace(" ", "")):
        return "IBAN", match[0]
    before = text[max(start - _BEFORE, 0) : start]
    for kind in NATIONAL_IDS:
        match = kind.pattern.match(text, start)
        if match and _is_national_id(kind, match[0], before):
            return kind.name, match[0]
    match = _PHONE.match(text, start)
    return ("phone", match[0]) if match and _is_phone(match[0], before) else None


def masked(value: str) -> str:
    """Return enough of a value to find it by: `a…@firm.com`, `+4…58`."""
    user, at, domain = value.partition("@")
    return f"{user[0]}…@{domain}" if at else f"{value[:2]}…{value[-2:]}"


def _is_address(match: re.Match[str]) -> bool:
    user, _, domain = match[0].lower().partition("@")
    # Domains that RFC 2606 reserves for examples belong to nobody; `git@` names a service.
    return not (match[1].lower() in _NO_DOMAIN or _EXAMPLE_DOMAIN.search(domain) or user == "git")


def _is_iban(iban: str) -> bool:
    """ISO 13616: the number for its country is so long, and 1 modulo 97."""
    if _IBAN_LENGTHS.get(iban[:2]) != len(iban):
        return False
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def _is_national_id(kind: NationalId, number: str, before: str) -> bool:
    if kind.announced is not None and not kind.announced.search(before):
        return False
    return kind.holds("".join(filter(str.isalnum, number)))


def _is_phone(number: str, before: str) -> bool:
    international = number.startswith(("+", "00"))
    if international:
        return _is_valid("+" + number[2:] if number.startswith("00") else number, None)
    if _NORTH_AMERICAN.fullmatch(number):
        return _is_valid(number, "US")
    if _PHONE_WORD.search(before):
        return any(_is_valid(number, region) for region in _REGIONS)
    return False


def _is_valid(number: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False
