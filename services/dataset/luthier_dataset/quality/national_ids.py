"""National identity numbers: their shapes, and the rules that tell them from other numbers.

The rules are those of the issuing authorities. A number whose shape is common or whose check digit
is weak counts only behind a word that announces it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_uppercase

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_SIGNS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_CODICE_ODD = (
    1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
)  # fmt: skip


@dataclass(frozen=True)
class NationalId:
    """One country's number."""

    name: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]
    """Whether the letters and digits of a match obey the rules."""
    announced: re.Pattern[str] | None = None
    """A word before the number without which it does not count."""


def _social_security(number: str) -> bool:
    area, group, serial = number[:3], number[3:5], number[5:]
    # 219-09-9999 and 078-05-1120 stood in advertisements and were withdrawn.
    withdrawn = number in ("219099999", "078051120")
    return not (
        withdrawn or area in ("000", "666") or area >= "900" or group == "00" or serial == "0000"
    )


def _national_insurance(number: str) -> bool:
    return number[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _steuer_id(number: str) -> bool:
    counts = sorted(number[:10].count(digit) for digit in set(number[:10]))
    product = 10
    for digit in number[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    one_repeats = counts[-1] in (2, 3) and counts[:-1] == [1] * (len(counts) - 1)
    return number[0] != "0" and one_repeats and (11 - product) % 10 == int(number[10])


def _insee(number: str) -> bool:
    corsican = number[:13].replace("2A", "19").replace("2B", "18")
    return corsican.isdigit() and 97 - int(corsican) % 97 == int(number[13:])


def _dni(number: str) -> bool:
    digits = number[:-1].translate(str.maketrans("XYZ", "012"))
    return _DNI_LETTERS[int(digits) % 23] == number[-1]


def _codice_fiscale(number: str) -> bool:
    values = [int(char) if char.isdigit() else ascii_uppercase.index(char) for char in number]
    odd = sum(_CODICE_ODD[value] for value in values[0:15:2])
    return (odd + sum(values[1:15:2])) % 26 == values[15]


def _bsn(number: str) -> bool:
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return number != "000000000" and _weighted(number, weights) % 11 == 0


def _pesel(number: str) -> bool:
    month = int(number[2:4])
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20]
    born = _is_date(century + int(number[:2]), month % 20, int(number[4:6]))
    return born and _weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _personnummer(number: str) -> bool:
    short = number[-10:]
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(short))
    return (
        _is_date(2000 + int(short[:2]), int(short[2:4]), int(short[4:6]))
        and sum(value // 10 + value % 10 for value in doubled) % 10 == 0
    )


def _rijksregister(number: str) -> bool:
    serial, check = number[:9], int(number[9:])
    return check in (97 - int(serial) % 97, 97 - int("2" + serial) % 97)


def _hetu(number: str) -> bool:
    born = _is_date(2000 + int(number[4:6]), int(number[2:4]), int(number[:2]))
    return born and _HETU_SIGNS[int(number[:6] + number[-4:-1]) % 31] == number[-1]


def _cpf(number: str) -> bool:
    def check(digits: str) -> str:
        rest = _weighted(digits, range(len(digits) + 1, 1, -1)) * 10 % 11
        return str(rest % 10)

    return (
        len(set(number)) > 1 and number[9] == check(number[:9]) and number[10] == check(number[:10])
    )


def _fodselsnummer(number: str) -> bool:
    return (
        _is_date(2000 + int(number[4:6]), int(number[2:4]), int(number[:2]) % 40)
        and _weighted(number[:10], (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and _weighted(number, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def _weighted(number: str, weights: range | tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True))


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True


def _shape(pattern: str) -> re.Pattern[str]:
    # Not inside a longer number, word or path.
    return re.compile(rf"(?<![\w/.-]){pattern}(?![\w/]|[.-]\w)")


def _word(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


NATIONAL_IDS: tuple[NationalId, ...] = (
    NationalId("US social security number", _shape(r"\d{3}-\d{2}-\d{4}"), _social_security),
    NationalId(
        "US social security number", _shape(r"\d{3} ?\d{2} ?\d{4}"), _social_security,
        _word(r"\bssn\b|social security"),
    ),
    NationalId(
        "UK national insurance number",
        _shape(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"),
        _national_insurance,
    ),
    NationalId(
        "German tax id", _shape(r"\d{2} ?\d{3} ?\d{3} ?\d{3}"), _steuer_id,
        _word(r"steuer|\bidnr|\bid-nr|tax id"),
    ),
    NationalId(
        "French social security number",
        _shape(r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d"),
        _insee,
    ),
    NationalId("Spanish DNI", _shape(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]"), _dni),
    NationalId(
        "Italian codice fiscale",
        _shape(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]"),
        _codice_fiscale,
    ),
    NationalId(
        "Dutch BSN", _shape(r"\d{9}|\d{4}\.\d{2}\.\d{3}"), _bsn,
        _word(r"\bbsn\b|burgerservice|sofi"),
    ),
    NationalId("Polish PESEL", _shape(r"\d{11}"), _pesel, _word(r"pesel")),
    NationalId("Swedish personnummer", _shape(r"(?:\d\d)?\d{6}[-+]\d{4}"), _personnummer),
    NationalId("Belgian national number", _shape(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d"), _rijksregister),
    NationalId("Finnish personal identity code", _shape(r"\d{6}[-+A]\d{3}[0-9A-Y]"), _hetu),
    NationalId("Brazilian CPF", _shape(r"\d{3}\.\d{3}\.\d{3}-\d\d"), _cpf),
    NationalId(
        "Norwegian birth number", _shape(r"\d{6} ?\d{5}"), _fodselsnummer,
        _word(r"f.dselsn|personn|\bfnr\b"),
    ),
)  # fmt: skip
