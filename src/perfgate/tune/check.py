"""Do two configurations of a kernel give the same results? Compared bit by bit, on memory that held something else."""

from __future__ import annotations

from typing import Any


def bit_equal(expected: Any, got: Any) -> str:
    """Compare tensors, or tuples or dicts of them, byte by byte; say what differs, or nothing."""
    import torch
    from torch.utils import _pytree as pytree

    theirs, ours = pytree.tree_leaves(expected), pytree.tree_leaves(got)
    if len(theirs) != len(ours):
        return f"{len(ours)} results instead of {len(theirs)}"
    for number, (want, have) in enumerate(zip(theirs, ours, strict=True)):
        which = f"result {number}: " if len(theirs) > 1 else ""
        if not isinstance(want, torch.Tensor) or not isinstance(have, torch.Tensor):
            if want != have:
                return f"{which}{have!r} instead of {want!r}"
            continue
        if want.shape != have.shape or want.dtype != have.dtype:
            return f"{which}{list(have.shape)} {have.dtype} instead of {list(want.shape)} {want.dtype}"
        if not torch.equal(_bytes(want), _bytes(have)):
            wrong = (_bytes(want) != _bytes(have)).reshape(want.numel(), -1).any(dim=1).sum().item()
            return f"{which}{wrong} of {want.numel()} elements differ from the default's"
    return ""


def close(expected: Any, got: Any, *, relative: float) -> str:
    """Compare tensors, or tuples of them, by the largest difference over the largest magnitude of each.

    For configurations that add in another order.

    Args:
        expected: the default's results.
        got: the results of another configuration.
        relative: the largest share of the largest magnitude that is allowed.
    """
    import torch
    from torch.utils import _pytree as pytree

    theirs, ours = pytree.tree_leaves(expected), pytree.tree_leaves(got)
    if len(theirs) != len(ours):
        return f"{len(ours)} results instead of {len(theirs)}"
    for number, (want, have) in enumerate(zip(theirs, ours, strict=True)):
        which = f"result {number}: " if len(theirs) > 1 else ""
        if want.shape != have.shape or want.dtype != have.dtype:
            return f"{which}{list(have.shape)} {have.dtype} instead of {list(want.shape)} {want.dtype}"
        if not want.numel():
            continue
        scale = want.abs().max().double().clamp_min(torch.finfo(torch.float64).tiny)
        share = ((want.double() - have.double()).abs().max() / scale).item()
        # Written so that a NaN fails.
        if not share <= relative:
            return f"{which}differs from the default's by {share:.3g} of the largest value, {relative:.3g} is allowed"
    return ""


def spoil(results: Any) -> None:
    """Fill memory of the results' sizes and free it, so that a kernel that writes nothing finds no right result."""
    import torch
    from torch.utils import _pytree as pytree

    tensors = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    # All of them at once: one after the other would fill the same memory again and again.
    spoiled = [
        torch.empty(leaf.numel() * leaf.element_size(), dtype=torch.uint8, device=leaf.device) for leaf in tensors
    ]
    for memory in spoiled:
        memory.fill_(0xA5)


def _bytes(tensor: Any) -> Any:
    import torch

    return tensor.contiguous().reshape(-1).view(torch.uint8)
