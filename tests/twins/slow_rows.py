"""A pytest plugin that slows row quantisation by a share of itself: ``pytest -p slow_rows`` with ``TWIN_SHARE=0.03``.

The extra work is rows: each matrix gets that many more behind its last one, and the same launch quantises them too.
"""

from __future__ import annotations

import math
import os

import pytest

SHARE = float(os.environ.get("TWIN_SHARE", "0.03"))


def pytest_configure(config):
    import perf_kernels.row_quantization as package
    from perf_kernels.row_quantization import inputs

    random_rows, quantize_rows = inputs.random_rows, package.quantize_rows

    def longer(rows, *args, **kwargs):
        return random_rows(math.ceil(rows * (1 + SHARE)), *args, **kwargs)[:rows]

    def slower(x, *args, **kwargs):
        rows, width = x.shape
        q, scale = quantize_rows(x.as_strided((math.ceil(rows * (1 + SHARE)), width), x.stride()), *args, **kwargs)
        return q[:rows], scale[:rows]

    inputs.random_rows, package.quantize_rows = longer, slower


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    # The results of the extra rows need memory too. Time alone shall be what gives this twin away.
    for item in items:
        item.add_marker(pytest.mark.perf(memory="50%"), append=False)
