"""How is the model called and launched: wrong arguments, operators for torch.compile, configurations, bytes?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.hbv import LaunchConfig, bytes_moved, bytes_moved_backward, hbv, launch_config
from perf_kernels.hbv.function import hbv_backward_op, hbv_forward_op
from perf_kernels.hbv.inputs import Inputs, published_inputs
from perf_kernels.hbv.launch import checkpoints, saved_bytes
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import few_days, some_gradients, without_ptx

pytestmark = [without_ptx, some_gradients]


def test_wrong_type() -> None:
    inputs = published_inputs(2, 3, DEVICE)
    with pytest.raises(TypeError) as caught:
        hbv(*inputs[:2], inputs.pet.double(), inputs.parameters)
    assert str(caught.value) == "hbv: pet is torch.float64; it must be torch.float32"


def test_wrong_shapes() -> None:
    inputs = published_inputs(2, 3, DEVICE)
    with pytest.raises(ValueError) as caught:
        hbv(inputs.precipitation[0], *inputs[1:4])
    assert str(caught.value) == "hbv: precipitation has 1 dimensions; it must have 2, days and basins"
    with pytest.raises(ValueError) as caught:
        hbv(inputs.precipitation, inputs.temperature[:1], *inputs[2:4])
    assert str(caught.value) == "hbv: temperature is [1, 3]; it must be [2, 3]"
    with pytest.raises(ValueError) as caught:
        hbv(*inputs[:3], inputs.parameters[:13])
    assert str(caught.value) == "hbv: parameters is [13, 3]; it must be [14, 3]"
    with pytest.raises(ValueError) as caught:
        hbv(*inputs[:4], initial=inputs.initial[:, :2])
    assert str(caught.value) == "hbv: initial is [5, 2]; it must be [5, 3]"


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        hbv(*published_inputs(2, 3, "meta")[:4])
    hint = {
        "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
        "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
    }[DEVICE]
    assert str(caught.value) == f"hbv: precipitation is on meta; {hint}"


@few_days
def test_operators() -> None:
    inputs = published_inputs(3, 4, DEVICE)
    checks = ("test_schema", "test_faketensor")
    for save in (False, True):
        torch.library.opcheck(hbv_forward_op, (*inputs, False, save), test_utils=checks)
    _, _, soil, checkpoint = hbv_forward_op(*inputs, False, True)
    arguments = (*inputs[:4], soil, checkpoint, torch.ones_like(soil), None, False)
    for forcings in (False, True):
        torch.library.opcheck(hbv_backward_op, (*arguments, forcings), test_utils=checks)


def test_under_torch_compile() -> None:
    """One graph without a break, forward and backward."""

    def loss(inputs: Inputs, parameters: torch.Tensor) -> torch.Tensor:
        q, storages = hbv(*inputs[:3], parameters * 1.0, initial=inputs.initial)
        return q.square().sum() + storages.sum()

    inputs = published_inputs(4, 32, DEVICE)
    found = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend=BACKEND)):
        parameters = inputs.parameters.clone().requires_grad_()
        value = function(inputs, parameters)
        value.backward()
        found.append((value.detach(), parameters.grad))
        # A compiler may add up in another order where nothing is kept for the way back.
        torch.testing.assert_close(function(inputs, inputs.parameters), value)
    torch.testing.assert_close(found[1], found[0])


def test_launch_config() -> None:
    assert launch_config(1024, 1461) == LaunchConfig(block=32, num_warps=1, days=4, ahead=2)
    assert launch_config(1024, 1461, 64, training=True) == LaunchConfig(block=64, num_warps=1, days=3, ahead=2)
    assert launch_config(65536, 1461, training=True, backward=True).ahead == 1
    assert launch_config(1, 2).days == 2


@pytest.mark.parametrize(("days", "spacing", "count"), [(1461, 3, 487), (1460, 3, 488), (2, 3, 2), (7, 4, 4)])
def test_checkpoints(days: int, spacing: int, count: int) -> None:
    assert checkpoints(days, spacing) == count


def test_bytes() -> None:
    assert bytes_moved(days=10, basins=3) == 4 * 3 * (4 * 10 + 14 + 5 + 5)
    # Soil moisture of ten days, four storages of three chunks and of the day left.
    assert saved_bytes(days=10, basins=3) == 4 * 3 * (10 + 4 * 4)
    assert bytes_moved_backward(days=10, basins=3) == 4 * 3 * (3 * 10 + 14 + 14 + 5 + 10 + 16)
    # The largest series of the published benchmark: inputs, discharge, what is kept, and the gradients.
    days, basins = 1461, 1024
    assert 4 * basins * (4 * days + 2 * 14 + 2 * 5) + saved_bytes(days, basins) <= 45e6
