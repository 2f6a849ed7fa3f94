"""Which AMD GPUs does this process see?

amdsmi answers where it is installed (it comes with ROCm), torch otherwise.
"""

from __future__ import annotations

import math
import re
from typing import Any

from perfgate.hardware.key import gpu_key, printable
from perfgate.hardware.software import installed
from perfgate.hardware.sources import Found, Sources, ask
from perfgate.hardware.visible import visible
from perfgate.model import Device

#: Exists where the compute part of the amdgpu driver is loaded.
SIGN = "/dev/kfd"

_ARCH = re.compile(r"(?:gfx)?([0-9a-f]{3,4})")
_TARGET = re.compile(r"^gfx_target_version ([0-9]+)$", re.MULTILINE)


def find(sources: Sources) -> Found:
    """Ask each provider in turn; the first that can answer wins, even if its answer is "none"."""
    answers = (provider(sources) for provider in (from_amdsmi, from_torch))
    return next((answer for answer in answers if answer is not None), Found())


def from_amdsmi(sources: Sources) -> Found | None:
    """Ask amdsmi; None when there is no driver, no amdsmi, or it does not start."""
    if not sources.exists(SIGN):
        return None
    smi = sources.load("amdsmi")
    if smi is None:
        return None
    try:
        smi.amdsmi_init()
    # AmdSmiLibraryException without a driver; anything else from a library of another version.
    except Exception:
        return None
    try:
        handles = ask(smi, "amdsmi_get_processor_handles")
        if handles is None:
            return None
        serials = [_serial(ask(smi, "amdsmi_get_gpu_asic_info", handle) or {}) for handle in handles]
        seen = _visible(sources, serials)
        archs = _archs(sources)
        devices = tuple(
            _device(smi, handles[index], archs[index] if index < len(archs) else None, len(seen)) for index in seen
        )
        driver = (ask(smi, "amdsmi_get_gpu_driver_info", handles[0]) or {}).get("driver_version") if handles else None
        return Found(devices, _versions(sources, driver))
    finally:
        ask(smi, "amdsmi_shut_down")


def from_torch(sources: Sources) -> Found | None:
    """Ask torch if it is imported already, or if it is built for ROCm and amdsmi could not speak to the driver."""
    torch = sources.loaded("torch")
    if torch is None and sources.exists(SIGN) and installed(sources).hip:
        torch = sources.load("torch")
    if torch is None or not getattr(getattr(torch, "version", None), "hip", None):
        return None
    if not ask(torch.cuda, "is_available"):
        return None
    count = ask(torch.cuda, "device_count") or 0
    properties = [ask(torch.cuda, "get_device_properties", index) for index in range(count)]
    devices = tuple(
        Device(
            kind="rocm",
            name=printable(device.name or "AMD GPU"),
            key=gpu_key("amd", device.name or "AMD GPU", device.total_memory, None),
            memory_bytes=device.total_memory,
            arch=_arch(getattr(device, "gcnArchName", None)),
            count=count,
        )
        for device in properties
        if device is not None
    )
    return Found(devices, _versions(sources, None))


def _device(smi: Any, handle: Any, arch: str | None, count: int) -> Device:
    """Describe a device by what amdsmi says of it.

    Args:
        smi: the amdsmi module.
        handle: its handle of the device.
        arch: architecture by the kernel's account, for releases of amdsmi that do not tell.
        count: how many devices this process sees.
    """
    asic = ask(smi, "amdsmi_get_gpu_asic_info", handle) or {}
    arch = _arch(asic.get("target_graphics_version")) or arch
    name = str(asic.get("market_name") or "")
    if name in ("", "N/A"):
        name = f"AMD {arch or 'GPU'}"
    vram = getattr(getattr(smi, "AmdSmiMemoryType", None), "VRAM", None)
    memory = _figure(ask(smi, "amdsmi_get_gpu_memory_total", handle, vram))
    cap = _figure((ask(smi, "amdsmi_get_power_cap_info", handle) or {}).get("power_cap"))
    # Microwatts by the documentation of all releases so far; a cap of 10 kW is out of the question.
    power = cap / 1e6 if cap is not None and cap >= 10_000 else cap
    return Device(
        kind="rocm",
        name=printable(name),
        key=gpu_key("amd", name, memory, power),
        memory_bytes=int(memory or 0),
        arch=arch,
        power_limit_w=power,
        count=count,
    )


def _visible(sources: Sources, serials: list[str]) -> list[int]:
    """Apply ROCR_VISIBLE_DEVICES, and then HIP_VISIBLE_DEVICES to what it leaves, as ROCm does.

    HIP takes CUDA_VISIBLE_DEVICES for its own where that is not set.
    """
    remaining = visible(sources.environ.get("ROCR_VISIBLE_DEVICES"), serials)
    listed = sources.environ.get("HIP_VISIBLE_DEVICES", sources.environ.get("CUDA_VISIBLE_DEVICES"))
    return [remaining[position] for position in visible(listed, [serials[index] for index in remaining])]


def _serial(asic: dict[str, Any]) -> str:
    """Give the identifier that ROCm makes of a serial number: 0xBA65... is GPU-ba65..."""
    return "GPU-" + str(asic.get("asic_serial") or "").lower().removeprefix("0x")


def _figure(value: Any) -> float | None:
    """Give a positive number, or None: amdsmi answers "N/A" or 0 for what it cannot tell."""
    usable = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if usable else None


def _arch(name: Any) -> str | None:
    """Read an architecture: "gfx942:sramecc+:xnack-", "gfx942" or "942"; ROCm's tools call gfx90a "gfx9010", too."""
    match = _ARCH.fullmatch(str(name or "").split(":")[0].lower())
    if not match:
        return None
    # Of generation 9 three digits are the name; the last two of four are a number.
    version = re.fullmatch(r"(9\d)(\d\d)", match[1])
    return f"gfx{version[1]}{int(version[2]):x}" if version else f"gfx{match[1]}"


def _archs(sources: Sources) -> list[str]:
    """Read the architecture of each GPU from the kernel's topology, e.g. 90402 for gfx942."""
    archs: list[str] = []
    node = 0
    while (text := sources.read(f"/sys/class/kfd/kfd/topology/nodes/{node}/properties")) is not None:
        node += 1
        target = _TARGET.search(text)
        # CPUs are nodes too; their version is 0.
        if target and (number := int(target[1])):
            archs.append(f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}")
    return archs


def _versions(sources: Sources, driver: Any) -> dict[str, str]:
    """Give the versions of driver and ROCm, as far as they are known."""
    found = {
        "driver": sources.read("/sys/module/amdgpu/version") or (driver if driver != "N/A" else None),
        "rocm": sources.read("/opt/rocm/.info/version"),
    }
    return {name: str(text).strip() for name, text in found.items() if text}
