"""How does text become markup? The only place of the page where anything is escaped.

Whatever is not :class:`Safe` is escaped; only :func:`tag`, :func:`join` and files of the package make :class:`Safe`.
An attribute takes an :class:`Address` as it is, which only :func:`data` makes.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Iterable

from perfgate.report import words

#: No text of a test is shown longer than this.
LONGEST = 4000
# What a page may hold as it is without a look at its category.
_UNUSUAL = re.compile(r"[^\x20-\x7e\xa0-\xac\xae-\xff\n\t]")
_PARTS = re.compile(r"(?<=[/\[])|(?<=::)")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Safe(str):
    """Text that is markup already."""

    __slots__ = ()


class Address(str):
    """Text that is the value of an attribute already."""

    __slots__ = ()


#: What can stand inside an element: text to escape, markup, nothing, or several of them.
Child = str | None | Iterable["Child"]
Value = str | float | bool | None


def visible(text: str, longest: int = LONGEST) -> str:
    r"""Write characters that would not be seen, or would turn the text around, as ``\u202e``; cut what is too long."""
    if len(text) > longest:
        text = f"{text[:longest]}… ({len(text)} characters)"
    return _UNUSUAL.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _HIDDEN:
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def escaped(text: str) -> Safe:
    """Turn text into markup that shows it."""
    return text if isinstance(text, Safe) else Safe(html.escape(visible(text), quote=True))


def join(*children: Child) -> Safe:
    """Put parts of an element one behind the other."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, str):
            parts.append(escaped(child))
        elif child is not None:
            parts.append(join(*child))
    return Safe("".join(parts))


def tag(name: str, /, *children: Child, **attributes: Value) -> Safe:
    """Make an element.

    Args:
        name: of the element; one that ends with ``/`` has no content.
        children: what stands inside.
        attributes: ``class_`` is class and ``data_s`` is data-s; None and False leave an attribute out, True is one
            without a value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        else:
            plain = number(value) if isinstance(value, float) else str(value)
            written.append(
                f' {key}="{value if isinstance(value, Address) else html.escape(visible(plain), quote=True)}"'
            )
    opened = f"<{name.rstrip('/')}{''.join(written)}>"
    return Safe(opened if name.endswith("/") else f"{opened}{join(*children)}</{name}>")


def data(text: str) -> Address:
    """Write text as an address that holds all of it, for a link that saves it: no browser shows or runs such bytes."""
    return Address("data:application/octet-stream;base64," + base64.b64encode(text.encode("utf-8", "replace")).decode())


def number(value: float) -> str:
    """Write a number for a script or a drawing: short, and never ``1e999``."""
    return f"{value:.10g}" if value == value and abs(value) < 1e300 else ""


def identifier(case: str) -> Safe:
    """Write a node id so that it breaks between its parts, its file less loud than its name."""
    place, name = words.split(visible(case))
    quiet = tag("span", _breakable(place), class_="quiet") if place else None
    return tag("bdi", quiet, _breakable(name))


def _breakable(text: str) -> Safe:
    return Safe("<wbr>".join(html.escape(part) for part in _PARTS.split(text)))
