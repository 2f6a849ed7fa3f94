"""What machine is this?

Providers for each kind of device are asked once per process; ``perfgate.hardware.sources`` is all that they ask of the
outside world. Nothing here imports torch unless it is the only one left to ask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from perfgate.hardware import cpu, cuda, rocm, software
from perfgate.hardware.sources import Found, Sources
from perfgate.model import Device, DeviceKind, Hardware

#: Accelerators before the CPU, in the order in which they are preferred.
_PROVIDERS: tuple[tuple[DeviceKind, Callable[[Sources], Found]], ...] = (("cuda", cuda.find), ("rocm", rocm.find))


@functools.cache
def detect() -> Hardware:
    """Describe this machine as this process sees it. The answer of the first call stays.

    Variables such as CUDA_VISIBLE_DEVICES and the CPU affinity must have their final values before.
    """
    return detect_from(Sources())


def detect_from(sources: Sources) -> Hardware:
    """Describe the machine that the sources tell of."""
    installed = software.installed(sources)
    devices: list[Device] = []
    environments: dict[str, dict[str, str]] = {}
    for kind, find in _PROVIDERS:
        found = find(sources)
        if found.devices:
            devices += found.devices
            environments[kind] = software.environment(kind, installed, found.versions)
    environments["cpu"] = software.environment("cpu", installed, {})
    return Hardware((*devices, cpu.find(sources)), environments)
