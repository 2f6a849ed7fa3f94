"""Which ways of running HBV are compared: the fused kernels, eager, compiled day by day, TorchScript?

All take and give tensors as the fused kernels do, ``[days, basins]``, so that layout plays no part in a comparison.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

#: Discharge [T, B] and storages [5, B] from three forcings [T, B], parameters [14, B] and initial storages [5, B].
Model = Callable[..., tuple[Any, Any]]


def fused(*, smooth: bool = False) -> Model:
    """Give the kernels that run all days in one launch, and their gradients in one more; on a GPU."""
    from perf_kernels.hbv import hbv  # type: ignore[import-not-found, unused-ignore]

    def model(precipitation: Any, temperature: Any, pet: Any, parameters: Any, initial: Any) -> tuple[Any, Any]:
        q, storages = hbv(precipitation, temperature, pet, parameters, initial=initial, smooth=smooth)
        return q, storages

    return model


def eager(*, smooth: bool = False) -> Model:
    """Give plain torch operations, one day after the other."""
    from perf_workloads.hbv.day import series

    return functools.partial(series, smooth=smooth)


def torchscript(*, smooth: bool = False) -> Model:
    """Give the whole loop compiled by ``torch.jit.script``; each call of this function compiles it anew."""
    import torch

    from perf_workloads.hbv.day import series

    # Otherwise torch gives the function that was compiled first, specialised for the model and the sizes of its calls.
    series.__disable_jit_function_caching__ = True  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # Deprecated, and still what the published benchmark compares with.
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(series)
    return functools.partial(scripted, smooth=smooth)


def compiled(*, smooth: bool = False, backend: str = "inductor") -> Model:
    """Give a loop over one day that ``torch.compile`` compiled: a graph of all days would take hours to compile.

    It is compiled once for each number of basins. The first day runs eagerly: its storages want no gradients yet, which
    would be a second graph for one day.
    """
    import torch

    from perf_workloads.hbv.day import day

    def whole_day(p: Any, t: Any, pet: Any, storages: list[Any], parameters: Any) -> tuple[Any, list[Any]]:
        # Taken apart in here, the parameters have one gradient to be summed up over the days, and not fourteen.
        return day(p, t, pet, storages, list(parameters.unbind(0)), smooth)

    one_day = torch.compile(whole_day, fullgraph=True, dynamic=False, backend=backend)

    def model(precipitation: Any, temperature: Any, pet: Any, parameters: Any, initial: Any) -> tuple[Any, Any]:
        storages = list(initial.unbind(0))
        discharge: list[Any] = []
        for forcing in zip(precipitation.unbind(0), temperature.unbind(0), pet.unbind(0), strict=True):
            q, storages = (one_day if discharge else whole_day)(*forcing, storages, parameters)
            discharge.append(q)
        return torch.stack(discharge), torch.stack(storages)

    return model


MODELS: dict[str, Callable[..., Model]] = {
    "fused": fused,
    "eager": eager,
    "compile": compiled,
    "torchscript": torchscript,
}
