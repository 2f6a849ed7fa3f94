"""How does text become tokens: by the tokenizer of a folder, or by a stand-in where there is none?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Tokenizer(Protocol):
    """What the report needs of a tokenizer."""

    name: str

    def encode(self, text: str) -> list[int]:
        """Give the tokens of a text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the text of tokens."""


class ByteTokenizer:
    """A stand-in without data: one token a byte of UTF-8; tokens from 256 on read as their number."""

    name = "stand-in (bytes)"

    def encode(self, text: str) -> list[int]:
        """Give the bytes."""
        return list(text.encode("utf-8"))

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the bytes as text, and numbers of other tokens in angle brackets."""
        return "".join(
            f"<{token}>" if token > 255 else bytes([token]).decode("utf-8", "backslashreplace") for token in tokens
        )


class StoredTokenizer:
    """The tokenizer of a folder, through transformers.

    Args:
        folder: holds tokenizer.json or what else transformers reads.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.name = type(self._tokenizer).__name__

    def encode(self, text: str) -> list[int]:
        """Give the tokens, those that mark the beginning included."""
        tokens: list[int] = self._tokenizer.encode(text)
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the text, special tokens included."""
        return str(self._tokenizer.decode(list(tokens)))


def load_tokenizer(folder: str | None) -> Tokenizer:
    """Give the tokenizer of a folder with real weights, or the stand-in for random ones."""
    return ByteTokenizer() if folder is None else StoredTokenizer(Path(folder))
