"""What is a machine to the gate: the places that cases can run on, and their software?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DeviceKind = Literal["cuda", "rocm", "cpu"]


@dataclass(frozen=True)
class Device:
    """One place a case can run on, and the key of its baselines."""

    kind: DeviceKind
    name: str
    key: str
    memory_bytes: int = 0
    #: CUDA compute capability, e.g. (9, 0).
    capability: tuple[int, int] | None = None
    #: AMD architecture, e.g. "gfx942".
    arch: str | None = None
    power_limit_w: float | None = None
    #: MIG profile, e.g. "1g.18gb".
    mig: str | None = None
    #: How many devices of this kind the process sees; for a CPU how many logical processors it may use.
    count: int = 1


@dataclass(frozen=True)
class Hardware:
    """The machine: its devices (accelerators before the CPU) and, by kind, the software a measurement depends on."""

    devices: tuple[Device, ...]
    #: e.g. {"cuda": {"driver": "580.1", "cuda": "13.0", "torch": "2.11.0", "python": "3.12.3"}, "cpu": {...}}
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def find(self, kind: str) -> Device | None:
        """Give the first device of a kind, or None."""
        return next((device for device in self.devices if device.kind == kind), None)

    @property
    def accelerator(self) -> Device | None:
        """Give the first device that is not a CPU, or None."""
        return next((device for device in self.devices if device.kind != "cpu"), None)

    @property
    def cpu(self) -> Device:
        """Give the CPU. Every machine has one."""
        return next(device for device in self.devices if device.kind == "cpu")
