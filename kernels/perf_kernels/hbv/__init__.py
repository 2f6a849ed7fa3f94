"""How is the HBV rainfall-runoff model run over many basins, with gradients?"""

from __future__ import annotations

from perf_kernels.hbv.function import hbv
from perf_kernels.hbv.launch import LaunchConfig, bytes_moved, bytes_moved_backward, launch_config
from perf_kernels.hbv.reference import PARAMETERS, STATES, hbv_reference
from perf_kernels.hbv.routing import route, unit_hydrograph

__all__ = [
    "PARAMETERS",
    "STATES",
    "LaunchConfig",
    "bytes_moved",
    "bytes_moved_backward",
    "hbv",
    "hbv_reference",
    "launch_config",
    "route",
    "unit_hydrograph",
]
