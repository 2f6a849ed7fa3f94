"""How fast could a layer be on this machine? Bytes moved by measured bandwidth, operations by measured rate."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from perf_workloads.bitnet.clocks import Clock, open_clock
from perf_workloads.bitnet.recorder import Call, LayerFigures
from perf_workloads.bitnet.shapes import Method

Bound = Literal["memory", "compute"]
Rate = Literal["fp32", "bf16", "int8"]

#: Which rate the products of a method run at.
RATES: Mapping[Method, Rate] = {"fp32": "fp32", "online": "fp32", "bf16": "bf16", "int8": "int8", "packed": "int8"}

#: Several times the caches of a CPU, read in pieces so short that some are not disturbed.
_STREAM_BYTES, _PIECE_BYTES, _ROW = 256 << 20, 16 << 20, 4096
_EDGE = {"cpu": 512, "cuda": 4096}
_ROUNDS = 20


@dataclass(frozen=True)
class Machine:
    """Ceilings of a machine, as measured.

    Args:
        bandwidth: bytes read a second.
        rates: multiplications and additions a second that torch's products reach, by type. None is a lower ceiling than
            that of fp32, which narrower operands can be widened to.
    """

    bandwidth: float
    rates: Mapping[Rate, float]

    def least_s(self, bytes: float, operations: float, rate: Rate) -> tuple[float, Bound]:
        """Give the seconds that some work takes at the least, and what bounds it."""
        memory_s = bytes / self.bandwidth
        compute_s = operations / max(self.rates[rate], self.rates["fp32"])
        return (memory_s, "memory") if memory_s >= compute_s else (compute_s, "compute")


@dataclass(frozen=True)
class Work:
    """What one call of a layer has to do at the least.

    Args:
        bytes: weights as they are kept, activations in and out.
        operations: multiplications and additions.
    """

    bytes: int
    operations: int


def work_of(layer: LayerFigures, call: Call) -> Work:
    """Count the work of one call."""
    inputs, outputs = call.input_shape[-1], call.output_shape[-1]
    tokens = 1
    for size in call.input_shape[:-1]:
        tokens *= size
    return Work(layer.weight_bytes + tokens * (inputs + outputs) * layer.itemsize, 2 * tokens * layer.parameters)


def measure(device: str) -> Machine:
    """Measure the ceilings with the threads that torch uses now: the best of many short rounds.

    Args:
        device: "cpu" or a CUDA device.
    """
    import torch

    cuda = torch.device(device).type == "cuda"
    with open_clock(device) as clock:
        if cuda:
            from perfgate.measure.bandwidth import device_copy_bandwidth

            bandwidth = device_copy_bandwidth(torch.device(device).index or 0)
        else:
            bandwidth = _PIECE_BYTES / _stream_s(clock)
        rates: dict[Rate, float] = {}
        edge = _EDGE["cuda" if cuda else "cpu"]
        types: Mapping[Rate, Any] = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
        for name, dtype in types.items():
            matrix = torch.ones((edge, edge), dtype=dtype, device=device)
            product = functools.partial(torch._int_mm if dtype == torch.int8 else torch.mm, matrix, matrix.t())
            rates[name] = 2 * edge**3 / _best_s(itertools.repeat(product, _ROUNDS), clock)
    return Machine(bandwidth, rates)


def _stream_s(clock: Clock) -> float:
    """Give the shortest time in which a piece of memory is read that is in no cache.

    By two loops of torch's, because which one reads faster depends on the processor.
    """
    import torch

    stream = torch.ones(_STREAM_BYTES // 4).view(-1, _PIECE_BYTES // 4)
    row = torch.ones((1, _ROW), dtype=torch.int8)
    rows = [piece.view(torch.int8).view(-1, _ROW).t() for piece in stream]
    sums = [piece.sum for piece in stream]
    products = [functools.partial(torch._int_mm, row, piece) for piece in rows]
    return min(_best_s(sums * 2, clock), _best_s(products * 2, clock))


def _best_s(works: Iterable[Callable[[], object]], clock: Clock) -> float:
    """Give the shortest time of several pieces of work; the first of them is a warm-up."""
    times = []
    for work in works:
        before = clock.before()
        work()
        times.append(clock.seconds(before, clock.after(before)))
    return min(times[1:])
