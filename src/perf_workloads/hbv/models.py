"""Which ways of running HBV in torch are compared: eager, compiled day by day, TorchScript?

All take and give tensors as the fused kernel does, ``[days, basins]``, so that layout plays no part in a comparison.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

#: Discharge [T, B] and storages [5, B] from three forcings [T, B], parameters [14, B] and initial storages [5, B].
Model = Callable[..., tuple[Any, Any]]


def eager(*, smooth: bool = False) -> Model:
    """Give plain torch operations, one day after the other."""
    from perf_workloads.hbv.day import series

    return functools.partial(series, smooth=smooth)


def torchscript(*, smooth: bool = False) -> Model:
    """Give the whole loop compiled by ``torch.jit.script``."""
    import torch

    with warnings.catch_warnings():
        # Deprecated, and still what the published benchmark compares with.
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(eager(smooth=smooth).func)  # type: ignore[attr-defined]
    return functools.partial(scripted, smooth=smooth)


def compiled(*, smooth: bool = False) -> Model:
    """Give a loop over one day that ``torch.compile`` compiled: a graph of all days would take hours to compile."""
    import torch

    from perf_workloads.hbv.day import day

    one_day = torch.compile(day, fullgraph=True, dynamic=False)

    def model(precipitation: Any, temperature: Any, pet: Any, parameters: Any, initial: Any) -> tuple[Any, Any]:
        of_basin, storages, discharge = list(parameters.unbind(0)), list(initial.unbind(0)), []
        for forcing in zip(precipitation.unbind(0), temperature.unbind(0), pet.unbind(0), strict=True):
            q, storages = one_day(*forcing, storages, of_basin, smooth)
            discharge.append(q)
        return torch.stack(discharge), torch.stack(storages)

    return model


MODELS: dict[str, Callable[..., Model]] = {"eager": eager, "compile": compiled, "torchscript": torchscript}
