from collections.abc import Iterator

import pytest
from luthier_dataset.quality import personal
from luthier_dataset.quality.national_ids import NATIONAL_IDS
from luthier_dataset.quality.personal import masked, personal_data_in

from tests.support.labelled_personal_data import NATIONAL_ID, look_alikes, positives

_IDS = {kind.name for kind in NATIONAL_IDS}


def _kinds(text: str) -> set[str]:
    found = {kind for kind, _ in personal_data_in(text)}
    return {NATIONAL_ID if kind in _IDS else kind for kind in found}


def test_precision_and_recall_on_the_labelled_sample_are_as_stated() -> None:
    right = [kind in _kinds(text) for text, kind in positives()]
    false = [text for text in look_alikes() if _kinds(text)]
    assert len(right) >= 200
    assert len(look_alikes()) >= 400
    precision, recall = sum(right) / (sum(right) + len(false)), sum(right) / len(right)
    assert f"precision {precision:.3f}, recall {recall:.3f}" in (personal.__doc__ or "")
    assert precision >= 0.98
    assert recall >= 0.94


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("Ask anna@posteo.de, please.", "e-mail", "anna@posteo.de"),
        ("Ask anna@posteo.de.", "e-mail", "anna@posteo.de"),
        ("It is +49 30 901820.", "phone", "+49 30 901820"),
        ("Call (212) 736-5000 now", "phone", "(212) 736-5000"),
        ("to DE89 3704 0044 0532 0130 00 by May", "IBAN", "DE89 3704 0044 0532 0130 00"),
        ("CF RSSMRA85T10A562S", "Italian codice fiscale", "RSSMRA85T10A562S"),
        ("PESEL: 44051401359", "Polish PESEL", "44051401359"),
    ],
)
def test_a_value_is_found_whole(text: str, kind: str, value: str) -> None:
    assert list(personal_data_in(text)) == [(kind, value)]


@pytest.mark.parametrize("number", ["86095742719", "44051401359", "111222333", "151086 95088"])
def test_bare_numbers_need_a_word_that_announces_them(number: str) -> None:
    assert list(personal_data_in(f"Order {number} is late.")) == []


@pytest.mark.parametrize(
    "number",
    [
        "DE89370400440532013000", "DNI 12345678Z", "RSSMRA85T10A562S", "BSN 111222333",
        "PESEL 44051401359", "811218-9876", "85.07.30-033.28", "131052-308T", "390.533.447-05",
        "fødselsnummer 15108695088", "Steuer-ID 86095742719", "255081416802538",
    ],
)  # fmt: skip
def test_a_changed_check_digit_is_noticed(number: str) -> None:
    assert list(personal_data_in(number))
    for other in _others(number):
        assert not list(personal_data_in(other)), other


def _others(number: str) -> Iterator[str]:
    alphabet = "0123456789" if number[-1].isdigit() else "ABCDEFGHJKLMNPQRSTUVWXY"
    yield from (number[:-1] + char for char in alphabet if char != number[-1])


@pytest.mark.parametrize(
    ("value", "shown"), [("anna@posteo.de", "a…@posteo.de"), ("+49 30 901820", "+4…20")]
)
def test_values_are_masked(value: str, shown: str) -> None:
    assert masked(value) == shown


def test_numbers_without_end_take_linear_time() -> None:
    for hostile in ("1" * 100_000, "1-" * 50_000, "a@" * 50_000, "AA11 " * 20_000, "a." * 50_000):
        assert list(personal_data_in(hostile)) == []
