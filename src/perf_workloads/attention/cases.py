"""Which cases does an experiment have on each kind of device, and can one of them run here?

The same test runs both: small on a CPU, the published grid on a GPU. Imports pytest, and torch only when asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from perf_workloads.attention.config import ROWS, DecoderConfig

#: Allowed change of times on a CPU: several times what processes differ by on a shared machine.
CPU_TIME = "20%"

#: A GPU counts bytes. On a CPU the process's high-water mark tells of a timed call; that of a training step moves by a
#: tenth between two calls, with what malloc keeps.
_MARKS = {
    "cuda": (pytest.mark.sm80, pytest.mark.perf(memory="1%")),
    "cpu": (pytest.mark.cpu, pytest.mark.perf(time=CPU_TIME, memory="30%")),
}


def grid(
    device: str,
    *columns: Iterable[object],
    rows: Iterable[str] = (),
    slow: bool = False,
    marks: Iterable[pytest.MarkDecorator] = (),
) -> Iterator[Any]:
    """Give ``pytest.param(device, row, value, ...)`` for every row and every combination of values.

    Each says what its device may change by; what the test's own ``perf`` marker says goes before that.

    Args:
        device: "cuda" or "cpu".
        columns: values, a sequence for each further argument of the test.
        rows: of the tables; all that there are on this kind of device by default.
        slow: whether these are long experiments, which run with ``--slow-budget`` only.
        marks: what else each is marked with.
    """
    more = [*([pytest.mark.slow] if slow else []), *marks]
    combinations: list[tuple[object, ...]] = [(row,) for row in rows or ROWS[device]]
    for column in columns:
        values = tuple(column)
        combinations = [(*before, value) for before in combinations for value in values]
    for values in combinations:
        name = "-".join(("gpu" if device == "cuda" else "cpu", *map(str, values)))
        yield pytest.param(device, *values, id=name, marks=[*_MARKS[device], *more])


def skip_unless_it_runs(config: DecoderConfig, *, gradients: bool = True) -> None:
    """Skip the case, with the reason, where fla is missing or refuses the gradients that are wanted.

    Nothing is put in its place.
    """
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    if not config.implementation.startswith("fla_"):
        return
    pytest.importorskip("fla", reason="fla is not installed: pip install fla-core einops")
    from perf_workloads.attention.delta_net import gradients_refused

    if gradients and (reason := gradients_refused(config.implementation)):
        pytest.skip(f"fla refuses the gradients of {config.implementation}: {reason}")
