"""Which NVIDIA GPUs does this process see?

NVML answers where it can: it is quick, and asking it does not start CUDA in this process. torch is asked otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from perfgate.hardware.key import GIB, gpu_key, printable
from perfgate.hardware.software import installed
from perfgate.hardware.sources import Found, Sources, ask
from perfgate.hardware.visible import visible
from perfgate.model import Device

#: At least one of these exists where an NVIDIA driver is loaded (the last one: Jetson).
SIGNS = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version", "/sys/module/nvidia", "/dev/nvmap")
#: Under WSL this is all there is to see, whoever made the GPU.
WSL = "/dev/dxg"

_MIG = re.compile(r"(.+?) MIG ([0-9].*)")
_DRIVER = re.compile(r"\b[0-9]{3,}\.[0-9]+(?:\.[0-9]+)?\b")


@dataclass(frozen=True)
class _Card:
    """A whole GPU as NVML sees it, and its MIG instances."""

    handle: Any
    uuid: str
    name: str
    memory_bytes: int | None
    power_limit_w: float | None
    capability: tuple[int, int] | None
    #: UUID and handle of each MIG instance; None when the card is not in MIG mode.
    mig: tuple[tuple[str, Any], ...] | None


def find(sources: Sources) -> Found:
    """Ask each provider in turn; the first that can answer wins, even if its answer is "none"."""
    answers = (provider(sources) for provider in (from_nvml, from_torch))
    return next((answer for answer in answers if answer is not None), Found())


def from_nvml(sources: Sources) -> Found | None:
    """Ask NVML; None when there is no driver, no nvidia-ml-py, or NVML does not start."""
    if not any(map(sources.exists, (*SIGNS, WSL))):
        return None
    nvml = sources.load("pynvml")
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    # Without a driver an NVMLError; without symbols of an old library an AttributeError.
    except Exception:
        return None
    try:
        count = ask(nvml, "nvmlDeviceGetCount")
        if count is None:
            return None
        devices = _visible_devices(nvml, list(_cards(nvml, count)), sources)
        versions = {}
        if driver := ask(nvml, "nvmlSystemGetDriverVersion"):
            versions["driver"] = _text(driver)
        if cuda := ask(nvml, "nvmlSystemGetCudaDriverVersion"):
            versions["cuda"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
        return Found(devices, versions)
    finally:
        ask(nvml, "nvmlShutdown")


def from_torch(sources: Sources) -> Found | None:
    """Ask torch if it is imported already, or if it is built for CUDA and NVML could not speak to the driver."""
    torch = sources.loaded("torch")
    if torch is None and any(map(sources.exists, SIGNS)) and installed(sources).cuda:
        torch = sources.load("torch")
    if torch is None or not getattr(getattr(torch, "version", None), "cuda", None):
        return None
    if not ask(torch.cuda, "is_available"):
        return None
    count = ask(torch.cuda, "device_count") or 0
    properties = [ask(torch.cuda, "get_device_properties", index) for index in range(count)]
    driver = _DRIVER.search(sources.read("/proc/driver/nvidia/version") or "")
    return Found(
        tuple(_from_properties(device, count) for device in properties if device is not None),
        {"driver": driver[0]} if driver else {},
    )


def _from_properties(properties: Any, count: int) -> Device:
    """Describe a device by what torch says of it; it does not know the power limit."""
    match = _MIG.fullmatch(properties.name)
    model, mig = (match[1], match[2]) if match else (properties.name, None)
    # Of a MIG instance torch knows the memory, but not that of the card, which the key needs.
    memory = None if mig else properties.total_memory
    return Device(
        kind="cuda",
        name=printable(properties.name),
        key=gpu_key("nvidia", model, memory, None, mig),
        memory_bytes=properties.total_memory,
        capability=(properties.major, properties.minor),
        mig=None if mig is None else printable(mig),
        count=count,
    )


def _cards(nvml: Any, count: int) -> Iterator[_Card]:
    for index in range(count):
        handle = ask(nvml, "nvmlDeviceGetHandleByIndex", index)
        # A card that a container may not open is not there for CUDA either.
        if handle is None:
            continue
        limit = ask(nvml, "nvmlDeviceGetPowerManagementLimit", handle)
        # Laptops have no limit to configure, but each model of laptop has a default of its own.
        limit = limit or ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit", handle)
        capability = ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
        yield _Card(
            handle=handle,
            uuid=_text(ask(nvml, "nvmlDeviceGetUUID", handle)),
            name=_text(ask(nvml, "nvmlDeviceGetName", handle)) or "NVIDIA GPU",
            memory_bytes=getattr(ask(nvml, "nvmlDeviceGetMemoryInfo", handle), "total", None),
            power_limit_w=limit / 1000 if limit else None,
            capability=tuple(capability) if capability else None,
            mig=_mig_instances(nvml, handle),
        )


def _mig_instances(nvml: Any, handle: Any) -> tuple[tuple[str, Any], ...] | None:
    mode = ask(nvml, "nvmlDeviceGetMigMode", handle)
    if not mode or mode[0] != 1:
        return None
    most = ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    instances = (ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index) for index in range(most))
    return tuple(
        (_text(ask(nvml, "nvmlDeviceGetUUID", instance)), instance) for instance in instances if instance is not None
    )


def _visible_devices(nvml: Any, cards: list[_Card], sources: Sources) -> tuple[Device, ...]:
    """Apply CUDA_VISIBLE_DEVICES as CUDA does.

    CUDA shows a process at most one MIG instance, and where it shows one it shows no whole card. A card in MIG mode
    that is chosen by its number stands for its first instance.
    """
    # Numbers count only what CUDA can use: not a card in MIG mode without instances.
    cards = _as_cuda_counts(nvml, [card for card in cards if card.mig != ()], sources)
    instances = [(card, uuid, handle) for card in cards for uuid, handle in card.mig or ()]
    uuids = [card.uuid for card in cards] + [uuid for _, uuid, _ in instances]
    chosen = visible(sources.environ.get("CUDA_VISIBLE_DEVICES"), uuids, count=len(cards))
    whole: list[_Card] = []
    for position in chosen:
        if position >= len(cards):
            card, _, handle = instances[position - len(cards)]
            return (_mig_device(nvml, card, handle),)
        whole.append(cards[position])
    for card in whole:
        if card.mig:
            return (_mig_device(nvml, card, card.mig[0][1]),)
    return tuple(
        Device(
            kind="cuda",
            name=printable(card.name),
            key=gpu_key("nvidia", card.name, card.memory_bytes, card.power_limit_w),
            memory_bytes=card.memory_bytes or 0,
            capability=card.capability,
            power_limit_w=card.power_limit_w,
            count=len(whole),
        )
        for card in whole
    )


def _as_cuda_counts(nvml: Any, cards: list[_Card], sources: Sources) -> list[_Card]:
    """Put cards into CUDA's order: NVML goes by the bus, CUDA shows the fastest first unless told otherwise.

    How CUDA ranks different cards is not documented; cores times clock is the best guess that needs no CUDA.
    CUDA_DEVICE_ORDER=PCI_BUS_ID makes it certain.
    """
    if sources.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({card.name for card in cards}) < 2:
        return cards

    def speed(card: _Card) -> int:
        cores = ask(nvml, "nvmlDeviceGetNumGpuCores", card.handle) or 0
        clock = ask(nvml, "nvmlDeviceGetMaxClockInfo", card.handle, nvml.NVML_CLOCK_SM) or 0
        return int(cores * clock)

    return sorted(cards, key=speed, reverse=True)


def _mig_device(nvml: Any, card: _Card, handle: Any) -> Device:
    name = _text(ask(nvml, "nvmlDeviceGetName", handle))
    match = _MIG.fullmatch(name)
    profile = match[2] if match else _profile(nvml, handle)
    return Device(
        kind="cuda",
        name=printable(name if match else f"{card.name} MIG {profile}"),
        key=gpu_key("nvidia", card.name, card.memory_bytes, card.power_limit_w, profile),
        memory_bytes=getattr(ask(nvml, "nvmlDeviceGetMemoryInfo", handle), "total", 0),
        capability=card.capability,
        power_limit_w=card.power_limit_w,
        mig=printable(profile),
    )


def _profile(nvml: Any, handle: Any) -> str:
    """Make up a profile from an instance's slices and memory, for drivers that do not name it."""
    attributes = ask(nvml, "nvmlDeviceGetAttributes", handle)
    if attributes is None:
        return "unknown"
    memory_gb = -(-attributes.memorySizeMB * 1024**2 // GIB)
    return f"{attributes.gpuInstanceSliceCount}g.{memory_gb}gb"


def _text(answer: str | bytes | None) -> str:
    """Give a library's string; bindings before nvidia-ml-py 11.5 answer in bytes."""
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer or ""
