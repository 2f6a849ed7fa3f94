"""How does foreign text (a test's id, an exception's message) get into Markdown as nothing but text?"""

from __future__ import annotations

import html
import re
import unicodedata

# Within backticks all but these is text. In a table "|" ends the cell, and "\" before it is read in two ways.
_BREAKS_A_SPAN = re.compile(r"[`|\\]")
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z]")
# Without "." and ":" nothing looks like an address.
_NOT_WORDS = re.compile(r"[^0-9A-Za-z ,;()/%-]")
#: Control and format characters, surrogates, and what ends a line: they hide text or turn its direction round.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def one_line(text: str) -> str:
    """Give text in one line, with a visible sign for each character that is none."""
    return "".join(_shown(character) for character in " ".join(text.splitlines()))


def code(text: str) -> str:
    """Write text as code within a line, or within a cell of a table; empty text stays empty.

    GitHub makes neither links nor mentions of what is code.
    """
    text = one_line(text).strip()
    if not text:
        return ""
    if not _BREAKS_A_SPAN.search(text):
        return f"`{text}`"
    return f"<code>{_NOT_PLAIN.sub(lambda match: f'&#{ord(match[0])};', text)}</code>"


def prose(text: str) -> str:
    """Write text within a sentence: no markup, no link, no mention of anybody."""
    # GitHub looks for mentions after it has read what characters stand for: "@" must not be there at all.
    return _NOT_WORDS.sub(lambda match: f"&#{ord(match[0])};", one_line(text).replace("@", "(at)"))


def block(text: str) -> str:
    """Write lines of text as they stand, as a block of their own.

    Markdown reads no further than ``<pre>``, up to the line that closes it; no text can hold that line.
    """
    lines = ("".join(_shown(character) for character in line.expandtabs()) for line in text.splitlines())
    return f"<pre>\n{html.escape(chr(10).join(lines))}\n</pre>"


def _shown(character: str) -> str:
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in _UNSEEN else character
