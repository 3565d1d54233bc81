"""When two texts count as the same."""

from __future__ import annotations

import re


def normal_form(text: str) -> str:
    """Return the text casefolded, without punctuation and surplus white space."""
    return " ".join(re.findall(r"\w+", text.casefold()))
