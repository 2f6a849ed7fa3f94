"""What CPU is this, and how many of its logical processors may this process use?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from perfgate.hardware.key import cpu_key, printable
from perfgate.hardware.sources import Sources
from perfgate.model import Device

Read = Callable[[str], str | None]

_FIELD = re.compile(r"^([^:\n]*?)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)


def find(sources: Sources) -> Device:
    """Describe the CPU. Its key holds the model and the number of logical processors this process may use."""
    model = model_name(sources.read("/proc/cpuinfo") or "", sources.machine)
    threads = usable_threads(sources.affinity(), quota(sources.read))
    return Device(
        kind="cpu",
        name=printable(model),
        key=cpu_key(model, threads),
        memory_bytes=_memory(sources.read("/proc/meminfo") or ""),
        count=threads,
    )


def model_name(cpuinfo: str, machine: str) -> str:
    """Find the name of the processor.

    Args:
        cpuinfo: text of /proc/cpuinfo; may be empty.
        machine: architecture, e.g. "aarch64": the name when nothing else is known.

    Returns:
        The name as the kernel gives it ("AMD EPYC 7B13"), which on a virtual machine is what the hypervisor chose.
        Where it gives none, the architecture and the numbers that tell one core from another: "aarch64 0x41 0xd40"
        (implementer and part of each kind of core) or "x86_64 GenuineIntel family 6 model 143".
    """
    fields: dict[str, list[str]] = {}
    for name, value in _FIELD.findall(cpuinfo):
        fields.setdefault(name, []).append(value)
    # x86 says "model name", LoongArch "Model Name", POWER "cpu", RISC-V "uarch". gVisor says "unknown".
    for name in ("model name", "Model Name", "cpu", "uarch"):
        if value := next((value for value in fields.get(name, ()) if value not in ("", "unknown")), None):
            return value
    words = [machine or "unknown"]
    for core in sorted(set(zip(fields.get("CPU implementer", ()), fields.get("CPU part", ()), strict=False))):
        words += core
    for name, prefix in (("vendor_id", ""), ("cpu family", "family "), ("model", "model ")):
        words += [prefix + value for value in fields.get(name, ())[:1]]
    return " ".join(words)


def usable_threads(affinity: int, quota_cores: float | None) -> int:
    """Count the threads that this process can keep running all the time.

    A quota of 2.5 processors counts as 2: a third thread would be stopped in every period.
    """
    if quota_cores is None:
        return max(1, affinity)
    return max(1, min(affinity, int(quota_cores)))


def quota(read: Read) -> float | None:
    """Find the smallest CPU quota, in processors, of this process's control group and those above it.

    Returns:
        None when there is no limit.
    """
    limits: list[float] = []
    for controllers, path in re.findall(r"^[0-9]+:(.*?):(/.*)$", read("/proc/self/cgroup") or "", re.MULTILINE):
        for folder in _upwards(path):
            if not controllers:
                limits += _limit(*(read(f"/sys/fs/cgroup{folder}/cpu.max") or "").split())
            elif "cpu" in controllers.split(","):
                root = f"/sys/fs/cgroup/cpu{folder}"
                limits += _limit(read(f"{root}/cpu.cfs_quota_us"), read(f"{root}/cpu.cfs_period_us"))
    return min(limits, default=None)


def _upwards(path: str) -> Iterator[str]:
    """Give a control group's folder and all above it; the root is "". Inside a container only the root may exist."""
    folder = path.rstrip("/")
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _limit(quota_us: str | None = None, period_us: str | None = None, *_: str) -> list[float]:
    """Turn a quota and its period into processors: nothing for "max", -1 or what cannot be read."""
    try:
        cores = int(quota_us or "") / int(period_us or "")
    except (ValueError, ZeroDivisionError):
        return []
    return [cores] if cores > 0 else []


def _memory(meminfo: str) -> int:
    """Read the machine's memory in bytes; 0 when unknown."""
    total = re.search(r"^MemTotal:\s*([0-9]+) kB", meminfo, re.MULTILINE)
    return int(total[1]) * 1024 if total else 0
