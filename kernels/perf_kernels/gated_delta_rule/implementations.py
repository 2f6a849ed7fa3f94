"""Which implementations of the gated delta rule are there? One signature over fla's and the references.

The choice is explicit and part of the result: an implementation that cannot run here is an error, never another one.
There is no kernel of ours: fla's are what users run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from perf_kernels.gated_delta_rule.reference import chunked_reference, recurrent_reference
from perf_kernels.linear_attention import default_implementation, installed_fla
from perf_kernels.linear_attention.arguments import KERNEL_TYPES, REFERENCE_TYPES, check_heads, check_tensor
from perf_kernels.linear_attention.implementations import require_gpu

#: Name -> what it is.
IMPLEMENTATIONS = {
    "fla_chunk": "fla's chunk_gated_delta_rule",
    "fla_fused_recurrent": "fla's fused_recurrent_gated_delta_rule, without gradients",
    "naive_chunk": "plain torch, chunk by chunk, in fp32 (fp64 for fp64 inputs)",
    "naive_recurrent": "plain torch, token by token, in fp32 (fp64 for fp64 inputs)",
}


class Attended(NamedTuple):
    """What came out, and of what.

    Attributes:
        output: [B, T, HV, V].
        final_state: [B, HV, K, V] after the last token, or None if it was not asked for.
        implementation: a key of :data:`IMPLEMENTATIONS`.
    """

    output: torch.Tensor
    final_state: torch.Tensor | None
    implementation: str


def gated_delta_rule(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    *,
    implementation: str | None = None,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    normalize_qk: bool = False,
) -> Attended:
    """Attend with the implementation that is named.

    Args:
        q: [B, T, H, K].
        k: [B, T, H, K], of the same type.
        v: [B, T, HV, V], of the same type, HV a multiple of H.
        g: [B, T, HV], logarithm of the decay.
        beta: [B, T, HV], strength of a write.
        implementation: a key of :data:`IMPLEMENTATIONS`; fla_chunk on a GPU and naive_chunk on a CPU by default.
        scale: factor of the outputs; ``K**-0.5`` by default.
        initial_state: [B, HV, K, V] fp32; zeros by default.
        output_final_state: give the state after the last token, too.
        normalize_qk: divide queries and keys by their length first.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: an unknown implementation, a shape or device that it cannot use, or gradients that it has not.
        ModuleNotFoundError: fla is asked for and not installed.
    """
    caller = "gated_delta_rule"
    name = default_implementation(q.device) if implementation is None else implementation
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"{caller}: implementation is {name!r}; it must be one of {', '.join(IMPLEMENTATIONS)}")
    naive = name.startswith("naive_")
    check_heads(caller, q, k, v, types=REFERENCE_TYPES if naive else KERNEL_TYPES, grouped=True)
    check_tensor(caller, "g", g, tuple(v.shape[:3]), q.device, fp32=False)
    check_tensor(caller, "beta", beta, tuple(v.shape[:3]), q.device, fp32=False)
    if initial_state is not None:
        shape = (v.shape[0], v.shape[2], q.shape[3], v.shape[3])
        check_tensor(caller, "initial_state", initial_state, shape, q.device)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    options: dict[str, Any] = {
        "scale": scale,
        "initial_state": initial_state,
        "output_final_state": output_final_state,
    }
    if naive:
        reference: Callable[..., Any] = chunked_reference if name == "naive_chunk" else recurrent_reference
        dtype = q.dtype if q.dtype == torch.float64 else torch.float32
        output, final = reference(q, k, v, g, beta, **options, normalize_qk=normalize_qk, dtype=dtype)
    else:
        require_gpu(caller, name, q)
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, g, beta))
        if name == "fla_fused_recurrent" and wanted:
            raise ValueError(
                f"{caller}: {name} has no gradients\nhint: choose fla_chunk, or call it in torch.no_grad()"
            )
        attend = installed_fla.function(
            caller, name, "fla.ops.gated_delta_rule", f"{name.removeprefix('fla_')}_gated_delta_rule"
        )
        # By name: fla's own functions do not agree on the order of g and beta.
        output, final = attend(q=q, k=k, v=v, g=g, beta=beta, use_qk_l2norm_in_kernel=normalize_qk, **options)
    return Attended(output.to(v.dtype), final if output_final_state else None, name)
