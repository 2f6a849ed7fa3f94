"""What must the gated delta rule compute? Plain torch, readable, token by token and chunk by chunk.

``S = exp(g_t) S``, ``u = beta_t (v_t - S^T k_t)``, ``S = S + k_t u^T``, ``o_t = scale S^T q_t``; q and k are
divided by their length if asked for (Gated Delta Networks, arXiv 2412.06464). Inputs are fla's: ``q, k: [B, T, H, K]``,
``v: [B, T, HV, V]`` and ``g, beta: [B, T, HV]`` with HV a multiple of H; each head of q and k serves HV / H of v.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

#: Added to the squared length that a query or key is divided by.
EPSILON = 1e-6


def recurrent_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    normalize_qk: bool = False,
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend token by token.

    Args:
        q: [B, T, H, K].
        k: [B, T, H, K].
        v: [B, T, HV, V].
        g: [B, T, HV], logarithm of the decay, at most 0.
        beta: [B, T, HV], strength of a write, 0 to 1.
        scale: ``K**-0.5`` by default.
        initial_state: [B, HV, K, V]; zeros by default.
        output_final_state: give the state after the last token, too.
        normalize_qk: divide queries and keys by their length first.
        dtype: type in which all is computed and returned.

    Returns:
        The outputs [B, T, HV, V] and the final state [B, HV, K, V] or None, in ``dtype``.
    """
    q, k, v, g, beta, s = _prepare(q, k, v, g, beta, scale, initial_state, normalize_qk, dtype)
    rows = []
    for t in range(q.shape[2]):
        key = k[:, :, t, :, None]
        s = s * g[:, :, t, None, None].exp()
        u = beta[:, :, t, None] * (v[:, :, t] - (s * key).sum(dim=2))
        s = s + key * u[:, :, None, :]
        rows.append((s * q[:, :, t, :, None]).sum(dim=2))
    output = torch.stack(rows, dim=1) if rows else v.transpose(1, 2)
    return output, s if output_final_state else None


def chunked_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    normalize_qk: bool = False,
    *,
    chunk: int = 64,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend chunk by chunk; otherwise as :func:`recurrent_reference`, for a finite g.

    Within a chunk that starts from S, with G the running sum of g, the writes u solve the triangular system
    ``u_i + beta_i sum_{j<i} exp(G_i - G_j) (k_i . k_j) u_j = beta_i (v_i - exp(G_i) S^T k_i)``.
    A key or write that is not finite spreads over all tokens of its chunk, and not over later ones alone.
    """
    tokens = q.shape[1]
    q, k, v, g, beta, s = _prepare(q, k, v, g, beta, scale, initial_state, normalize_qk, dtype)
    # Tokens of zeros with g = 0 after the last one change nothing.
    missing = -tokens % chunk
    q, k, v = (pad(x, (0, 0, 0, missing)) for x in (q, k, v))
    g, beta = (pad(x, (0, missing)) for x in (g, beta))
    causal = torch.ones((chunk, chunk), dtype=torch.bool, device=q.device).tril()
    rows = []
    for start in range(0, tokens, chunk):
        part = slice(start, start + chunk)
        cq, ck, cv, strength = q[:, :, part], k[:, :, part], v[:, :, part], beta[:, :, part, None]
        total = g[:, :, part].cumsum(dim=2)
        decay = (total[..., :, None] - total[..., None, :]).masked_fill(~causal, -torch.inf).exp()
        since_start = total[..., None].exp()
        system = strength * decay * (ck @ ck.mT)
        wanted = strength * (cv - since_start * (ck @ s))
        # unitriangular: the diagonal is taken to be 1, whatever it holds.
        u = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        rows.append(since_start * (cq @ s) + (decay * (cq @ ck.mT)) @ u)
        to_end = (total[..., -1:] - total).exp()[..., None]
        s = s * since_start[..., -1:, :] + (ck * to_end).mT @ u
    output = torch.cat(rows, dim=2)[:, :, :tokens].transpose(1, 2) if rows else v.transpose(1, 2)
    return output, s if output_final_state else None


def _prepare(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    scale: float | None,
    initial_state: torch.Tensor | None,
    normalize_qk: bool,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, ...]:
    """Give q (scaled), k, v, g, beta and the state with heads before tokens, as many of q and k as of v."""
    q, k, v, g, beta = (x.to(dtype).transpose(1, 2) for x in (q, k, v, g, beta))
    if normalize_qk:
        q, k = (x * (x.square().sum(dim=-1, keepdim=True) + EPSILON).rsqrt() for x in (q, k))
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    if v.shape[1] != q.shape[1]:
        q, k = (x.repeat_interleave(v.shape[1] // q.shape[1], dim=1) for x in (q, k))
    zeros = (*v.shape[:2], q.shape[3], v.shape[3])
    state = v.new_zeros(zeros) if initial_state is None else initial_state.to(dtype)
    return q, k, v, g, beta, state
