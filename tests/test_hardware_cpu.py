"""Are the CPU's name and the threads that this process may use found?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.hardware import cpu
from perfgate.hardware.sources import Sources
from perfgate.model import Device

XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Processor @ 2.50GHz
flags\t\t: fpu vme

processor\t: 1
model name\t: Intel(R) Xeon(R) Processor @ 2.50GHz
"""
GRAVITON = "processor\t: 0\nBogoMIPS\t: 2100.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd40\n\n"
SMALL_CORE = "processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\n"
GVISOR = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: unknown\n"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "name"),
    [
        (XEON, "x86_64", "Intel(R) Xeon(R) Processor @ 2.50GHz"),
        ("model name\t: AMD EPYC 7B13             \n", "x86_64", "AMD EPYC 7B13"),
        (GRAVITON, "aarch64", "aarch64 0x41 0xd40"),
        (GRAVITON + GRAVITON + SMALL_CORE, "aarch64", "aarch64 0x41 0xd05 0x41 0xd40"),
        (GVISOR, "x86_64", "x86_64 GenuineIntel family 6 model 143"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "ppc64le", "POWER9, altivec supported"),
        ("Model Name\t\t: Loongson-3A5000\n", "loongarch64", "Loongson-3A5000"),
        ("model name\t:\n", "x86_64", "x86_64"),
        ("", "arm64", "arm64"),
        ("", "", "unknown"),
    ],
)
def test_the_name_of_the_processor(cpuinfo: str, machine: str, name: str) -> None:
    assert cpu.model_name(cpuinfo, machine) == name


def groups(membership: str, limits: dict[str, str]) -> dict[str, str]:
    """Pretend the files of control groups: which ones this process is in, and their limits."""
    return {"/proc/self/cgroup": membership, **{f"/sys/fs/cgroup/{path}": text for path, text in limits.items()}}


@pytest.mark.parametrize(
    ("texts", "cores"),
    [
        ({}, None),
        (groups("0::/\n", {}), None),
        (groups("0::/\n", {"cpu.max": "max 100000\n"}), None),
        (groups("0::/\n", {"cpu.max": "250000 100000\n"}), 2.5),
        (groups("0::/a/b\n", {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}), 2),
        (groups("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "50000 100000\n"}), 0.5),
        # A container often sees its own group as the root, whatever the path says.
        (groups("0::/docker/4f2a\n", {"cpu.max": "150000 100000\n"}), 1.5),
        (groups("0::/\n", {"cpu.max": "rubbish"}), None),
        (groups("0::/\n", {"cpu.max": "100000 0"}), None),
        (groups("3:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}), 3),
        (groups("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}), None),
        (groups("3:cpuset:/x\n", {"cpu/x/cpu.cfs_quota_us": "1", "cpu/x/cpu.cfs_period_us": "1"}), None),
    ],
)
def test_the_quota_of_the_control_group(texts: dict[str, str], cores: float | None) -> None:
    assert cpu.quota(texts.get) == cores


@pytest.mark.parametrize(
    ("affinity", "quota", "threads"), [(8, None, 8), (8, 2.5, 2), (2, 16.0, 2), (8, 0.5, 1), (0, None, 1)]
)
def test_the_threads_that_can_always_run(affinity: int, quota: float | None, threads: int) -> None:
    assert cpu.usable_threads(affinity, quota) == threads


def test_the_cpu_is_described_in_full() -> None:
    texts = {
        "/proc/cpuinfo": XEON,
        "/proc/meminfo": "MemTotal:       24684096 kB\nMemFree:  1 kB\n",
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/cpu.max": "200000 100000\n",
    }
    assert cpu.find(Sources(read=texts.get, affinity=lambda: 16, machine="x86_64")) == Device(
        kind="cpu",
        name="Intel(R) Xeon(R) Processor @ 2.50GHz",
        key="cpu-intel-xeon-processor-2-50ghz-2t",
        memory_bytes=24684096 * 1024,
        count=2,
    )


def test_a_machine_without_proc_has_a_cpu_all_the_same() -> None:
    sources = Sources(read=lambda path: None, affinity=lambda: 4, machine="arm64")
    assert cpu.find(sources) == Device(kind="cpu", name="arm64", key="cpu-arm64-4t", count=4)


@given(st.text(max_size=200), st.text(max_size=30))
def test_any_text_gives_a_name(cpuinfo: str, machine: str) -> None:
    assert cpu.model_name(cpuinfo, machine)
