"""What does a test author ask for with ``static``? The marker, checked; its launches, targets and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfgate.errors import SettingError

if TYPE_CHECKING:
    import pytest

    from perfgate.model import Limit

_EXAMPLE = 'write @pytest.mark.static("my_kernels.specialisations", targets=("sm90",))'


@dataclass(frozen=True)
class Wish:
    """What one marker asks for.

    Attributes:
        place: module and name of the launches.
        targets: names of targets.
        limits: by figure.
    """

    place: str
    targets: tuple[str, ...]
    limits: Mapping[str, Limit] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """One case: a launch for a target, with its limits. The parameter of the ``compiled`` fixture."""

    place: str
    launch: str
    target: str
    limits: Mapping[str, Limit] = field(default_factory=dict, compare=False)


def read(args: tuple[Any, ...], kwargs: Mapping[str, Any], where: str) -> Wish | None:
    """Check the arguments of a ``static`` marker; None when it has none.

    Raises:
        SettingError: it cannot be used.
    """
    from perfgate.static.metrics import read_limits
    from perfgate.static.targets import TARGETS, find

    if not args and not kwargs:
        return None
    values = dict(kwargs)
    if len(args) != 1 or not isinstance(args[0], str) or not args[0]:
        given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        raise SettingError(f"{where}: static marker: static({given}) names no launches", hint=_EXAMPLE)
    targets = values.pop("targets", None)
    if targets is None:
        targets = tuple(TARGETS)
    if isinstance(targets, str) or not targets:
        raise SettingError(f"{where}: static marker: targets={targets!r} cannot be used", hint=_EXAMPLE)
    for name in targets:
        try:
            find(name)
        except SettingError as error:
            raise SettingError(f"{where}: static marker: {error.what}", error.why, error.hint) from None
    limits = values.pop("limits", None)
    if values:
        raise SettingError(
            f"{where}: static marker: unknown argument {', '.join(sorted(values))}",
            hint="it takes the place of the launches, targets and limits",
        )
    return Wish(args[0], tuple(targets), read_limits(limits, where) if limits is not None else {})


def of(node: pytest.Item | pytest.Collector) -> Wish | None:
    """Read the nearest ``static`` marker of a test that has arguments; None when there is none.

    Raises:
        SettingError: it cannot be used.
    """
    for mark in node.iter_markers("static"):
        if (wish := read(mark.args, mark.kwargs, node.nodeid)) is not None:
            return wish
    return None


def names_launches(item: pytest.Item) -> bool:
    """Whether a ``static`` marker of a test says what is to be compiled."""
    return any(mark.args or mark.kwargs for mark in item.iter_markers("static"))


def wanted_of(item: pytest.Item) -> Wanted | None:
    """Give what a case compiles, or None for any other test."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    wanted = parameters.get("compiled")
    return wanted if isinstance(wanted, Wanted) else None
