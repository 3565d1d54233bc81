"""Tells what the writer of an e-mail wrote from what is quoted below, and from the signature.

Mail programs mark quotes in their own ways and in the reader's language. The rules here go by form:
a mark at the start of the line, a line that introduces it, a row of dashes, a block of headers.
"""

from __future__ import annotations

import re

_SIGNATURE = re.compile(r"--[ \u00a0]?$")
"""RFC 3676, section 4.3; many programs lose the space."""
_DASHES = re.compile(r"[-_]{3,}[ ]?[^-_\n]{3,60}[ ]?[-_]{3,}$|_{20,}$")
"""`-----Original Message-----`, in any language, and Outlook's line."""
_FROM = re.compile(r"\*?(?:From|Von|De|Da|Van|Fr\xe5n|Fra)\s?:\*?\s")
_SENT = re.compile(
    r"\*?(?:Sent|Date|Gesendet|Datum|Envoy\xe9|Enviado|Fecha|Data|Inviato|Verzonden|Skickat|Sendt)"
    r"\s?:"
)
_INTRODUCTION = re.compile(
    r".*(?:\S@\S|\d:\d\d|\b\d{4}\b|\b(?:wrote|writes|schrieb|schreef|\xe9crit|escribi\xf3|scritto)\b).*:$"
)
"""`On Monday, 5 January 2024, Anna wrote:`, which stands above a quote."""
_LONGEST = 300
"""Characters of such a line."""


def without_quotes(text: str) -> str:
    """Return the lines of an e-mail that its writer wrote, without blank lines around them."""
    kept: list[str] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        stripped = line.strip()
        if stripped.startswith(">"):
            _drop_introduction(kept)
        elif _SIGNATURE.match(line) or _begins_original(lines, number):
            break
        elif stripped or (kept and kept[-1]):
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def _begins_original(lines: list[str], number: int) -> bool:
    """Whether the message that is answered to follows, with a line above it or its headers."""
    line = lines[number].strip()
    if _DASHES.match(line):
        return True
    following = lines[number + 1 : number + 4]
    return bool(_FROM.match(line)) and any(_SENT.match(one.strip()) for one in following)


def _drop_introduction(kept: list[str]) -> None:
    """Remove the line above a quote that says whose it is; mail programs wrap long ones."""
    while kept and not kept[-1]:
        kept.pop()
    for size in (1, 2):
        line = " ".join(kept[-size:])
        if len(kept) >= size and len(line) <= _LONGEST and _INTRODUCTION.match(line):
            del kept[-size:]
            return
