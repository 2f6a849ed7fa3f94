"""Is the function one operator in a compiled model, and what does it refuse?"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.linear_attention import chunk_linear_attention
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.linear_attention.ops import _attend
from perf_kernels.linear_attention.strategies import DEVICE
from perf_kernels.target import DEVICE_HINT
from perf_kernels.undeclared_tests import any_type_of_tokens, few_tokens

pytestmark = few_tokens


@any_type_of_tokens
def test_operator_is_registered_completely() -> None:
    q, k, v = (
        x.requires_grad_() for x in random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE, positive=True)
    )
    state, key_sum = random_state(1, 1, 16, 16, DEVICE, normalize=True)
    torch.library.opcheck(
        _attend,
        (q, k, v, 0.25, state, key_sum[:, 0], True, True, False, None),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_works_under_compile() -> None:
    inputs = random_heads(1, 20, 1, 16, dtype=torch.float32, device=DEVICE)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return chunk_linear_attention(q * 2, k, v)[0] + 1

    compiled = torch.compile(attend, backend=BACKEND, fullgraph=True)
    assert torch.equal(compiled(*inputs), attend(*inputs))


def test_wrong_arguments() -> None:
    q, k, v = random_heads(2, 3, 2, 16, 8, device=DEVICE)
    where = str(q.device)
    wide = torch.zeros(1, 1, 1, 257, device=DEVICE)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        (
            {"q": q.double()},
            TypeError,
            "q is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32",
        ),
        ({"k": k.half()}, TypeError, "k is torch.float16 and q is torch.bfloat16; they must be of one type"),
        ({"v": v[0]}, ValueError, "v has 3 dimensions; it must have 4: batch, tokens, heads and width"),
        ({"k": k[:, :2]}, ValueError, "k is [2, 2, 2, 16]; it must be [2, 3, 2, 16], as q is"),
        ({"v": v[:, :, :1]}, ValueError, "v is [2, 3, 1, 8]; it must be [2, 3, 2, any width]"),
        ({"q": wide, "k": wide, "v": wide}, ValueError, "keys are 257 wide; at most 256 are supported"),
        (
            {"q": wide[..., :0], "k": wide[..., :0], "v": wide},
            ValueError,
            "q is [1, 1, 1, 0]; keys must be at least 1 wide",
        ),
        ({"scale": 0}, ValueError, "scale is 0; gradients divide by it"),
        (
            {"initial_state": torch.zeros(2, 2, 16, 9, device=DEVICE)},
            ValueError,
            f"initial_state is [2, 2, 16, 9] torch.float32 on {where}; "
            f"it must be [2, 2, 16, 8] torch.float32 on {where}",
        ),
        (
            {"initial_state": torch.zeros(2, 2, 16, 8, device=DEVICE), "normalize": True},
            TypeError,
            "initial_state is one tensor; with normalize=True it must be a tuple of the state and the sum of keys",
        ),
        (
            {"initial_state": (q, k)},
            TypeError,
            "initial_state is tuple; with normalize=False it must be one tensor",
        ),
        (
            {"q": q.to("meta"), "k": k.to("meta"), "v": v.to("meta")},
            ValueError,
            f"q is on meta; {DEVICE_HINT}",
        ),
        ({"k": k.to("meta")}, ValueError, f"k is on meta and q on {where}; they must be on one device"),
    ]
    for changed, error, message in wrong:
        with pytest.raises(error) as caught:
            chunk_linear_attention(**{"q": q, "k": k, "v": v, **changed})
        assert str(caught.value) == f"chunk_linear_attention: {message}"
