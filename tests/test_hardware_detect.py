"""Do the providers make one machine, and is it described in words that answer the user's questions?"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate import hardware
from perfgate.hardware.report import describe
from perfgate.hardware.sources import Sources, ask, load
from perfgate.model import Device, Hardware

CPUINFO = "model name\t: AMD EPYC 7B13\n"


def torch_with(*properties: SimpleNamespace, cuda: str | None = None, hip: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda, hip=hip),
        cuda=SimpleNamespace(
            is_available=lambda: True,
            device_count=lambda: len(properties),
            get_device_properties=properties.__getitem__,
        ),
    )


def machine(loaded: dict[str, Any], files: tuple[str, ...] = ()) -> Sources:
    return Sources(
        environ={},
        load={}.get,
        loaded=loaded.get,
        version={"torch": "2.11.0", "triton": "3.6.0"}.get,
        package_text=lambda package, path: "cuda = '13.0'\nhip = '6.3'\n",
        read={"/proc/cpuinfo": CPUINFO, "/proc/driver/nvidia/version": "Module 580.159.03"}.get,
        exists=files.__contains__,
        affinity=lambda: 8,
        machine="x86_64",
        python="3.12.3",
    )


H200 = SimpleNamespace(name="NVIDIA H200", total_memory=150110011392, major=9, minor=0)
MI300X = SimpleNamespace(name="AMD Instinct MI300X", total_memory=205822885888, gcnArchName="gfx942")
EPYC = Device(kind="cpu", name="AMD EPYC 7B13", key="cpu-amd-epyc-7b13-8t", count=8)


def test_a_machine_without_a_gpu_has_its_cpu() -> None:
    found = hardware.detect_from(machine({}))
    assert found == Hardware((EPYC,), {"cpu": {"torch": "2.11.0", "python": "3.12.3"}})


def test_gpus_come_before_the_cpu_each_kind_with_its_environment() -> None:
    found = hardware.detect_from(machine({"torch": torch_with(H200, cuda="13.0")}))
    assert [device.key for device in found.devices] == ["nvidia-h200", "cpu-amd-epyc-7b13-8t"]
    assert found.environments == {
        "cuda": {"driver": "580.159.03", "cuda": "13.0", "torch": "2.11.0", "triton": "3.6.0", "python": "3.12.3"},
        "cpu": {"torch": "2.11.0", "python": "3.12.3"},
    }


def test_an_amd_machine() -> None:
    found = hardware.detect_from(machine({"torch": torch_with(MI300X, hip="6.3")}))
    assert [device.key for device in found.devices] == ["amd-instinct-mi300x", "cpu-amd-epyc-7b13-8t"]
    assert found.environments["rocm"] == {"rocm": "6.3", "torch": "2.11.0", "triton": "3.6.0", "python": "3.12.3"}


def test_a_machine_is_detected_once() -> None:
    assert hardware.detect() is hardware.detect()
    assert hardware.detect().cpu.count >= 1


def test_a_module_that_cannot_start_counts_as_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "perfgate_broken_binding.py").write_text("import warnings; warnings.warn('old'); raise KeyError('lib')")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("perfgate_broken_binding") is None
    assert load("perfgate_no_such_module") is None


def test_a_file_or_package_that_is_absent_has_no_text(tmp_path: Path) -> None:
    sources = Sources()
    assert sources.read(str(tmp_path / "absent")) is None
    assert sources.read(str(tmp_path)) is None
    assert sources.version("perfgate-no-such-package") is None
    assert sources.package_text("perfgate-no-such-package", "x.py") is None


def test_a_file_that_is_not_utf8_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "version").write_bytes(b"580\xff")
    assert Sources().read(str(tmp_path / "version")) == "580\ufffd"


def test_every_processor_counts_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert Sources().affinity() == 6


def test_a_library_that_lacks_a_function_has_no_answer() -> None:
    assert ask(SimpleNamespace(), "nvmlDeviceGetNumGpuCores", 0) is None
    assert ask(SimpleNamespace(half=lambda number: number / 2), "half", 4) == 2


def test_an_h200_is_described() -> None:
    h200 = Device("cuda", "NVIDIA H200", "nvidia-h200", 143771 * 1024**2, (9, 0), power_limit_w=700.0)
    machine = Hardware(
        (h200, Device("cpu", "AMD EPYC 7B13", "cpu-amd-epyc-7b13-1t", 24 * 1024**3)),
        {"cuda": {"driver": "580.159.03", "python": "3.12.3"}, "cpu": {"python": "3.12.3"}},
    )
    assert describe(machine) == [
        "NVIDIA H200 (1 visible NVIDIA GPU, 140.4 GiB, compute capability 9.0, 700 W)",
        "  baseline key  nvidia-h200",
        "  markers met   cuda, sm80, sm89, sm90, fp8, vram(140)",
        "  not met       needs a ROCm device (rocm): this machine has none",
        "                needs compute capability 10.0 or more (sm100): NVIDIA H200 has 9.0",
        *(
            f"                needs an AMD GPU of architecture {arch} ({arch}): this machine has no ROCm device"
            for arch in ("gfx90a", "gfx942", "gfx1100")
        ),
        "                needs two or more GPUs (multi_gpu): this process sees one",
        "  recorded      driver 580.159.03, python 3.12.3",
        "",
        "AMD EPYC 7B13 (CPU, 1 usable thread, 24.0 GiB)",
        "  baseline key  cpu-amd-epyc-7b13-1t",
        "  markers met   cpu, static, isolate",
        "  recorded      python 3.12.3",
    ]


def test_a_machine_without_a_gpu_is_described() -> None:
    assert describe(Hardware((EPYC,), {"cpu": {"torch": "2.11.0", "python": "3.12.3"}})) == [
        "AMD EPYC 7B13 (CPU, 8 usable threads)",
        "  baseline key  cpu-amd-epyc-7b13-8t",
        "  markers met   cpu, static, isolate",
        "  recorded      torch 2.11.0, python 3.12.3",
        "",
        "No GPU is visible to this process. "
        "Skipped unless static: cuda, rocm, sm80, sm89, sm90, sm100, gfx90a, gfx942, gfx1100, fp8, multi_gpu, vram.",
    ]


def test_equal_gpus_are_described_once() -> None:
    mi300x = Device("rocm", "AMD Instinct MI300X", "amd-instinct-mi300x", 206141652992, arch="gfx942", count=2)
    lines = describe(Hardware((mi300x, mi300x, EPYC), {}))
    assert lines[:3] == [
        "AMD Instinct MI300X (2 visible AMD GPUs, 192.0 GiB, gfx942)",
        "  baseline key  amd-instinct-mi300x",
        "  markers met   rocm, gfx942, fp8, multi_gpu, vram(191)",
    ]
    assert [line for line in lines if line.startswith("  baseline key")][1:] == ["  baseline key  cpu-amd-epyc-7b13-8t"]


def test_each_gpu_of_a_mixed_machine_is_described_by_itself() -> None:
    t4 = Device("cuda", "Tesla T4", "nvidia-tesla-t4", 15 * 1024**3, (7, 5))
    w7900 = Device("rocm", "AMD Radeon PRO W7900", "amd-radeon-pro-w7900-48gb", 512 * 1024**2, arch="gfx1100")
    lines = describe(Hardware((t4, w7900, EPYC), {"cuda": {"driver": "580.1"}}))
    assert lines[2:9] == [
        "  markers met   cuda, vram(15)",
        "  not met       needs compute capability 8.0 or more (sm80): Tesla T4 has 7.5",
        "                needs compute capability 8.9 or more (sm89): Tesla T4 has 7.5",
        "                needs compute capability 9.0 or more (sm90): Tesla T4 has 7.5",
        "                needs compute capability 10.0 or more (sm100): Tesla T4 has 7.5",
        "                needs FP8 arithmetic (fp8): Tesla T4 has compute capability 7.5",
        "                needs two or more GPUs (multi_gpu): this process sees one",
    ]
    assert lines[11:18] == [
        "AMD Radeon PRO W7900 (1 visible AMD GPU, 512.0 MiB, gfx1100)",
        "  baseline key  amd-radeon-pro-w7900-48gb",
        "  markers met   rocm, gfx1100",
        "  not met       needs an AMD GPU of architecture gfx90a (gfx90a): AMD Radeon PRO W7900 is gfx1100",
        "                needs an AMD GPU of architecture gfx942 (gfx942): AMD Radeon PRO W7900 is gfx1100",
        "                needs FP8 arithmetic (fp8): AMD Radeon PRO W7900 is gfx1100",
        "                needs two or more GPUs (multi_gpu): this process sees one",
    ]
