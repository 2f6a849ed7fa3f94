"""Which models are served, and how does an engine get one without a hub? From a folder with nothing but its config.

Imports nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from perf_workloads.slidesparse.schemes import DEFAULT_EPILOGUE, GROUPS, SCHEMES, TO_BF16, Scheme

#: What vLLM calls our method of quantisation.
METHOD = "slidesparse"
#: Ways to serve a model: as it is, in every scheme of ours, and by vLLM's own INT8 layers.
UNQUANTISED, VLLM_INT8 = "bf16", "vllm-int8"
SERVED = (UNQUANTISED, *SCHEMES, *TO_BF16, VLLM_INT8)
#: Of those the ones of the published run, sparse ones in the form that is the default, and dense FP8.
COMPARED = (
    UNQUANTISED,
    "int8-dense",
    "fp8-dense",
    *(Scheme("int8", group, DEFAULT_EPILOGUE).name for group in GROUPS),
)
#: Those that have cases: sparse INT8 in both forms, and vLLM's own.
IN_CASES = tuple(dict.fromkeys((*COMPARED, *(scheme.exact.name for scheme in TO_BF16.values()), *TO_BF16, VLLM_INT8)))

_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "use_sliding_window": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_LLAMA_32 = {
    **_LLAMA,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": True,
}
_QWEN_25 = {
    **_QWEN,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
}
_TINY = {
    "vocab_size": 128,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def _sizes(hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int, head: int) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "head_dim": head,
    }


#: Configurations as ``config.json`` has them, by name. The tiny ones are for engines on a CPU.
CONFIGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Llama3.2-1B": {**_LLAMA_32, **_sizes(2048, 8192, 16, 32, 8, 64)},
        "Llama3.2-3B": {**_LLAMA_32, **_sizes(3072, 8192, 28, 24, 8, 128)},
        "Qwen2.5-7B": {**_QWEN_25, **_sizes(3584, 18944, 28, 28, 4, 128)},
        "Qwen2.5-14B": {**_QWEN_25, **_sizes(5120, 13824, 48, 40, 8, 128)},
        "tiny-llama": {**_LLAMA, **_TINY, **_sizes(128, 240, 2, 4, 2, 32)},
        "tiny-qwen2": {**_QWEN, **_TINY, **_sizes(128, 240, 2, 4, 2, 32)},
    }
)
#: The models of the published run.
PUBLISHED = ("Llama3.2-1B", "Llama3.2-3B", "Qwen2.5-7B", "Qwen2.5-14B")
TINY = ("tiny-llama", "tiny-qwen2")


def quantization_config(scheme: str, *, stored: bool = False, prune: bool = True) -> dict[str, Any] | None:
    """Give what ``config.json`` says of a scheme under ``quantization_config``; None for one that needs nothing.

    Args:
        scheme: one of ``SERVED``.
        stored: whether the checkpoint holds codes; else float weights are converted when they are loaded.
        prune: whether weights that are converted then are pruned first.
    """
    if scheme == UNQUANTISED:
        return None
    if scheme == VLLM_INT8:
        weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
        activations = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
        group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
        return {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": group},
        }
    return {"quant_method": METHOD, "scheme": scheme, "stored": stored, "prune": prune}


def write_model(folder: Path, model: str, scheme: str) -> Path:
    """Write the folder that an engine loads a model with random weights from: ``folder/model-scheme/config.json``.

    Returns:
        The model's folder.
    """
    config = dict(CONFIGS[model])
    if (quantization := quantization_config(scheme)) is not None:
        config["quantization_config"] = quantization
    place = folder / f"{model}-{scheme}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config, indent=2))
    return place
