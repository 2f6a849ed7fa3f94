"""With which product would vLLM serve dense INT8 weights? Imports vLLM when it is asked."""

from __future__ import annotations

import importlib.util

from perf_workloads.slidesparse.products import EngineProduct


def vllm_product() -> EngineProduct | None:
    """Give vLLM's product of INT8 codes on an NVIDIA GPU; None where vLLM is not installed.

    Raises:
        ImportError: the installed vLLM has no such product.
    """
    if importlib.util.find_spec("vllm") is None:
        return None
    from vllm._custom_ops import cutlass_scaled_mm

    return EngineProduct("vLLM cutlass_scaled_mm", cutlass_scaled_mm)
