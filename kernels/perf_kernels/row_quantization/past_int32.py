"""How is row quantisation called where offsets pass 2**31?"""

from __future__ import annotations

from perf_kernels.index_width import Subject
from perf_kernels.row_quantization.inputs import random_rows
from perf_kernels.row_quantization.naive_twin import quantize_rows_naively
from perf_kernels.row_quantization.ops import quantize_rows
from perf_kernels.row_quantization.reference import quantize_rows_reference

SUBJECT = Subject(random_rows, quantize_rows, quantize_rows_naively, quantize_rows_reference)
