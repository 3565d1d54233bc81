import pytest
from luthier_dataset.quality.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The pump is switched off before the lid is opened.", "en"),
        ("Die Pumpe wird abgeschaltet, bevor der Deckel geöffnet wird.", "de"),
        ("La pompe est arrêtée avant que le couvercle ne soit ouvert.", "fr"),
        ("La bomba se apaga antes de abrir la tapa del depósito.", "es"),
        ("המשאבה כבויה לפני פתיחת המכסה של המיכל הגדול.", "he"),
        ("ふたを開ける前に、ポンプのスイッチを切ってください。", "ja"),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "ok", "4711 / 0815 = 5.78", "x = 1", "!!! ??? ..." * 50])
def test_what_is_too_short_or_no_language_has_none(text: str) -> None:
    assert language_of(text) == ""
