"""BitNet b1.58: ternary weights in five forms, a model made of them, and the complete report of one generation.

Importing this package imports neither torch nor transformers; calling it does.
"""

from __future__ import annotations

from perf_workloads.bitnet.models import BitnetSetup, load
from perf_workloads.bitnet.sampling import Sampling
from perf_workloads.bitnet.shapes import LAYERS, METHODS, MODELS

__all__ = ["LAYERS", "METHODS", "MODELS", "BitnetSetup", "Sampling", "load"]
