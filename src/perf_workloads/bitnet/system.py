"""On what machine does the report run: which CPU, how many cores, at which frequency, with which software?"""

from __future__ import annotations

import os
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from perfgate.hardware.cpu import model_name

#: The published normalisation: time x frequency / this.
NOMINAL_MHZ = 3000.0
_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


@dataclass(frozen=True)
class System:
    """A machine.

    Args:
        cpu: name of the processor.
        cores: physical cores, 0 where unknown.
        logical: logical processors.
        threads: that torch uses.
        base_mhz: nominal frequency, None where neither the kernel nor the name tells it.
        current_mhz: mean over the logical processors when the report began, None where the kernel does not tell.
        memory_bytes: of the machine.
        accelerator: name of the GPU that the model runs on, None for the CPU.
        instructions: what torch's CPU kernels use, e.g. "AVX512".
        torch: version.
        transformers: version.
    """

    cpu: str
    cores: int
    logical: int
    threads: int
    base_mhz: float | None
    current_mhz: float | None
    memory_bytes: int
    accelerator: str | None
    instructions: str
    torch: str
    transformers: str

    def normalised(self, seconds: float) -> float | None:
        """Scale a time as the published report does: to a clock of 3000 MHz.

        Wrong for what waits for memory, which does not get faster with the core's clock: shown, never ranked by.
        """
        return None if self.current_mhz is None else seconds * self.current_mhz / NOMINAL_MHZ


def describe(device: str, root: Path = Path("/")) -> System:
    """Describe this machine; ``device`` is where the model runs, ``root`` holds proc and sys."""
    import torch
    import transformers

    cpuinfo = _read(root / "proc/cpuinfo")
    name = model_name(cpuinfo, platform.machine())
    frequencies = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([0-9.]+)$", cpuinfo, re.MULTILINE)]
    total = re.search(r"^MemTotal:\s*([0-9]+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return System(
        cpu=name,
        cores=physical_cores(cpuinfo),
        logical=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        base_mhz=base_frequency(name, _read(root / _CPUFREQ / "base_frequency")),
        current_mhz=statistics.mean(frequencies) if frequencies else None,
        memory_bytes=int(total[1]) * 1024 if total else 0,
        accelerator=None if device == "cpu" else torch.cuda.get_device_name(device),
        instructions=torch.backends.cpu.get_cpu_capability(),
        torch=torch.__version__,
        transformers=transformers.__version__,
    )


def physical_cores(cpuinfo: str) -> int:
    """Count the pairs of socket and core in the text of /proc/cpuinfo; 0 where it names none."""
    sockets = re.findall(r"^physical id\s*:\s*([0-9]+)$", cpuinfo, re.MULTILINE)
    cores = re.findall(r"^core id\s*:\s*([0-9]+)$", cpuinfo, re.MULTILINE)
    return len(set(zip(sockets, cores, strict=False)))


def base_frequency(name: str, khz: str) -> float | None:
    """Give the nominal frequency in MHz: the kernel's figure, or that in the processor's name ("@ 2.50GHz")."""
    if khz.strip().isdigit():
        return int(khz) / 1e3
    named = re.search(r"@ ([0-9.]+) ?GHz", name)
    return float(named[1]) * 1e3 if named else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
