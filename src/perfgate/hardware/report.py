"""What is told of this machine by ``perfgate hardware``?"""

from __future__ import annotations

from collections.abc import Iterator

from perfgate import units
from perfgate.hardware.key import GIB
from perfgate.markers import MARKERS, skip_reason
from perfgate.model import Device, Hardware

_KINDS = {"cuda": "NVIDIA GPU", "rocm": "AMD GPU"}


def describe(hardware: Hardware) -> list[str]:
    """Describe every device: its baseline key, the markers it satisfies, those it does not and why, its software."""
    lines: list[str] = []
    for device in dict.fromkeys(hardware.devices):
        lines += [*_device(device, hardware), ""]
    if hardware.accelerator is None:
        skipped = ", ".join(name for name, marker in MARKERS.items() if marker.accelerator)
        lines += [f"No GPU is visible to this process. Skipped unless static: {skipped}.", ""]
    return lines[:-1]


def _device(device: Device, hardware: Hardware) -> Iterator[str]:
    yield f"{device.name} ({', '.join(_facts(device))})"
    yield f"  baseline key  {device.key}"
    met, unmet = _markers(device, hardware)
    yield f"  markers met   {', '.join(met)}"
    for index, reason in enumerate(unmet):
        yield f"  {'' if index else 'not met':<12}  {reason}"
    environment = hardware.environments.get(device.kind, {})
    yield f"  recorded      {', '.join(f'{name} {version}' for name, version in environment.items())}"


def _markers(device: Device, hardware: Hardware) -> tuple[list[str], list[str]]:
    """Give the names of the markers that a device satisfies, and the reasons for those that it does not."""
    if device.kind == "cpu":
        return [name for name, marker in MARKERS.items() if not marker.accelerator], []
    alone = Hardware((device, hardware.cpu))
    # What another device of this machine is for is told there.
    elsewhere = {other.kind for other in hardware.devices} - {device.kind}
    met, unmet = [], []
    for name, marker in MARKERS.items():
        if not marker.accelerator or marker.required or ({name} | marker.implies) & elsewhere:
            continue
        reason = skip_reason([(name, (), {})], alone)
        if reason is None:
            met.append(name)
        else:
            unmet.append(reason)
    if device.memory_bytes >= GIB:
        met.append(f"vram({device.memory_bytes // GIB})")
    return met, unmet


def _facts(device: Device) -> Iterator[str]:
    if device.kind == "cpu":
        yield f"CPU, {units.count(device.count, 'usable thread')}"
    else:
        yield units.count(device.count, f"visible {_KINDS[device.kind]}")
    if device.memory_bytes:
        yield units.quantity(device.memory_bytes, "B")
    if device.capability is not None:
        yield f"compute capability {device.capability[0]}.{device.capability[1]}"
    if device.arch is not None:
        yield device.arch
    if device.power_limit_w is not None:
        yield units.quantity(round(device.power_limit_w), "W")
