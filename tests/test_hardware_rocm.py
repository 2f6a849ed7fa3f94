"""Are AMD GPUs found as ROCm will show them, through amdsmi or else through torch?"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.hardware import rocm
from perfgate.hardware.sources import Found, Sources
from perfgate.model import Device

GIB = 1024**3


class AmdSmiError(Exception):
    """What amdsmi raises."""


@dataclass
class Card:
    """A pretended AMD GPU."""

    serial: str = "0xBA6524093004B8B2"
    name: str = "AMD Instinct MI300X"
    arch: str | None = "gfx942"
    memory: Any = 196592 * 1024**2
    power_uw: Any = 750_000_000


class AmdSmi:
    """A pretended amdsmi."""

    AmdSmiMemoryType = SimpleNamespace(VRAM="vram")

    def __init__(self, cards: list[Card], *, starts: bool = True, driver: str = "6.10.5") -> None:
        self.cards, self.starts, self.driver, self.open = cards, starts, driver, 0

    def amdsmi_init(self) -> None:
        if not self.starts:
            raise AmdSmiError("driver not loaded")
        self.open += 1

    def amdsmi_shut_down(self) -> None:
        self.open -= 1

    def amdsmi_get_processor_handles(self) -> list[Card]:
        return self.cards

    def amdsmi_get_gpu_asic_info(self, card: Card) -> dict[str, Any]:
        info = {"market_name": card.name, "asic_serial": card.serial}
        return info if card.arch is None else {**info, "target_graphics_version": card.arch}

    def amdsmi_get_gpu_memory_total(self, card: Card, kind: str) -> Any:
        assert kind == "vram"
        return card.memory

    def amdsmi_get_power_cap_info(self, card: Card) -> dict[str, Any]:
        if card.power_uw is None:
            raise AmdSmiError("not supported on virtual machine guest")
        return {"power_cap": card.power_uw, "max_power_cap": 1}

    def amdsmi_get_gpu_driver_info(self, card: Card) -> dict[str, Any]:
        return {"driver_name": "amdgpu", "driver_version": self.driver}


def machine(
    modules: dict[str, Any],
    *,
    environ: dict[str, str] | None = None,
    files: tuple[str, ...] = ("/dev/kfd",),
    loaded: dict[str, Any] | None = None,
    torch_version: str = "",
    texts: dict[str, str] | None = None,
) -> Sources:
    """Pretend a machine on which these modules can be imported and these files exist."""
    return Sources(
        environ=environ or {},
        load=modules.get,
        loaded=(loaded or {}).get,
        version=lambda package: "2.11.0" if package == "torch" and torch_version else None,
        package_text=lambda package, path: torch_version if (package, path) == ("torch", "torch/version.py") else None,
        read=(texts or {}).get,
        exists=files.__contains__,
    )


def found(*cards: Card, texts: dict[str, str] | None = None, **environ: str) -> tuple[Device, ...]:
    smi = AmdSmi(list(cards))
    devices = rocm.find(machine({"amdsmi": smi}, environ=environ, texts=texts)).devices
    assert smi.open == 0
    return devices


def test_an_mi300x_is_described_in_full() -> None:
    texts = {"/sys/module/amdgpu/version": "6.12.12\n", "/opt/rocm/.info/version": "6.3.1-48\n"}
    assert rocm.find(machine({"amdsmi": AmdSmi([Card()])}, texts=texts)) == Found(
        (
            Device(
                kind="rocm",
                name="AMD Instinct MI300X",
                key="amd-instinct-mi300x",
                memory_bytes=196592 * 1024**2,
                arch="gfx942",
                power_limit_w=750.0,
                count=1,
            ),
        ),
        {"driver": "6.12.12", "rocm": "6.3.1-48"},
    )


@pytest.mark.parametrize(("driver", "versions"), [("6.10.5", {"driver": "6.10.5"}), ("N/A", {})])
def test_the_driver_version_comes_from_amdsmi_where_the_kernel_does_not_tell(
    driver: str, versions: dict[str, str]
) -> None:
    assert rocm.find(machine({"amdsmi": AmdSmi([Card()], driver=driver)})).versions == versions


def test_what_amdsmi_cannot_tell_is_left_out() -> None:
    assert found(Card(name="N/A", arch="N/A", memory="N/A", power_uw=None)) == (
        Device(kind="rocm", name="AMD GPU", key="amd-gpu"),
    )
    assert found(Card(name="", memory=0, power_uw="N/A"))[0].key == "amd-gfx942"


def test_a_power_cap_in_watts_is_read_too() -> None:
    assert found(Card(power_uw=750))[0].power_limit_w == 750.0


@pytest.mark.parametrize(
    ("told", "arch"),
    [("gfx90a", "gfx90a"), ("gfx9010", "gfx90a"), ("gfx942", "gfx942"), ("942", "gfx942"), ("gfx1100", "gfx1100")],
)
def test_the_architecture_in_the_words_of_amdsmi(told: str, arch: str) -> None:
    assert found(Card(arch=told))[0].arch == arch


@pytest.mark.parametrize(
    ("version", "arch"), [("90402", "gfx942"), ("90010", "gfx90a"), ("110000", "gfx1100"), ("120001", "gfx1201")]
)
def test_the_architecture_comes_from_the_kernel_where_amdsmi_does_not_tell(version: str, arch: str) -> None:
    nodes = "/sys/class/kfd/kfd/topology/nodes"
    texts = {
        f"{nodes}/0/properties": "cpu_cores_count 8\ngfx_target_version 0\n",
        f"{nodes}/1/properties": f"simd_count 1216\ngfx_target_version {version}\n",
    }
    assert found(Card(arch=None), texts=texts)[0].arch == arch
    assert found(Card(arch=None))[0].arch is None


CARDS = [Card("0xAA01", "first"), Card("0xBB02", "second"), Card("0xCC03", "third")]


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["first", "second", "third"]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, ["third", "first"]),
        ({"HIP_VISIBLE_DEVICES": ""}, []),
        ({"ROCR_VISIBLE_DEVICES": "1,2"}, ["second", "third"]),
        ({"ROCR_VISIBLE_DEVICES": "1,2", "HIP_VISIBLE_DEVICES": "1"}, ["third"]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-cc03"}, ["third"]),
        ({"HIP_VISIBLE_DEVICES": "GPU-bb02,GPU-aa01"}, ["second", "first"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["second"]),
        ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "2"}, ["third"]),
    ],
)
def test_the_visible_devices_are_respected(environ: dict[str, str], names: list[str]) -> None:
    devices = found(*CARDS, **environ)
    assert [device.name for device in devices] == names
    assert {device.count for device in devices} <= {len(names)}


def test_without_a_driver_nothing_is_imported() -> None:
    def never(name: str) -> Any:
        raise AssertionError(f"{name} was imported")

    sources = machine({}, files=(), torch_version="hip: Optional[str] = '6.3'\n")
    assert rocm.find(Sources(**{**vars(sources), "load": never})) == Found()


def torch_with(*properties: SimpleNamespace, hip: str | None = "6.3.42131") -> SimpleNamespace:
    return SimpleNamespace(
        version=SimpleNamespace(cuda=None, hip=hip),
        cuda=SimpleNamespace(
            is_available=lambda: True,
            device_count=lambda: len(properties),
            get_device_properties=properties.__getitem__,
        ),
    )


MI300X = SimpleNamespace(
    name="AMD Instinct MI300X", total_memory=205822885888, gcnArchName="gfx942:sramecc+:xnack-", major=9, minor=4
)
BUILT_FOR_ROCM = "cuda: Optional[str] = None\nhip: Optional[str] = '6.3.42131-fa1d09cbd'\n"


@pytest.mark.parametrize("modules", [{}, {"amdsmi": AmdSmi([], starts=False)}])
def test_torch_is_asked_where_amdsmi_is_absent_or_fails(modules: dict[str, Any]) -> None:
    sources = machine({**modules, "torch": torch_with(MI300X)}, torch_version=BUILT_FOR_ROCM)
    device = Device("rocm", "AMD Instinct MI300X", "amd-instinct-mi300x", 205822885888, arch="gfx942", count=1)
    assert rocm.find(sources) == Found((device,))


def test_torch_is_asked_where_amdsmi_cannot_list() -> None:
    smi = AmdSmi([Card()])
    smi.amdsmi_get_processor_handles = None  # type: ignore[method-assign, assignment]
    devices = rocm.find(machine({"amdsmi": smi}, loaded={"torch": torch_with(MI300X, MI300X)})).devices
    assert ([device.count for device in devices], smi.open) == ([2, 2], 0)


def test_torch_for_cuda_finds_no_amd_gpu() -> None:
    assert rocm.find(machine({}, loaded={"torch": torch_with(MI300X, hip=None)})) == Found()


def test_torch_that_cannot_use_the_gpu_finds_none() -> None:
    torch = torch_with(MI300X)
    torch.cuda.is_available = lambda: False
    assert rocm.find(machine({}, loaded={"torch": torch})) == Found()


@pytest.mark.parametrize("torch_version", ["", "hip: Optional[str] = None\n"])
def test_torch_is_not_imported_where_it_cannot_help(torch_version: str) -> None:
    imports: list[str] = []
    sources = machine({}, torch_version=torch_version)
    assert rocm.find(Sources(**{**vars(sources), "load": imports.append})) == Found()
    assert imports == ["amdsmi"]


def test_a_card_without_a_name_in_torch() -> None:
    nameless = SimpleNamespace(name="", total_memory=64 * GIB)
    (device,) = rocm.find(machine({}, loaded={"torch": torch_with(nameless)})).devices
    assert (device.name, device.key, device.arch) == ("AMD GPU", "amd-gpu-64gb", None)
