"""From tokens to text that can be sent: whole characters, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]
"""Text of tokens, special ones left out."""

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Decodes one answer token by token."""

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._tokens: list[int] = []
        self._start = 0  # where the tokens begin that the next ones are decoded together with
        self._end = 0  # behind the last token whose text is out
        self._held = ""
        self.stopped = False
        """Whether a stop text came; nothing follows it."""

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now."""
        self._tokens.append(token)
        return self._release(self._decoded())

    def finish(self) -> str:
        """Return what was held back; for an answer that ended without a stop text."""
        text = "" if self.stopped else self._held + self._decoded(final=True)
        self._held = ""
        return text

    def _decoded(self, *, final: bool = False) -> str:
        """Return the new text, empty while it ends within a character.

        Tokens are decoded together with those before them and the difference taken: many
        tokenizers decode the first token of a text differently.
        """
        before = self._decode(self._tokens[self._start : self._end])
        text = self._decode(self._tokens[self._start :])
        if len(text) <= len(before) or (text.endswith(_INCOMPLETE) and not final):
            return ""
        self._start, self._end = self._end, len(self._tokens)
        return text[len(before) :]

    def _release(self, text: str) -> str:
        text = self._held + text
        found = [position for stop in self._stops if (position := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
