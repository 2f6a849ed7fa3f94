"""How does vLLM learn of our method of quantisation? Through its entry point ``vllm.general_plugins``.

vLLM calls ``register`` in each of its processes, maybe more than once. A model is served with it when its
``config.json`` says so (:func:`perf_workloads.slidesparse.serving.models.quantization_config`), for example::

    LLM(folder, load_format="dummy", hf_overrides={"quantization_config": {"quant_method": "slidesparse",
        "scheme": "int8-2_8"}})

Imports nothing heavy.
"""

from __future__ import annotations

from perf_workloads.slidesparse.serving.models import METHOD


def register() -> None:
    """Make the method known to vLLM; it must be installed."""
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, register_quantization_config

    if METHOD in QUANTIZATION_METHODS:
        return
    from perf_workloads.slidesparse.serving import quantization

    register_quantization_config(METHOD)(quantization.SlideSparseConfig)
