"""Which layers should another device take over? Ranked by what they cost on this machine at the least, when warm.

A layer's *roofline* is the time that one token takes with perfect software: bytes moved by measured bandwidth, or
operations by measured rate, whichever is longer. That part only other hardware can take away, so it ranks. What a warm
call takes beyond it is a matter of software, and is shown beside it. Three figures never rank: totals, which hold the
first calls (they made one q_proj look 28 times dearer than its twins); measured times, whose differences between twins
are noise; and times scaled by MHz, which are wrong for layers that wait for memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perf_workloads.bitnet.recorder import LayerFigures, Shape, group_of
from perf_workloads.bitnet.roofline import RATES, Bound, Machine, Rate, work_of
from perf_workloads.bitnet.shapes import METHODS, Method

#: Bits of a ternary weight at the least.
TERNARY_BITS = math.log2(3)


@dataclass(frozen=True)
class Candidate:
    """A layer, or a group of alike ones, and what one token costs in it.

    Args:
        name: of the layer or the group.
        layers: how many.
        ternary: whether the weights are; another device gets all others in full size.
        input_shape: of one call.
        output_shape: of one call.
        parameters: weights of all.
        bytes: that all of them move for one token.
        roofline_s: seconds for one token at the least, over all.
        bound: what bounds it.
        warm_s: seconds for one token as measured, over all.
    """

    name: str
    layers: int
    ternary: bool
    input_shape: Shape
    output_shape: Shape
    parameters: int
    bytes: int
    roofline_s: float
    bound: Bound
    warm_s: float

    @property
    def roofline_share(self) -> float:
        """Tell how near a warm call comes to its roofline: 1 is there."""
        return self.roofline_s / self.warm_s


@dataclass(frozen=True)
class Sizes:
    """Bytes of the linear weights.

    The head is not ternary: it keeps its own type in every row but the first, and no compression is claimed for it.

    Args:
        fp32_bytes: all of them in fp32.
        ternary_fp32_bytes: the ternary ones in fp32.
        ternary_bytes: the ternary ones at 1.58 bits.
        packed_bytes: the ternary ones at 2 bits.
        head_bytes: the others as they are.
    """

    fp32_bytes: int
    ternary_fp32_bytes: int
    ternary_bytes: int
    packed_bytes: int
    head_bytes: int

    @property
    def compression(self) -> float:
        """Give how many times smaller the ternary layers are at 1.58 bits than in fp32."""
        return self.ternary_fp32_bytes / self.ternary_bytes

    @property
    def compression_with_head(self) -> float:
        """Give how many times smaller all linear layers are than in fp32, the head kept as it is."""
        return self.fp32_bytes / (self.ternary_bytes + self.head_bytes)


def candidates(layers: Sequence[LayerFigures], machine: Machine, method: Method) -> list[Candidate]:
    """Give every layer with its roofline, in the order of the model."""
    found = []
    for layer in layers:
        call = layer.warm[0]
        work = work_of(layer, call)
        rate: Rate = RATES[method] if layer.ternary else ("bf16" if METHODS[method] == "bfloat16" else "fp32")
        least_s, bound = machine.least_s(work.bytes, work.operations, rate)
        found.append(
            Candidate(
                name=layer.name,
                layers=1,
                ternary=layer.ternary,
                input_shape=call.input_shape,
                output_shape=call.output_shape,
                parameters=layer.parameters,
                bytes=work.bytes,
                roofline_s=least_s,
                bound=bound,
                warm_s=layer.warm_s,
            )
        )
    return found


def rank(found: Sequence[Candidate]) -> list[Candidate]:
    """Sort by roofline, dearest first. Twins keep the order of the model: nothing measured tells them apart."""
    return sorted(found, key=lambda candidate: -candidate.roofline_s)


def grouped(found: Sequence[Candidate]) -> list[Candidate]:
    """Bring the layers of each kind together, e.g. all "mlp.gate_proj"."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(group_of(candidate.name), []).append(candidate)
    return [
        Candidate(
            name=name,
            layers=len(members),
            ternary=members[0].ternary,
            input_shape=members[0].input_shape,
            output_shape=members[0].output_shape,
            parameters=sum(member.parameters for member in members),
            bytes=sum(member.bytes for member in members),
            roofline_s=sum(member.roofline_s for member in members),
            bound=members[0].bound,
            warm_s=sum(member.warm_s for member in members),
        )
        for name, members in groups.items()
    ]


def sizes(layers: Sequence[LayerFigures]) -> Sizes:
    """Estimate what the linear weights take."""
    ternary = sum(layer.parameters for layer in layers if layer.ternary)
    everything = sum(layer.parameters for layer in layers)
    return Sizes(
        fp32_bytes=4 * everything,
        ternary_fp32_bytes=4 * ternary,
        ternary_bytes=math.ceil(ternary * TERNARY_BITS / 8),
        packed_bytes=math.ceil(ternary / 4),
        head_bytes=sum(layer.weight_bytes for layer in layers if not layer.ternary),
    )
