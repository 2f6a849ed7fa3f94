"""Does each marker skip a case exactly where it cannot run, and say why?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.errors import SettingError
from perfgate.markers import MARKERS, Mark, device_for, implied, ini_lines, skip_reason, validate
from perfgate.model import Device, Hardware
from perfgate.static.targets import TARGETS

MIB = 1024**2
CPU = Device("cpu", "AMD EPYC 7B13", "cpu-amd-epyc-7b13-8t", count=8)


def nvidia(name: str, capability: tuple[int, int] | None, memory_mib: int, count: int = 1) -> Device:
    return Device("cuda", name, name.lower().replace(" ", "-"), memory_mib * MIB, capability, count=count)


T4 = nvidia("Tesla T4", (7, 5), 15360)
A100 = nvidia("NVIDIA A100-SXM4-40GB", (8, 0), 40960, count=8)
A10 = nvidia("NVIDIA A10", (8, 6), 23028)
L4 = nvidia("NVIDIA L4", (8, 9), 23034)
H200 = nvidia("NVIDIA H200", (9, 0), 143771, count=2)
B200 = nvidia("NVIDIA B200", (10, 0), 183359)
UNKNOWN = nvidia("NVIDIA GPU", None, 0)
MI210 = Device("rocm", "AMD Instinct MI210", "amd-instinct-mi210", 64 * 1024**3, arch="gfx90a")
MI300X = Device("rocm", "AMD Instinct MI300X", "amd-instinct-mi300x", 196592 * MIB, arch="gfx942", count=8)
RX9070 = Device("rocm", "AMD Radeon RX 9070 XT", "amd-radeon-rx-9070-xt", 16 * 1024**3, arch="gfx1201")
NAMELESS = Device("rocm", "AMD GPU", "amd-gpu")


def machine(*gpus: Device) -> Hardware:
    return Hardware((*gpus, CPU))


def mark(name: str, *args: Any, **kwargs: Any) -> Mark:
    return name, args, kwargs


@pytest.mark.parametrize(
    ("name", "gpus", "reason"),
    [
        ("cuda", [], "needs a CUDA device (cuda): this machine has none"),
        ("cuda", [MI300X], "needs a CUDA device (cuda): this machine has none"),
        ("cuda", [T4], None),
        ("rocm", [H200], "needs a ROCm device (rocm): this machine has none"),
        ("rocm", [MI210], None),
        ("cpu", [], None),
        ("isolate", [], None),
        ("sm80", [], "needs compute capability 8.0 or more (sm80): this machine has no CUDA device"),
        ("sm80", [MI300X], "needs compute capability 8.0 or more (sm80): this machine has no CUDA device"),
        ("sm80", [T4], "needs compute capability 8.0 or more (sm80): Tesla T4 has 7.5"),
        ("sm80", [UNKNOWN], "needs compute capability 8.0 or more (sm80): that of NVIDIA GPU is unknown"),
        ("sm80", [A100], None),
        ("sm80", [B200], None),
        ("sm89", [A10], "needs compute capability 8.9 or more (sm89): NVIDIA A10 has 8.6"),
        ("sm89", [L4], None),
        ("sm89", [H200], None),
        ("sm90", [L4], "needs compute capability 9.0 or more (sm90): NVIDIA L4 has 8.9"),
        ("sm90", [H200], None),
        ("sm100", [H200], "needs compute capability 10.0 or more (sm100): NVIDIA H200 has 9.0"),
        ("sm100", [B200], None),
        ("gfx942", [], "needs an AMD GPU of architecture gfx942 (gfx942): this machine has no ROCm device"),
        ("gfx942", [H200], "needs an AMD GPU of architecture gfx942 (gfx942): this machine has no ROCm device"),
        ("gfx942", [MI210], "needs an AMD GPU of architecture gfx942 (gfx942): AMD Instinct MI210 is gfx90a"),
        ("gfx942", [NAMELESS], "needs an AMD GPU of architecture gfx942 (gfx942): that of AMD GPU is unknown"),
        ("gfx942", [MI300X], None),
        # A later one is no such one.
        ("gfx90a", [MI300X], "needs an AMD GPU of architecture gfx90a (gfx90a): AMD Instinct MI300X is gfx942"),
        ("gfx90a", [MI210], None),
        ("gfx1100", [RX9070], "needs an AMD GPU of architecture gfx1100 (gfx1100): AMD Radeon RX 9070 XT is gfx1201"),
        ("fp8", [], "needs FP8 arithmetic (fp8): this machine has no GPU"),
        ("fp8", [A100], "needs FP8 arithmetic (fp8): NVIDIA A100-SXM4-40GB has compute capability 8.0"),
        ("fp8", [UNKNOWN], "needs FP8 arithmetic (fp8): the compute capability of NVIDIA GPU is unknown"),
        ("fp8", [MI210], "needs FP8 arithmetic (fp8): AMD Instinct MI210 is gfx90a"),
        ("fp8", [NAMELESS], "needs FP8 arithmetic (fp8): the architecture of AMD GPU is unknown"),
        ("fp8", [L4], None),
        ("fp8", [H200], None),
        ("fp8", [MI300X], None),
        ("fp8", [RX9070], None),
        ("multi_gpu", [], "needs two or more GPUs (multi_gpu): this process sees none"),
        ("multi_gpu", [T4], "needs two or more GPUs (multi_gpu): this process sees one"),
        ("multi_gpu", [H200, H200], None),
        ("multi_gpu", [MI300X], None),
    ],
)
def test_a_marker_skips_where_its_need_is_not_met(name: str, gpus: list[Device], reason: str | None) -> None:
    assert skip_reason([mark(name)], machine(*gpus)) == reason


@pytest.mark.parametrize(
    ("gib", "gpus", "reason"),
    [
        (24, [], "needs 24.0 GiB of device memory (vram): this machine has no GPU"),
        (24, [A10], "needs 24.0 GiB of device memory (vram): NVIDIA A10 has 22.5 GiB"),
        (22.4, [A10], None),
        (140, [H200], None),
        (141, [H200], "needs 141.0 GiB of device memory (vram): NVIDIA H200 has 140.4 GiB"),
        (192, [MI300X], "needs 196608 MiB of device memory (vram): AMD Instinct MI300X has 196592 MiB"),
        (64, [MI210], None),
        (8, [UNKNOWN], "needs 8.00 GiB of device memory (vram): that of NVIDIA GPU is unknown"),
    ],
)
def test_vram_compares_with_what_the_driver_reports(gib: float, gpus: list[Device], reason: str | None) -> None:
    assert skip_reason([mark("vram", gib)], machine(*gpus)) == reason
    assert skip_reason([mark("vram", gib=gib)], machine(*gpus)) == reason


def test_the_nearest_of_several_markers_counts() -> None:
    assert skip_reason([mark("vram", 16), mark("vram", 80)], machine(A10)) is None
    assert skip_reason([mark("vram", 80), mark("vram", 16)], machine(A10)) is not None


@pytest.mark.parametrize("name", [name for name, marker in MARKERS.items() if marker.accelerator])
def test_static_waives_every_need_of_hardware(name: str) -> None:
    args = (24,) if name == "vram" else ()
    assert skip_reason([mark(name, *args)], machine()) is not None
    assert skip_reason([mark(name, *args), mark("static")], machine()) is None


def test_unknown_markers_are_passed_over() -> None:
    assert skip_reason([mark("parametrize", "x", [1]), mark("slow")], machine()) is None
    validate([mark("parametrize", "x", [1]), mark("slow", reason="")])


def test_the_most_exact_reason_is_given() -> None:
    reason = "needs compute capability 9.0 or more (sm90): this machine has no CUDA device"
    assert skip_reason([mark("cuda"), mark("sm90")], machine()) == reason
    assert skip_reason([mark("sm90"), mark("fp8"), mark("vram", 24)], machine(MI300X)) == reason


def test_every_need_must_be_met() -> None:
    both = [mark("sm80"), mark("vram", 24)]
    assert skip_reason(both, machine(A10)) == "needs 24.0 GiB of device memory (vram): NVIDIA A10 has 22.5 GiB"
    assert skip_reason(both, machine(A100)) is None


def test_cuda_with_rocm_means_either() -> None:
    either = [mark("cuda"), mark("rocm")]
    assert skip_reason(either, machine(T4)) is None
    assert skip_reason(either, machine(MI210)) is None
    assert skip_reason(either, machine()) == (
        "needs a CUDA device (cuda): this machine has none; needs a ROCm device (rocm): this machine has none"
    )
    # A compute capability is asked of an NVIDIA GPU only.
    exact = [mark("sm90"), mark("rocm"), mark("vram", 32)]
    assert skip_reason(exact, machine(MI210)) is None
    assert skip_reason(exact, machine(H200)) is None
    assert skip_reason(exact, machine(A100)) == (
        "needs compute capability 9.0 or more (sm90): NVIDIA A100-SXM4-40GB has 8.0"
    )


def test_one_of_several_architectures_is_enough() -> None:
    several = [mark("gfx942"), mark("gfx90a")]
    assert skip_reason(several, machine(MI300X)) is None
    assert skip_reason(several, machine(MI210)) is None
    assert skip_reason(several, machine(RX9070)) == (
        "needs an AMD GPU of architecture gfx90a or gfx942 (gfx90a, gfx942): AMD Radeon RX 9070 XT is gfx1201"
    )
    # What else is marked is needed as well.
    assert skip_reason([*several, mark("fp8")], machine(MI210)) == (
        "needs FP8 arithmetic (fp8): AMD Instinct MI210 is gfx90a"
    )


def test_an_architecture_is_asked_of_an_amd_gpu_only() -> None:
    both = [mark("sm90"), mark("gfx942")]
    assert skip_reason(both, machine(H200)) is None
    assert skip_reason(both, machine(MI300X)) is None
    assert skip_reason(both, machine(MI210)) == (
        "needs an AMD GPU of architecture gfx942 (gfx942): AMD Instinct MI210 is gfx90a"
    )
    assert skip_reason([mark("rocm"), mark("gfx942")], machine()) == (
        "needs an AMD GPU of architecture gfx942 (gfx942): this machine has no ROCm device"
    )


def test_each_target_of_the_static_gate_is_a_marker() -> None:
    assert set(TARGETS) <= set(MARKERS)


def test_a_need_is_asked_of_the_kind_that_the_case_is_for() -> None:
    assert skip_reason([mark("rocm"), mark("fp8")], machine(A100, MI300X)) is None
    assert skip_reason([mark("cuda"), mark("fp8")], machine(A100, MI300X)) == (
        "needs FP8 arithmetic (fp8): NVIDIA A100-SXM4-40GB has compute capability 8.0"
    )


@pytest.mark.parametrize(
    ("names", "gpus", "device"),
    [
        (set(), [H200], CPU),
        ({"cpu"}, [H200], CPU),
        ({"isolate", "slow"}, [H200], CPU),
        ({"cuda"}, [H200], H200),
        ({"sm80"}, [H200], H200),
        ({"cuda"}, [T4, H200], T4),
        ({"rocm"}, [H200, MI300X], MI300X),
        ({"cuda", "rocm"}, [MI300X], MI300X),
        ({"cuda", "rocm"}, [H200, MI300X], H200),
        ({"fp8"}, [MI300X], MI300X),
        ({"vram"}, [H200], H200),
        ({"multi_gpu"}, [H200], H200),
        ({"cpu", "cuda"}, [H200], H200),
        ({"gfx942"}, [H200, MI300X], MI300X),
        ({"sm90", "gfx942"}, [MI300X], MI300X),
        ({"gfx942"}, [H200], CPU),
        ({"sm80"}, [], CPU),
        ({"sm80"}, [MI300X], CPU),
        ({"sm80", "static"}, [H200], CPU),
    ],
)
def test_the_device_that_a_case_runs_on(names: set[str], gpus: list[Device], device: Device) -> None:
    assert device_for(names, machine(*gpus)) is device


@pytest.mark.parametrize(
    ("names", "others"),
    [
        ({"sm80"}, {"cuda"}),
        ({"sm89", "sm90", "sm100", "slow"}, {"cuda"}),
        ({"sm80", "cuda"}, set()),
        ({"gfx90a", "gfx942", "gfx1100"}, {"rocm"}),
        ({"sm80", "gfx942"}, {"cuda", "rocm"}),
        ({"rocm", "fp8", "vram", "multi_gpu", "static", "isolate", "cpu"}, set()),
        (set(), set()),
    ],
)
def test_what_a_marker_implies(names: set[str], others: set[str]) -> None:
    assert implied(names) == others


def test_the_documentation_names_every_marker_once() -> None:
    lines = ini_lines()
    assert [line.split(":")[0] for line in lines] == [
        "cuda", "rocm", "cpu", "sm80", "sm89", "sm90", "sm100",
        "gfx90a", "gfx942", "gfx1100", "fp8", "multi_gpu", "vram(gib)",
        "static(launches, targets=None, limits=None)",
        "isolate(timeout=seconds, group=name)",
    ]  # fmt: skip
    assert lines[3] == "sm80: needs an NVIDIA GPU of compute capability 8.0 or more (A100 and later); implies cuda."
    assert lines[8] == (
        "gfx942: needs an AMD GPU of exactly this architecture (MI300X, MI325X), or of one of several; implies rocm."
    )
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize(
    "good",
    [
        mark("vram", 24),
        mark("vram", 0.5),
        mark("vram", gib=24),
        mark("isolate"),
        mark("isolate", timeout=60),
        mark("isolate", group="profiles"),
        mark("isolate", timeout=60, group="a"),
    ],
)
def test_arguments_that_can_be_used(good: Mark) -> None:
    validate([good])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            mark("sm80", 1),
            "marker sm80 cannot be used as sm80(1)\nIt takes no arguments.\nhint: write @pytest.mark.sm80",
        ),
        (
            mark("cpu", reason="x"),
            "marker cpu cannot be used as cpu(reason='x')\nIt takes no arguments.\nhint: write @pytest.mark.cpu",
        ),
        *(
            (
                ("vram", args, kwargs),
                f"marker vram cannot be used as vram({written})\nIt takes one positive number of GiB.\n"
                "hint: write @pytest.mark.vram(24)",
            )
            for args, kwargs, written in [
                ((), {}, ""),
                ((0,), {}, "0"),
                ((-1,), {}, "-1"),
                (("24",), {}, "'24'"),
                ((True,), {}, "True"),
                ((float("nan"),), {}, "nan"),
                ((float("inf"),), {}, "inf"),
                ((24, 48), {}, "24, 48"),
                ((24,), {"gib": 24}, "24, gib=24"),
                ((24,), {"strict": True}, "24, strict=True"),
                ((), {"gb": 24}, "gb=24"),
            ]
        ),
        *(
            (
                ("isolate", args, kwargs),
                f"marker isolate cannot be used as isolate({written})\n"
                "It takes timeout=, a positive number of seconds, and group=, a name; both may be left out.\n"
                "hint: write @pytest.mark.isolate(timeout=60)",
            )
            for args, kwargs, written in [
                ((60,), {}, "60"),
                ((), {"timeout": 0}, "timeout=0"),
                ((), {"timeout": None}, "timeout=None"),
                ((), {"timeout": "60"}, "timeout='60'"),
                ((), {"seconds": 60}, "seconds=60"),
                ((), {"timeout": 60, "retries": 1}, "timeout=60, retries=1"),
                (("profiles",), {}, "'profiles'"),
                ((), {"group": ""}, "group=''"),
                ((), {"group": 1}, "group=1"),
                ((), {"timeout": "60", "group": "a"}, "timeout='60', group='a'"),
            ]
        ),
    ],
)
def test_arguments_that_cannot_be_used(bad: Mark, message: str) -> None:
    for judge in (lambda: validate([bad]), lambda: skip_reason([bad, mark("static")], machine(H200))):
        with pytest.raises(SettingError) as caught:
            judge()
        assert str(caught.value) == message


GPUS = st.lists(st.sampled_from([T4, A100, A10, L4, H200, B200, MI210, MI300X, RX9070]), max_size=2)
NAMES = st.sets(st.sampled_from([name for name in MARKERS if name not in ("vram", "static")]))


@given(NAMES, GPUS)
def test_a_case_that_is_not_skipped_has_the_device_it_needs(names: set[str], gpus: list[Device]) -> None:
    hardware = machine(*gpus)
    if skip_reason([mark(name) for name in sorted(names)], hardware) is None:
        needs_gpu = any(MARKERS[name].accelerator for name in names)
        assert (device_for(names, hardware).kind != "cpu") == needs_gpu


@given(NAMES, GPUS)
def test_implied_markers_change_nothing(names: set[str], gpus: list[Device]) -> None:
    hardware = machine(*gpus)
    more = names | implied(names)
    assert device_for(names, hardware) is device_for(more, hardware)
    reasons = [skip_reason([mark(name) for name in sorted(some)], hardware) for some in (names, more)]
    assert reasons[0] == reasons[1]
