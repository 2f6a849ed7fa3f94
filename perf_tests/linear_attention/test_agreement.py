"""Do all implementations of a mixer compute the same decoder? Logits and gradients beside those of the definition.

The definition is plain torch in fp32: the math backend, and the recurrences token by token. On a GPU fla computes in
bf16 beside it, as it is trained.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import grid, skip_unless_it_runs
from perf_workloads.attention.config import decoder

#: Not a multiple of a chunk of 64.
TOKENS = 100
VOCABULARY = 64
#: Relative RMS of logits and of all gradients. bf16 keeps 8 bits, and two layers round many times.
ERRORS = {"cuda": (0.03, 0.08), "cpu": (1e-4, 1e-3)}
DEFINITIONS = {"softmax": "math", "linear": "naive_recurrent", "gated_deltanet": "naive_recurrent"}


@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
@pytest.mark.parametrize(("device", "row"), [*grid("cuda"), *grid("cpu")])
def test_agreement(benchmark: Any, torch: ModuleType, device: str, row: str) -> None:
    from perf_kernels.linear_attention import relative_rms
    from perf_workloads.attention.decoder import build
    from perf_workloads.attention.training import logits
    from perf_workloads.attention.verify import assert_implementation

    config = decoder(row, device, vocabulary=VOCABULARY, positions=TOKENS, layers=2, dropout=0.0)
    skip_unless_it_runs(config)
    benchmark.note("mixer", config.implementation)
    definition = replace(config, implementation=DEFINITIONS[config.mixer])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (2, TOKENS), generator=generator).to(device)
    weight = torch.randn((2, TOKENS, VOCABULARY), generator=generator).to(device)

    model, reference = build(config, device), build(definition, device)
    found, expected = logits(model, ids), reference(ids)

    benchmark.profile(lambda: logits(model, ids))
    assert_implementation(lambda: logits(model, ids), config)
    allowed_output, allowed_gradient = ERRORS[device]
    error = relative_rms(found, expected)
    assert error <= allowed_output
    benchmark.report("output_rms", error)
    benchmark.progress("outputs agree, comparing gradients")
    gradients = [
        torch.cat([gradient.flatten().float() for gradient in gradients_of(each, output, weight)])
        for each, output in ((model, found), (reference, expected))
    ]
    error = relative_rms(*gradients)
    assert error <= allowed_gradient
    benchmark.report("gradient_rms", error)


def gradients_of(model: Any, outputs: Any, weight: Any) -> Any:
    """Give the gradients of all parameters for a weighted sum of the outputs."""
    import torch

    return torch.autograd.grad((outputs.float() * weight).sum(), list(model.parameters()))
