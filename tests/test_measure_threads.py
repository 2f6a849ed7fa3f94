"""How many threads does a timed CPU case use?"""

from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

import pytest
import threadpoolctl

from perfgate.measure.threads import pinned


class Torch(types.ModuleType):
    """A torch of six threads."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.threads = 6

    def get_num_threads(self) -> int:
        return self.threads

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads


class Limits:
    """What threadpoolctl gives: a BLAS of eight threads, and an OpenMP that cannot be set."""

    calls: ClassVar[list[Any]] = []

    def __init__(self, limits: int) -> None:
        self.calls.append(limits)

    def get_original_num_threads(self) -> dict[str, int | None]:
        return {"blas": 8, "openmp": None}

    def restore_original_limits(self) -> None:
        self.calls.append("restored")


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    module = Torch()
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setattr(threadpoolctl, "threadpool_limits", Limits)
    monkeypatch.setattr(Limits, "calls", [])
    return module


def test_torch_is_pinned_and_put_back(torch: Torch) -> None:
    with pinned(2) as found:
        assert torch.threads == 2
        assert found == {"blas": 2, "torch": 2}

    assert torch.threads == 6


def test_one_thread_by_default(torch: Torch) -> None:
    with pinned():
        assert torch.threads == 1


def test_torch_is_put_back_after_an_error(torch: Torch) -> None:
    with pytest.raises(ZeroDivisionError), pinned(2):
        raise ZeroDivisionError

    assert torch.threads == 6


def test_torch_is_not_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pinned(2) as found:
        assert "torch" not in found

    assert "torch" not in sys.modules


def test_blas_and_openmp_are_pinned_and_put_back(torch: Torch) -> None:
    with pinned(3) as found:
        assert Limits.calls == [3]
        assert found == {"blas": 3, "torch": 3}

    assert Limits.calls == [3, "restored"]


def test_the_blas_of_numpy_is_pinned() -> None:
    import numpy as np

    np.ones((2, 2)) @ np.ones((2, 2))
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert pools, "numpy comes with a BLAS"
    with pinned(1):
        inside = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        assert {pool["num_threads"] for pool in inside} == {1}

    assert [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"] == pools


@pytest.mark.parametrize("threads", [0, -1])
def test_a_call_needs_a_thread(threads: int) -> None:
    with pytest.raises(ValueError) as caught, pinned(threads):
        pass

    assert str(caught.value) == f"a call needs at least 1 thread, not {threads}"


def test_the_real_torch_is_pinned() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'perfgate[suite]'")
    before = torch.get_num_threads()
    with pinned(1):
        assert torch.get_num_threads() == 1

    assert torch.get_num_threads() == before
