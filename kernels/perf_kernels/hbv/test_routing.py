"""Does routing spread the water of a day over the next ones, lose none, and have the right gradients?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.hbv import hbv, route, unit_hydrograph
from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.hbv.routing import LENGTH
from perf_kernels.target import DEVICE_TYPE as DEVICE
from perf_kernels.undeclared_tests import without_ptx

pytestmark = without_ptx


def test_routing_spreads_the_water() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = 2.9 * torch.rand(7, generator=generator), 6.5 * torch.rand(7, generator=generator)
    shares = unit_hydrograph(a.double(), b.double())
    assert shares.shape == (LENGTH, 7)
    assert (shares > 0).all()
    assert (shares.sum(0) - 1).abs().max() <= 1e-14
    q = torch.zeros(40, 7, dtype=torch.float64)
    q[5] = 2.0
    routed = route(q, a.double(), b.double())
    torch.testing.assert_close(routed[5 : 5 + LENGTH], 2 * shares)
    assert routed[:5].abs().max() == 0
    # What falls early enough arrives whole; routing a sum is the sum of the routed.
    series = torch.rand(40, 7, dtype=torch.float64, generator=generator)
    series[-LENGTH:] = 0
    torch.testing.assert_close(route(series, a.double(), b.double()).sum(0), series.sum(0))
    torch.testing.assert_close(route(series + q, a, b.double()), route(series, a, b.double()) + routed)


def test_gradcheck_of_the_routing() -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1 for shape in ((18, 2), (2,), (2,))]
    assert torch.autograd.gradcheck(route, [leaf.requires_grad_() for leaf in leaves])


def test_routing_in_the_model() -> None:
    inputs = published_inputs(4, 5, DEVICE)
    a, b = torch.ones(5, device=DEVICE), torch.full((5,), 2.0, device=DEVICE)
    q, storages = hbv(*inputs[:4])
    routed, same = hbv(*inputs[:4], routing=(a, b))
    torch.testing.assert_close(routed, route(q, a, b))
    assert torch.equal(same, storages)
    with pytest.raises(ValueError) as caught:
        hbv(*inputs[:4], routing=(a, b[:4]))
    assert str(caught.value) == "route: b is [4]; it must be [5]"
