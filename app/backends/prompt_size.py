"""How long a prompt is at least: for engines that cut what does not fit without a word, and can't be asked to count."""

from typing import Final

import msgspec

_MOST_CHARACTERS_PER_TOKEN: Final = 8
"""Prose has four to five, code three, Chinese one to two: no text that people or programs write has more than this."""


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None

    @property
    def characters(self) -> int:
        parts = self.content if isinstance(self.content, list) else [_Part(self.content or "")]
        return sum(len(part.text) for part in parts)


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])


def surely_over(context: int, messages: bytes) -> bool:
    """Whether these messages (a JSON array, checked for its shape before) can't fit into `context` tokens; 0: unknown.

    The bytes alone don't tell: JSON may spell one character with six of them. So they are only a quick look.
    """
    most = context * _MOST_CHARACTERS_PER_TOKEN
    if not context or len(messages) <= most:
        return False
    return sum(message.characters for message in _MESSAGES.decode(messages)) > most
