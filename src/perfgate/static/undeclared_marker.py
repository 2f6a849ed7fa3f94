"""What does an ``undeclared_launches`` marker allow, and does any test need it?"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

NAME = "undeclared_launches"
LINE = (
    f"{NAME}(reason, *names): kernels are launched here as no declared launch launches them, for this reason; where "
    "names are given (of arguments, options or kernels; * stands for any letters), in nothing else than these."
)
_ANYTHING = ("*",)


@dataclass(frozen=True)
class Marker:
    """One marker.

    Attributes:
        place: what it is written above: a test, a class or a file, or one set of parameters.
        arguments: its reason, and names.
    """

    place: str
    arguments: tuple[str, ...]

    def matching(self, names: Collection[str]) -> set[str]:
        """Give those of some names that may be others."""
        patterns = self.arguments[1:] or _ANYTHING
        return {name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)}


@dataclass
class Use:
    """What became of a marker.

    Attributes:
        tests: that it is for.
        done: those of them that ran to their end.
        needed: whether one of them launched what it allows.
    """

    tests: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    needed: bool = False


def markers_of(item: pytest.Item) -> list[Marker]:
    """Give the markers of a test, the closest first.

    Raises:
        pytest.UsageError: one gives no reason, or something that is no name.
    """
    return list(_markers(item))


def _markers(item: pytest.Item) -> Iterator[Marker]:
    callspec = getattr(item, "callspec", None)
    for node, mark in item.iter_markers_with_node(NAME):
        place = node.nodeid
        if node is item and mark not in getattr(callspec, "marks", ()):
            place = place.partition("[")[0]
        texts = [each for each in mark.args if isinstance(each, str) and each.strip()]
        if not texts or len(texts) != len(mark.args) or mark.kwargs:
            raise pytest.UsageError(
                f"{place}: {NAME} marker: it takes a reason, and then names, as texts\n"
                f'hint: write @pytest.mark.{NAME}("small shapes, for the interpreter", "TILE", "*_stride")'
            )
        yield Marker(place, tuple(texts))


def allowed(markers: Iterable[Marker], names: Collection[str]) -> set[str]:
    """Give those of some names that markers allow to be others."""
    return set().union(*(marker.matching(names) for marker in markers))


def unneeded(uses: Mapping[Marker, Use]) -> list[str]:
    """Tell of the markers whose tests all ran to their end without launching what they allow."""
    return sorted(
        f'{marker.place}: nothing is launched there that {NAME}("{marker.arguments[0]}") allows: remove the marker'
        for marker, use in uses.items()
        if not use.needed and use.tests and use.tests <= use.done
    )


def to_plain(uses: Mapping[Marker, Use]) -> list[Any]:
    """Turn uses into what a worker of pytest-xdist can send."""
    return [
        (marker.place, marker.arguments, sorted(use.tests), sorted(use.done), use.needed)
        for marker, use in uses.items()
    ]


def add_plain(uses: dict[Marker, Use], plain: Iterable[Any]) -> None:
    """Add what a worker sent."""
    for place, arguments, tests, done, needed in plain:
        use = uses.setdefault(Marker(place, tuple(arguments)), Use())
        use.tests.update(tests)
        use.done.update(done)
        use.needed |= needed
