"""What must an engine give for a tiny model? Checkpoints of random weights, and transformers on the same weights.

For a scheme, the linear layers of transformers' model are replaced by dense layers of ours with the scheme's codes, on
pruned weights where the scheme is sparse: what a slid engine must equal, without a slide.

Imports torch and transformers: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.linear import SlideLinear
from perf_workloads.slidesparse.serving import models

#: Large enough that tokens differ in probability by more than rounding.
_DEVIATION = 0.08


def save_checkpoint(folder: Path, model: str, seed: int = 0, shard: str = "50GB") -> Path:
    """Write a checkpoint of random fp32 weights, as transformers does, and give its folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    built = AutoModelForCausalLM.from_config(AutoConfig.for_model(**models.CONFIGS[model])).float()
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 2 or not parameter.any():
                parameter.normal_(std=_DEVIATION)
    built.save_pretrained(folder, max_shard_size=shard)
    return folder


def prune_checkpoint(source: Path, folder: Path, scheme: str) -> Path:
    """Write the checkpoint with the linear layers' weights pruned as a scheme does, still as floats."""
    from transformers import AutoModelForCausalLM

    from perf_kernels.sparse_weights import prune_weight

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    group = schemes.find(scheme).group
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_proj.weight"):
                parameter.copy_(prune_weight(parameter, group))
    model.save_pretrained(folder)
    return folder


def expected_logprobs(
    folder: Path, scheme: str, prompts: Sequence[Sequence[int]], generated: Sequence[Sequence[int]]
) -> list[Any]:
    """Give, for each prompt, the log-probabilities [steps, vocabulary] after the prompt and each generated token.

    Args:
        folder: of the checkpoint with float weights.
        scheme: one of ``models.SERVED``.
        prompts: token ids.
        generated: token ids that followed.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if scheme != models.UNQUANTISED:
        _replace_linear_layers(model, schemes.find(scheme))
    found = []
    with torch.no_grad():
        for prompt, new in zip(prompts, generated, strict=True):
            logits = model(torch.tensor([[*prompt, *new[:-1]]])).logits[0, len(prompt) - 1 :]
            found.append(logits.float().log_softmax(dim=-1))
    return found


def _replace_linear_layers(model: Any, scheme: schemes.Scheme) -> None:
    from perf_kernels.sparse_weights import prune_weight

    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if not name.endswith("_proj"):
                continue
            weight = layer.weight.data
            if scheme.group is not None:
                weight = prune_weight(weight, scheme.group)
            bias = None if layer.bias is None else layer.bias.data
            setattr(parent, name, SlideLinear(weight, scheme.dense, bias))
