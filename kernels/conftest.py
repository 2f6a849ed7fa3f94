"""Run the kernels' tests for real on a GPU, and in Triton's interpreter on a machine without one.

Triton reads ``TRITON_INTERPRET`` when a kernel is defined, so it is set here, before any kernel is imported.
``HYPOTHESIS_PROFILE`` is ``ci`` (few examples, the same in each run) or ``gpu`` (many).
"""

import os
import warnings
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare what these tests can be asked."""
    parser.getgroup("perf_kernels", "tests of the kernels").addoption(
        "--undeclared-launches",
        action="store_true",
        help="warn of kernels that are launched in forms that no declared launch has (ragged sizes are, on purpose)",
    )


@pytest.fixture(scope="session", autouse=True)
def launches_that_are_never_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Warn of kernels that tests launch in forms that the static gate does not compile, where that was asked for."""
    if not request.config.getoption("--undeclared-launches", default=False):
        yield
        return
    from perfgate.static import tested
    from perfgate.static.launched import UndeclaredLaunch
    from perfgate.static.pool import shared

    with tested.watched() as forms:
        yield
    for line in tested.never_compiled(forms.values(), shared(), _target(), tuned=_has_gpu):
        warnings.warn(UndeclaredLaunch(line), stacklevel=1)


def _target() -> str:
    """Name the target that kernels are launched on here, or that the interpreter stands for."""
    from perfgate.static.targets import of_device

    if _has_gpu:
        from triton.runtime import driver

        current = driver.active.get_current_target()
        found = of_device(current.backend, current.arch)
        if found is not None:
            return found.name
    return "sm90"
