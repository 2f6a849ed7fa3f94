"""How does one fit HBV to a measured discharge? An example to start from.

``PYTHONPATH=src:kernels python -m perf_workloads.hbv.example`` invents catchments, fits the fused kernels to their
discharge on a GPU (the eager loop on a CPU), and prints how well that went.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from perf_workloads.hbv.fit import fit, synthetic_catchments
from perf_workloads.hbv.models import MODELS

#: Steps between two lines of progress.
_EVERY = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Read options, fit, print."""
    # The bounds are those of HBV 1.1p; a sigmoid keeps every parameter within its own.
    from perf_kernels.hbv.inputs import RANGES  # type: ignore[import-not-found, unused-ignore]

    parser = argparse.ArgumentParser(prog="python -m perf_workloads.hbv.example", description=__doc__)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--days", type=int, default=365 if on_gpu else 120)
    parser.add_argument("--catchments", type=int, default=256 if on_gpu else 4)
    parser.add_argument("--steps", type=int, default=80 if on_gpu else 40)
    options = parser.parse_args(arguments)

    bounds = list(RANGES.values())
    catchments, true_parameters = synthetic_catchments(options.days, options.catchments, bounds)
    model = MODELS["fused" if on_gpu else "eager"]()

    def report(step: int, loss: float) -> None:
        if step % _EVERY == 0:
            print(f"step {step:3d}: loss {loss:.4f}")

    found = fit(model, catchments.to("cuda" if on_gpu else "cpu"), bounds, steps=options.steps, report=report)

    efficiency = found.efficiency.cpu()
    print(f"Nash-Sutcliffe efficiency: median {efficiency.median():.3f}, worst {efficiency.min():.3f}")
    print("parameter   true  fitted   (of the first catchment: several sets of parameters give the same discharge)")
    for row, name in enumerate(RANGES):
        print(f"{name:9s} {true_parameters[row, 0]:6.3g}  {found.parameters[row, 0]:6.3g}")


if __name__ == "__main__":
    main()
