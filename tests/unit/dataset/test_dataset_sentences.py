import pytest
from luthier_dataset.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["One fact.", "Another fact."],
        ["Is it so?", "Yes!", "It is."],
        ["Dr. Odran Velkis leads it.", "Mr. Smith helps."],
        ["J. R. Miller founded it.", "He left."],
        ["The fee is 3.5 crowns.", "It rose in 2019.", "Then it fell."],
        ["The desk opens at 08.45 and closes at 17.30.", "Call first."],
        ["It opens at 9 a.m. and closes at 5 p.m.", "Come early."],
        ["Use a badge, e.g. the blue one.", "See fig. 4 for it."],
        ["Room No. 12 is ours.", "Is it free?", "No.", "It is not."],
        ["He said “Stop.”", "She did."],
        ["(It rains.)", "(It pours.)"],
        ["We use z. B. Linux.", "Das gilt bzw. Galt."],
        ["1. Wash your hands.", "Dry them."],
        ["Visit www.example.com today.", "Write to a.b@example.com."],
        ["Wait … and see.", "Done…", "Good."],
        ["no end"],
    ],
)
def test_text_is_cut_at_sentence_ends_only(sentences: list[str]) -> None:
    assert split_sentences(" ".join(sentences)) == sentences


@pytest.mark.parametrize("text", ["", "   "])
def test_no_text_has_no_sentences(text: str) -> None:
    assert split_sentences(text) == []


def test_a_long_text_is_split_in_linear_time() -> None:
    assert len(split_sentences("A fact is here. " * 50_000)) == 50_000
