"""Which implementations of linear attention are there? One signature over ours, fla's and the references.

The choice is explicit and part of the result: an implementation that cannot run here is an error, never another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from perf_kernels.linear_attention import installed_fla
from perf_kernels.linear_attention.arguments import KERNEL_TYPES, REFERENCE_TYPES, State, check_heads, unpack_state
from perf_kernels.linear_attention.ops import chunk_linear_attention
from perf_kernels.linear_attention.reference import chunked_reference, recurrent_reference

#: Name -> what it is.
IMPLEMENTATIONS = {
    "chunk": "our chunked Triton kernel",
    "fla_chunk": "fla's chunk_linear_attn",
    "fla_fused_chunk": "fla's fused_chunk_linear_attn",
    "fla_fused_recurrent": "fla's fused_recurrent_linear_attn",
    "naive_chunk": "plain torch, chunk by chunk, in fp32 (fp64 for fp64 inputs)",
    "naive_recurrent": "plain torch, token by token, in fp32 (fp64 for fp64 inputs)",
}


class Attended(NamedTuple):
    """What came out, and of what.

    Attributes:
        output: [B, T, H, V].
        final_state: after the last token, or None if it was not asked for.
        implementation: a key of :data:`IMPLEMENTATIONS`.
    """

    output: torch.Tensor
    final_state: Any
    implementation: str


def default_implementation(device: torch.device) -> str:
    """Give what runs if nothing is chosen: fla's chunked kernel on a GPU, plain torch on a CPU."""
    return "fla_chunk" if device.type == "cuda" else "naive_chunk"


def linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    implementation: str | None = None,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    normalize: bool = False,
) -> Attended:
    """Attend causally with the implementation that is named.

    Args:
        q: [B, T, H, K].
        k: [B, T, H, K], of the same type.
        v: [B, T, H, V], of the same type.
        implementation: a key of :data:`IMPLEMENTATIONS`; :func:`default_implementation` by default.
        scale: factor of the scores; ``K**-0.5`` by default.
        initial_state: [B, H, K, V] fp32; for ``normalize`` a tuple of that and the sum of earlier keys [B, 1, H, K].
        output_final_state: give the state after the last token, of the same form, too.
        normalize: divide by ``scale q_t . (sum of keys up to t) + 1e-10``. (fla's chunked functions do by default, its
            recurrent one does not; here all are alike.)

    Raises:
        TypeError: a data type that is not supported, or a state of the wrong form.
        ValueError: an unknown implementation, or a shape or device that it cannot use.
        ModuleNotFoundError: fla is asked for and not installed.
    """
    caller = "linear_attention"
    name = default_implementation(q.device) if implementation is None else implementation
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"{caller}: implementation is {name!r}; it must be one of {', '.join(IMPLEMENTATIONS)}")
    naive = name.startswith("naive_")
    check_heads(caller, q, k, v, types=REFERENCE_TYPES if naive else KERNEL_TYPES)
    state, key_sum = unpack_state(caller, initial_state, q, v, normalize=normalize)
    options: dict[str, Any] = {
        "scale": q.shape[-1] ** -0.5 if scale is None else scale,
        "initial_state": (state, key_sum) if key_sum is not None else state,
        "output_final_state": output_final_state,
        "normalize": normalize,
    }
    if name == "chunk":
        output, final = chunk_linear_attention(q, k, v, **options)
    elif naive:
        reference: Callable[..., Any] = chunked_reference if name == "naive_chunk" else recurrent_reference
        output, final = reference(q, k, v, **options, dtype=q.dtype if q.dtype == torch.float64 else torch.float32)
    else:
        require_gpu(caller, name, q)
        attend = installed_fla.function(caller, name, "fla.ops.linear_attn", f"{name.removeprefix('fla_')}_linear_attn")
        output, final = attend(q, k, v, **options)
    # fla gives a final state, or half of one, where none was asked for.
    return Attended(output.to(v.dtype), final if output_final_state else None, name)


def require_gpu(caller: str, implementation: str, q: torch.Tensor) -> None:
    """Refuse to call fla's kernels where they cannot run.

    Raises:
        ValueError: ``q`` is not on a GPU.
    """
    if q.device.type != "cuda":
        raise ValueError(
            f"{caller}: {implementation} runs on a GPU, and q is on {q.device}\n"
            "hint: on a CPU choose naive_chunk or naive_recurrent"
        )
