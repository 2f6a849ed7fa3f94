"""What does a test author ask for? The ``perf`` marker, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfgate.errors import SettingError
from perfgate.model import Limit, Outcome
from perfgate.units import parse_limit

if TYPE_CHECKING:
    import pytest

CLOCKS = ("device", "wall", "both")
CACHES = ("cold", "warm")


@dataclass(frozen=True)
class Plan:
    """How one case is measured and judged; None leaves the choice to the clock."""

    time: Limit | None = None
    memory: Limit | None = None
    clock: str | None = None
    cache: str = "cold"
    threads: int = 1
    budget_s: float | None = None
    outcomes: frozenset[Outcome] = frozenset()


def read(kwargs: Mapping[str, Any], where: str) -> Plan:
    """Check the arguments of a ``perf`` marker.

    Args:
        kwargs: the marker's keyword arguments.
        where: the test it stands on, for the message.

    Raises:
        SettingError: an unknown name or a value that cannot be used.
    """
    values = dict(kwargs)

    def bad(name: str, value: object, allowed: str) -> SettingError:
        return SettingError(f"{where}: perf marker: {name}={value!r} cannot be used", hint=f"{name} takes {allowed}")

    def limit(name: str, unit: str) -> Limit | None:
        text = values.pop(name, None)
        if text is None:
            return None
        try:
            return parse_limit(str(text), unit)
        except SettingError as error:
            raise SettingError(f"{where}: perf marker: {name}: {error.what}", error.why, error.hint) from None

    time, memory = limit("time", "s"), limit("memory", "B")
    clock = values.pop("clock", None)
    if clock is not None and clock not in CLOCKS:
        raise bad("clock", clock, " or ".join(map(repr, CLOCKS)))
    cache = values.pop("cache", "cold")
    if cache not in CACHES:
        raise bad("cache", cache, " or ".join(map(repr, CACHES)))
    threads = values.pop("threads", 1)
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise bad("threads", threads, "a number of threads, at least 1")
    budget = values.pop("budget", None)
    if budget is not None and not (isinstance(budget, int | float) and not isinstance(budget, bool) and budget > 0):
        raise bad("budget", budget, "a number of seconds")
    words = values.pop("outcomes", ())
    allowed = {outcome.value for outcome in Outcome} - {"passed", "skipped"}
    if isinstance(words, str) or any(word not in allowed for word in words):
        raise bad("outcomes", words, f"a tuple of {', '.join(sorted(allowed))}")
    if values:
        raise SettingError(
            f"{where}: perf marker: unknown argument {', '.join(sorted(values))}",
            hint="it takes time, memory, clock, cache, threads, budget, outcomes",
        )
    return Plan(time, memory, clock, cache, threads, budget, frozenset(Outcome(word) for word in words))


def of(item: pytest.Item) -> Plan:
    """Read the plan of a collected test; markers nearer to it win, argument by argument.

    Raises:
        SettingError: its marker cannot be used.
    """
    merged: dict[str, Any] = {}
    for marker in item.iter_markers("perf"):
        if marker.args:
            raise SettingError(
                f"{item.nodeid}: perf marker: takes no positional arguments", hint='write @pytest.mark.perf(time="2%")'
            )
        merged = {**marker.kwargs, **merged}
    return read(merged, item.nodeid)
