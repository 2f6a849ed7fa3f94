"""SlideSparse: do 2:L sparse weights pay on 2:4 sparse hardware?

``shapes`` and ``schemes`` say which layers and which ways to keep their weights, ``products`` multiplies, ``linear`` is
the whole layer, ``cases`` prepares what is measured. Only ``shapes`` and ``schemes`` are imported here: the others
import torch and triton.
"""

from __future__ import annotations

from perf_workloads.slidesparse.schemes import SCHEMES, TO_BF16, Scheme
from perf_workloads.slidesparse.shapes import MODELS, TOKENS, Layer

__all__ = ["MODELS", "SCHEMES", "TOKENS", "TO_BF16", "Layer", "Scheme"]
