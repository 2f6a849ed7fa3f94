"""How does ``perfgate tune`` say what it would try, what it tries, and what became of it?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping

from perfgate.report.table import Column, layout
from perfgate.tune.search import MARGIN, Choice
from perfgate.tune.tunable import Shape, Tunable, text_of
from perfgate.units import count, quantity, share

_COLUMNS = (
    Column("class", figures=False),
    Column("tried"),
    Column("skipped"),
    Column("default", figures=False),
    Column("takes"),
    Column("best", figures=False),
    Column("takes"),
    Column("saved"),
)


def plan(
    tunable: Tunable, classes: Mapping[str, Shape], left_out: Mapping[str, Collection[str]], where: str
) -> Iterator[str]:
    """Tell what would be tried in the coarse step."""
    yield f"{tunable.kernel} on {where}: {count(len(classes), 'class', 'classes')} of shapes"
    for name, shape in classes.items():
        default = tunable.default(*shape)
        candidates = [
            config
            for config in dict.fromkeys(tunable.candidates(*shape))
            if config != default and text_of(config) not in left_out.get(name, ())
        ]
        yield f"{name}: the default and {count(len(candidates), 'candidate')}"
        yield f"  {text_of(default)} (default)"
        yield from (f"  {text_of(config)}" for config in candidates)


def told(at: str, choice: Choice) -> Iterator[str]:
    """Tell what became of one class."""
    clear()
    found = f"the default stays, {quantity(choice.default_s, 's')}"
    if choice.changed:
        found = f"{text_of(choice.best)} saves {share(_saved(choice))} of {quantity(choice.default_s, 's')}"
    yield f"{at}{choice.shape_class}: {found}"
    yield from (f"  skipped {text_of(trial.config)}: {trial.problem}" for trial in choice.skipped)


def table(choices: list[Choice]) -> Iterator[str]:
    """Sum up what became of classes."""
    rows = [
        (
            choice.shape_class,
            str(len(choice.trials)),
            str(len(choice.skipped)),
            text_of(choice.default),
            quantity(choice.default_s, "s"),
            text_of(choice.best) if choice.changed else "the default",
            quantity(choice.best_s, "s"),
            share(_saved(choice)) if choice.changed else "-",
        )
        for choice in choices
    ]
    lines = layout(_COLUMNS, rows)
    yield lines.heading()
    for row in rows:
        yield from lines.row(row)
    better = sum(choice.changed for choice in choices)
    yield f"{better} of {count(len(choices), 'class', 'classes')} faster than the default by more than {share(MARGIN)}"


def _saved(choice: Choice) -> float:
    return round(1 - choice.best_s / choice.default_s, 3)


def progress(at: str) -> Callable[[str], None]:
    """Give what shows on a terminal, in one line, what is being tried."""
    if not sys.stderr.isatty():
        return lambda line: None
    return lambda line: print(f"\r\x1b[K{at}{line}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Take away what :func:`progress` has shown."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
