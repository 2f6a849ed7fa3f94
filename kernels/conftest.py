"""Run the kernels' tests for real on a GPU, and in Triton's interpreter on a machine without one.

Triton reads ``TRITON_INTERPRET`` when a kernel is defined, so it is set here, before any kernel is imported.
``HYPOTHESIS_PROFILE`` is ``ci`` (few examples, the same in each run) or ``gpu`` (many).
"""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from perfgate.static import undeclared
from perfgate.static.targets import of_device

_has_gpu = torch.cuda.is_available()
if not _has_gpu:
    os.environ["TRITON_INTERPRET"] = "1"

# What fails in these is told as it is in a test.
pytest.register_assert_rewrite(*(f"perf_kernels.{name}_tests" for name in ("index_width", "quantizer", "row")))

_slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True, suppress_health_check=_slow)
settings.register_profile("gpu", max_examples=150, deadline=None, suppress_health_check=_slow)
# Under a name of their own: a profile loaded here would also hold for the plugin's tests.
_chosen = os.environ.get("HYPOTHESIS_PROFILE", "gpu" if _has_gpu else "ci")
settings.register_profile("perf_kernels", parent=settings.get_profile(_chosen))

if os.environ.get("TRITON_INTERPRET") == "1":
    from perf_kernels.interpreter import round_as_a_gpu

    round_as_a_gpu()


def pytest_configure(config: pytest.Config) -> None:
    """Fail tests that launch kernels as the static gate never compiles them, unless a marker of theirs says why.

    On a GPU they are warned of: launchers choose what was tuned for it.
    """
    undeclared.register(config, Path(__file__).parent, _target, strict=not _has_gpu)


def _target() -> str | None:
    """Name the target that kernels are launched on here, or that the interpreter stands for."""
    if not _has_gpu:
        return "sm90"
    from triton.runtime import driver

    current = driver.active.get_current_target()
    found = of_device(current.backend, current.arch)
    return found.name if found is not None else None
