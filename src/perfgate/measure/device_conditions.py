"""What was the GPU doing around the samples: clocks, throttling, temperature, other processes?"""

from __future__ import annotations

import contextlib
import os
import statistics
from typing import Any

# NVML's bits for "clocks event reasons" that slow a kernel down, by the word shown to the user.
_THROTTLE = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}


class DeviceConditions:
    """Reads NVML while samples are taken; without NVML it stays empty.

    Args:
        nvml: the pynvml module, initialised, or None.
        handle: NVML's handle of the device.
    """

    def __init__(self, nvml: Any = None, handle: Any = None) -> None:
        self._nvml, self._handle = nvml, handle
        self._clocks: list[int] = []
        #: None until the driver has told them once.
        self._reasons: set[str] | None = None

    def watch(self) -> None:
        """Take one reading; call it while the device is busy."""
        if self._nvml is None:
            return
        nvml = self._nvml
        # A MIG slice or an older driver answers some questions and not others.
        with contextlib.suppress(nvml.NVMLError):
            self._clocks.append(nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM))
        with contextlib.suppress(nvml.NVMLError):
            bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
            self._reasons = (self._reasons or set()) | {word for bit, word in _THROTTLE.items() if bits & bit}

    def speeds(self) -> dict[str, float]:
        """Give the median SM clock in hertz, as ``Metric.speeds`` wants it."""
        return {"sm_clock": statistics.median(self._clocks) * 1e6} if self._clocks else {}

    def report(self) -> dict[str, Any]:
        """Give everything that was seen, as plain values."""
        if self._nvml is None:
            return {}
        nvml, seen = self._nvml, dict[str, Any]()
        if self._clocks:
            seen["sm_clock_mhz"] = [min(self._clocks), max(self._clocks)]
        if self._reasons is not None:
            seen["throttle_reasons"] = sorted(self._reasons)
        with contextlib.suppress(nvml.NVMLError):
            seen["temperature_c"] = nvml.nvmlDeviceGetTemperature(self._handle, nvml.NVML_TEMPERATURE_GPU)
        with contextlib.suppress(nvml.NVMLError):
            seen["power_w"] = round(nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000)
        with contextlib.suppress(nvml.NVMLError):
            # Inside a container process ids differ from NVML's, so one process is taken to be this one.
            others = len(nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) - 1
            seen["other_processes"] = max(others, 0)
        return seen


def open_conditions(index: int) -> DeviceConditions:
    """Start watching the device that torch calls ``index``; gives an empty watcher without NVML."""
    try:
        import pynvml
    except ImportError:
        return DeviceConditions()
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(_uuid(index))
    except pynvml.NVMLError:
        return DeviceConditions()
    return DeviceConditions(pynvml, handle)


def _uuid(index: int) -> bytes:
    """Give NVML's name of a torch device; device numbers differ under CUDA_VISIBLE_DEVICES."""
    import torch

    uuid = str(torch.cuda.get_device_properties(index).uuid)
    prefix = "MIG-" if "MIG" in os.environ.get("CUDA_VISIBLE_DEVICES", "") else "GPU-"
    return f"{prefix}{uuid}".encode()
