"""Are the tokens right, and how far are the logits from those of full precision?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def greedy_gap(model: Any, input_ids: Any, tokens: Sequence[Sequence[int]]) -> float:
    """Tell how far the generated tokens are from the greedy choice, without the cache that generated them.

    One pass over prompts and tokens gives the logits that each token was chosen from. The result is the largest
    shortfall of a chosen token's logit below the best one, in standard deviations of that step's logits: 0 when every
    choice agrees, rounding where two logits nearly tie, around 4 for a token chosen at random.

    Args:
        model: the model, with the weights that generated.
        input_ids: [B, n].
        tokens: new tokens of each sequence.
    """
    import torch

    chosen = torch.tensor(tokens, device=input_ids.device)
    with torch.no_grad():
        logits = model(torch.cat([input_ids, chosen[:, :-1]], dim=1), use_cache=False).logits
    steps = logits[:, input_ids.shape[1] - 1 :].float()
    shortfall = steps.max(dim=-1).values - steps.gather(-1, chosen[:, :, None])[:, :, 0]
    return float((shortfall / steps.std(dim=-1)).max())


def prompt_logits(model: Any, input_ids: Any) -> Any:
    """Give the logits [B, n, V] of every position of the prompts, fp32 on the CPU."""
    import torch

    with torch.no_grad():
        return model(input_ids, use_cache=False).logits.float().cpu()


def logit_error(logits: Any, reference: Any) -> float:
    """Give the root mean square of the difference, in standard deviations of the reference's logits.

    Args:
        logits: [..., V], fp32.
        reference: logits of the same weights in fp32, before they were quantised.

    Raises:
        ValueError: the shapes differ, or a logit is not finite.
    """
    import torch

    if logits.shape != reference.shape:
        raise ValueError(f"logits are {list(logits.shape)}, those of the reference {list(reference.shape)}")
    with torch.no_grad():
        error = float((logits - reference).square().mean().sqrt() / reference.std())
    if not error < float("inf"):
        raise ValueError("there are logits that are no finite numbers")
    return error
