"""What did a timed call decide for itself? Facts kept beside its figures, as a possible cause when those change.

A launcher notes the configuration that it chose; a model may note which implementation it took. Notes are never
compared by themselves: a case whose notes differ from its baseline's is judged as any other.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping

#: Stands between the values that were noted under one name.
_OR = " | "
#: Why something was chosen, behind a colon in the parentheses that say how: ``8 warps (default: not searched)``.
_WHY = re.compile(r"(\([^():]*): [^()]*\)$")
#: Values by name, of each collection that is open; the innermost is the last.
_open: list[dict[str, set[str]]] = []


def note(name: str, value: str) -> None:
    """Note one fact of the call that is being timed; where none is, do nothing.

    Args:
        name: what decided, e.g. the name of a kernel.
        value: what it decided, in one short line. Different values under one name are all kept.
    """
    if _open:
        _open[-1].setdefault(name, set()).add(value)


@contextlib.contextmanager
def collect(taken: dict[str, set[str]] | None = None) -> Iterator[dict[str, set[str]]]:
    """Collect what is noted meanwhile, as values by name; ``taken`` holds what was noted before."""
    taken = {} if taken is None else taken
    _open.append(taken)
    try:
        yield taken
    finally:
        _open.pop()


def texts(taken: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Give one text a name, the same whatever the order in which its values were noted."""
    return {name: _OR.join(sorted(taken[name])) for name in sorted(taken)}


def values(text: str) -> set[str]:
    """Give the values of a text that :func:`texts` made."""
    return set(text.split(_OR))


def choices(text: str) -> set[str]:
    """Give the values of a text without why each was chosen, which changes nothing that runs.

    ``8 warps (default: not searched)`` is the same choice as ``8 warps (default)``.
    """
    return {_WHY.sub(r"\1)", value) for value in values(text)}


def together(each: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Bring the texts of several processes together: all values that any of them noted."""
    taken: dict[str, set[str]] = {}
    for notes in each:
        for name, text in notes.items():
            taken.setdefault(name, set()).update(values(text))
    return texts(taken)
