"""What is known of one compiled kernel? A frozen record, and its way through JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: Raised when the figures of the same code change, or which there are: stored ones are then taken anew. Those that
#: change are told by ``metrics.Spec.version``.
VERSION = 5
#: Bytes of one access to global memory, classes that are counted: at least so many; narrower ones are counted under 2.
WIDTHS = (16, 8, 4, 2)


@dataclass(frozen=True)
class Code:
    """What the compiled code alone says, whatever it was launched with.

    Attributes:
        registers: of a thread; on AMD vector and accumulation registers together.
        scalars: scalar registers of a wave (AMD).
        spills: registers that are stored to local memory (NVIDIA: 32-bit words that the code stores there).
        stack: bytes of local memory of a thread.
        instructions: of the whole code, without padding.
        loads: from global memory, instructions by bytes a thread; a copy of a whole tile counts as 16.
        stores: to global memory, likewise.
        tensor_core: instructions for matrix units.
        local_memory: instructions that load from or store to local memory.
        barriers: instructions at which a block waits.
        code_size: bytes.
        digest: of the instructions, whatever source line or file they come from.
        asynchronous_bytes: of the bytes that ``loads`` move, those that go to shared memory while the thread goes on
            (NVIDIA: ``cp.async`` and the tensor memory accelerator).
    """

    registers: int
    spills: int
    stack: int
    instructions: int
    loads: Mapping[int, int]
    stores: Mapping[int, int]
    tensor_core: int
    local_memory: int
    barriers: int
    code_size: int
    scalars: int = 0
    digest: str = ""
    asynchronous_bytes: int = 0


@dataclass(frozen=True)
class Form:
    """What a kernel was compiled for: everything that makes Triton compile it once more.

    Attributes:
        kernel: module and name of the function.
        arguments: by name the type and its hints, e.g. ``*bf16:16`` (divisible by 16), or the value of a constant.
        options: e.g. ``{"num_warps": "8"}``.
    """

    kernel: str
    arguments: Mapping[str, str]
    options: Mapping[str, str]


@dataclass(frozen=True)
class Figures:
    """What is known of one kernel of a launch on one target.

    Attributes:
        name: of the kernel.
        target: name of the target.
        warps: of a block.
        shared: bytes of shared memory of a block.
        occupancy: estimated, from 0 to 1.
        narrow_offsets: lines of Triton IR that compute an address in 32 bits that may pass 2**31.
        code: what the compiled code says.
        form: what it was compiled for.
    """

    name: str
    target: str
    warps: int
    shared: int
    occupancy: float
    narrow_offsets: tuple[str, ...]
    code: Code
    form: Form = field(default_factory=lambda: Form("", {}, {}))

    @property
    def load_width(self) -> float:
        """Give the bytes of the access that the average byte is loaded with."""
        return mean_width(self.code.loads)

    @property
    def store_width(self) -> float:
        """Give the bytes of the access that the average byte is stored with."""
        return mean_width(self.code.stores)

    @property
    def asynchronous(self) -> float:
        """Give the share, from 0 to 1, of the loaded bytes that a software pipeline copies; 0 without any load."""
        loaded = sum(width * number for width, number in self.code.loads.items())
        return self.code.asynchronous_bytes / loaded if loaded else 0.0


def mean_width(accesses: Mapping[int, int]) -> float:
    """Give the width in bytes that the average byte moves with; 0 without any access.

    One narrow load of a scale beside five wide ones of data hardly counts, as it hardly matters.
    """
    moved = sum(width * number for width, number in accesses.items())
    return sum(width * width * number for width, number in accesses.items()) / moved if moved else 0.0


def by_width(accesses: Mapping[int, int]) -> dict[int, int]:
    """Give the number of accesses of each width that most have, none as 0, and of each other one that there is."""
    return {**dict.fromkeys((*WIDTHS, 1), 0), **accesses}


def by_class(accesses: Mapping[int, int]) -> dict[int, int]:
    """Count accesses by the classes of their widths."""
    counted = dict.fromkeys(WIDTHS, 0)
    for width, number in accesses.items():
        counted[next((known for known in WIDTHS if width >= known), WIDTHS[-1])] += number
    return counted


def digest_of(instructions: Iterable[str]) -> str:
    """Give a short digest of instructions."""
    return hashlib.sha256("\n".join(instructions).encode()).hexdigest()[:12]


def to_json(figures: Figures) -> dict[str, Any]:
    """Turn figures into JSON values."""
    return asdict(figures)


def from_json(data: Mapping[str, Any]) -> Figures:
    """Turn what :func:`to_json` gave back into figures."""
    form = Form(**data["form"])
    offsets = tuple(data["narrow_offsets"])
    return Figures(**{**data, "code": code_from_json(data["code"]), "form": form, "narrow_offsets": offsets})


def code_from_json(data: Mapping[str, Any]) -> Code:
    """Turn the JSON values of a :class:`Code` back into one; JSON knows text alone as names."""
    widths = {side: {int(width): number for width, number in data[side].items()} for side in ("loads", "stores")}
    return Code(**{**data, **widths})
