"""Which rows of values are kernels timed and checked on?"""

from __future__ import annotations

import torch


def random_rows(
    rows: int,
    width: int,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> torch.Tensor:
    """Draw activations ~ N(0, 1), ``[rows, width]``, contiguous: the same for the same seed, device and software."""
    generator = torch.Generator(device=device).manual_seed(seed)
    return torch.randn((rows, width), dtype=dtype, device=device, generator=generator)


def awkward_rows(width: int, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> torch.Tensor:
    """Give ``[len(AWKWARD), width]``: one row for each name in :data:`AWKWARD`, in that order."""
    limits = torch.finfo(dtype)
    normal = random_rows(len(AWKWARD), width, torch.float32, "cpu", seed)
    rows = dict(zip(AWKWARD, normal, strict=True))
    rows["zero"] = torch.zeros(width)
    rows["negative zero"] = torch.full((width,), -0.0)
    rows["smallest subnormal"] = rows["smallest subnormal"].sign() * limits.smallest_normal * limits.eps
    rows["subnormal"] = rows["subnormal"].clamp(-4, 4) / 4 * limits.smallest_normal
    rows["tiny"] = rows["tiny"].clamp(-4, 4) / 4 / 600
    rows["largest finite"] = rows["largest finite"].sign() * limits.max
    rows["outlier"][width // 2] = 1000.0
    rows["all equal"] = torch.full((width,), -0.7)
    rows["half of the largest"] = torch.where(
        torch.arange(width) == 0, 1.8984375, rows["half of the largest"].sign() * 0.94921875
    )
    rows["infinity"][0] = torch.inf
    rows["negative infinity"][width - 1] = -torch.inf
    rows["nan"][width // 2] = torch.nan
    rows["infinity and nan"][0], rows["infinity and nan"][width - 1] = -torch.inf, torch.nan
    return torch.stack([rows[name] for name in AWKWARD]).to(dtype).to(device)


#: Names of the rows of :func:`awkward_rows`; the last four are not finite.
AWKWARD = (
    "zero",
    "negative zero",
    "smallest subnormal",
    "subnormal",
    "tiny",
    "largest finite",
    "outlier",
    "all equal",
    "half of the largest",
    "infinity",
    "negative infinity",
    "nan",
    "infinity and nan",
)
FINITE = len(AWKWARD) - 4
