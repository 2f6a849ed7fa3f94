"""How is slide quantisation called where offsets pass 2**31?"""

from __future__ import annotations

from functools import partial

import torch

from perf_kernels.index_width import Subject
from perf_kernels.slide_quantization.inputs import random_rows
from perf_kernels.slide_quantization.launch import padded_rows, slid_width
from perf_kernels.slide_quantization.naive_twin import naive_slide
from perf_kernels.slide_quantization.ops import slide_quantize_rows
from perf_kernels.slide_quantization.reference import slide_quantize_rows_reference

GROUP = 8


def _naive(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
    naive_slide(x, GROUP, q, scale)


def _shape(rows: int, width: int) -> tuple[int, int]:
    return padded_rows(rows), slid_width(width, GROUP)


SUBJECT = Subject(
    random_rows,
    partial(slide_quantize_rows, group=GROUP),
    _naive,
    partial(slide_quantize_rows_reference, group=GROUP),
    _shape,
)
