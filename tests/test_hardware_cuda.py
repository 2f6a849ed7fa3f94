"""Are NVIDIA GPUs found as CUDA will show them, through NVML or else through torch?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.hardware import cuda
from perfgate.hardware.sources import Found, Sources
from perfgate.model import Device

MIB = 1024**2


class NvmlError(Exception):
    """What nvidia-ml-py raises for everything."""


@dataclass
class Instance:
    """A pretended MIG instance."""

    uuid: str
    name: str
    memory_mib: int = 16384
    slices: int = 1


@dataclass
class Card:
    """A pretended GPU; None is a figure that NVML cannot tell."""

    uuid: str = "GPU-0"
    name: str | bytes | None = "NVIDIA H200"
    memory_mib: int | None = 143771
    power_mw: int | None = 700_000
    default_power_mw: int | None = None
    capability: tuple[int, int] | None = (9, 0)
    mig: list[Instance] | None = None
    cores: int | None = None
    readable: bool = True


def told(value: Any) -> Any:
    if value is None:
        raise NvmlError("Not Supported")
    return value


@dataclass
class Nvml:
    """A pretended NVML that counts how often it is open."""

    cards: list[Card]
    driver: str | None = "580.159.03"
    open: int = 0
    starts: bool = True
    NVML_CLOCK_SM: int = 1

    def nvmlInit(self) -> None:
        if not self.starts:
            raise NvmlError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return told(self.driver)

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13000

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return told(self.cards[index] if self.cards[index].readable else None)

    def nvmlDeviceGetUUID(self, handle: Card | Instance) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: Card | Instance) -> str | bytes:
        return told(handle.name)

    def nvmlDeviceGetMemoryInfo(self, handle: Card | Instance) -> SimpleNamespace:
        return SimpleNamespace(total=told(handle.memory_mib) * MIB)

    def nvmlDeviceGetPowerManagementLimit(self, handle: Card) -> int:
        return told(handle.power_mw)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Card) -> int:
        return told(handle.default_power_mw)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Card) -> tuple[int, int]:
        return told(handle.capability)

    def nvmlDeviceGetMigMode(self, handle: Card) -> list[int]:
        if handle.name == "Tesla T4":
            raise NvmlError("Not Supported")
        return [1, 1] if handle.mig is not None else [0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Card, index: int) -> Instance:
        # The first place is empty, as after an instance was destroyed.
        found = dict(enumerate(handle.mig or [], start=1))
        return told(found.get(index))

    def nvmlDeviceGetAttributes(self, handle: Instance) -> SimpleNamespace:
        return SimpleNamespace(gpuInstanceSliceCount=handle.slices, memorySizeMB=handle.memory_mib)

    def nvmlDeviceGetNumGpuCores(self, handle: Card) -> int:
        return told(handle.cores)

    def nvmlDeviceGetMaxClockInfo(self, handle: Card, kind: int) -> int:
        assert kind == self.NVML_CLOCK_SM
        return 1980


def machine(
    modules: dict[str, Any],
    *,
    environ: dict[str, str] | None = None,
    files: tuple[str, ...] = ("/dev/nvidiactl",),
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


def found_by_nvml(*cards: Card, visible: str | None = None, **environ: str) -> tuple[Device, ...]:
    nvml = Nvml(list(cards))
    if visible is not None:
        environ["CUDA_VISIBLE_DEVICES"] = visible
    found = cuda.find(machine({"pynvml": nvml}, environ=environ))
    assert nvml.open == 0
    return found.devices


def keys(devices: tuple[Device, ...]) -> list[str]:
    return [device.key for device in devices]


def test_an_h200_is_described_in_full() -> None:
    nvml = Nvml([Card()])
    assert cuda.find(machine({"pynvml": nvml})) == Found(
        (
            Device(
                kind="cuda",
                name="NVIDIA H200",
                key="nvidia-h200",
                memory_bytes=143771 * MIB,
                capability=(9, 0),
                power_limit_w=700.0,
                count=1,
            ),
        ),
        {"driver": "580.159.03", "cuda": "13.0"},
    )
    assert nvml.open == 0


def test_a_figure_that_nvml_cannot_tell_is_left_out() -> None:
    card = Card(name=None, memory_mib=None, power_mw=None, capability=None)
    assert found_by_nvml(card) == (Device(kind="cuda", name="NVIDIA GPU", key="nvidia-gpu"),)


def test_a_laptop_is_keyed_by_its_default_power_limit() -> None:
    card = Card(name="NVIDIA GeForce RTX 3080 Laptop GPU", memory_mib=16384, power_mw=None, default_power_mw=115_000)
    assert keys(found_by_nvml(card)) == ["nvidia-geforce-rtx-3080-laptop-gpu-16gb-115w"]


def test_names_in_bytes_are_read() -> None:
    assert found_by_nvml(Card(name=b"Tesla T4\xff"))[0].name == "Tesla T4\ufffd"


def test_a_hostile_name_is_escaped_for_the_terminal_and_the_key() -> None:
    (device,) = found_by_nvml(Card(name="../\x1b[2J\nH200"))
    assert device.name == "../\\x1b[2J\\nH200"
    assert device.key.startswith("nvidia-2j-h200--")


def test_a_card_that_may_not_be_opened_is_not_counted() -> None:
    devices = found_by_nvml(Card("GPU-0"), Card("GPU-1", readable=False), Card("GPU-2"))
    assert [device.count for device in devices] == [2, 2]


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA H200", "NVIDIA L4"]),
        ("1", ["NVIDIA L4"]),
        ("1,0", ["NVIDIA L4", "NVIDIA H200"]),
        ("GPU-b", ["NVIDIA L4"]),
        ("", []),
        ("-1", []),
        ("7", []),
    ],
)
def test_cuda_visible_devices_is_respected(visible: str | None, names: list[str]) -> None:
    cards = [Card("GPU-aa"), Card("GPU-bb", "NVIDIA L4", 23034, 72_000, capability=(8, 9))]
    devices = found_by_nvml(*cards, visible=visible, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert [device.name for device in devices] == names
    assert {device.count for device in devices} <= {len(names)}


def test_different_cards_are_counted_from_the_fastest() -> None:
    slow = Card("GPU-a", "NVIDIA T400", 2048, 30_000, capability=(7, 5), cores=384)
    fast = Card("GPU-b", "NVIDIA GeForce RTX 4090", 24564, 450_000, capability=(8, 9), cores=16384)
    unknown = Card("GPU-c", "NVIDIA T1000", 4096, 50_000, capability=(7, 5), cores=None)
    assert [device.name for device in found_by_nvml(slow, fast, visible="0")] == ["NVIDIA GeForce RTX 4090"]
    assert [device.name for device in found_by_nvml(unknown, slow)] == ["NVIDIA T400", "NVIDIA T1000"]
    by_bus = found_by_nvml(slow, fast, visible="0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert [device.name for device in by_bus] == ["NVIDIA T400"]


MIG = [Instance("MIG-aaa", "NVIDIA H200 MIG 1g.18gb"), Instance("MIG-bbb", "NVIDIA H200 MIG 3g.71gb", 71424, 3)]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["nvidia-h200-mig-1g-18gb"]),
        ("0", ["nvidia-h200-mig-1g-18gb"]),
        ("GPU-0", ["nvidia-h200-mig-1g-18gb"]),
        ("MIG-bbb", ["nvidia-h200-mig-3g-71gb"]),
        ("MIG-bbb,MIG-aaa", ["nvidia-h200-mig-3g-71gb"]),
        ("1", ["nvidia-h200"]),
        ("2", []),
        ("MIG-ccc", []),
        ("", []),
    ],
)
def test_a_process_sees_one_mig_instance(visible: str | None, expected: list[str]) -> None:
    assert keys(found_by_nvml(Card("GPU-0", mig=MIG), Card("GPU-1"), visible=visible)) == expected


def test_a_mig_instance_has_its_own_memory_and_the_power_limit_of_its_card() -> None:
    (device,) = found_by_nvml(Card(mig=MIG, power_mw=500_000))
    assert device == Device(
        kind="cuda",
        name="NVIDIA H200 MIG 1g.18gb",
        key="nvidia-h200-500w-mig-1g-18gb",
        memory_bytes=16384 * MIB,
        capability=(9, 0),
        power_limit_w=500.0,
        mig="1g.18gb",
    )


def test_a_mig_instance_without_a_named_profile_gets_one_from_its_slices() -> None:
    (device,) = found_by_nvml(Card(mig=[Instance("MIG-aaa", "NVIDIA H200", 18000)]))
    assert (device.name, device.key) == ("NVIDIA H200 MIG 1g.18gb", "nvidia-h200-mig-1g-18gb")


def test_a_mig_instance_that_tells_nothing_is_kept_apart_all_the_same() -> None:
    nvml = Nvml([Card(mig=[Instance("MIG-aaa", "NVIDIA H200")])])
    nvml.nvmlDeviceGetAttributes = lambda handle: told(None)  # type: ignore[method-assign]
    assert keys(cuda.find(machine({"pynvml": nvml})).devices) == ["nvidia-h200-mig-unknown"]


def test_versions_that_nvml_cannot_tell_are_left_out() -> None:
    nvml = Nvml([Card()], driver=None)
    nvml.nvmlSystemGetCudaDriverVersion = lambda: told(None)  # type: ignore[method-assign]
    assert cuda.find(machine({"pynvml": nvml})).versions == {}


def test_a_card_in_mig_mode_without_instances_is_of_no_use() -> None:
    assert found_by_nvml(Card("GPU-0", mig=[])) == ()
    assert keys(found_by_nvml(Card("GPU-0", mig=[]), Card("GPU-1"))) == ["nvidia-h200"]


def never(name: str) -> Any:
    raise AssertionError(f"{name} was imported")


def test_without_a_driver_nothing_is_imported() -> None:
    sources = machine({}, files=(), torch_version="cuda: Optional[str] = '13.0'\n")
    assert cuda.find(Sources(**{**vars(sources), "load": never})) == Found()


def torch_with(
    properties: list[SimpleNamespace],
    *,
    version_cuda: str | None = "13.0",
    available: Callable[[], bool] | None = None,
) -> SimpleNamespace:
    return SimpleNamespace(
        version=SimpleNamespace(cuda=version_cuda, hip=None),
        cuda=SimpleNamespace(
            is_available=available or (lambda: True),
            device_count=lambda: len(properties),
            get_device_properties=properties.__getitem__,
        ),
    )


H200 = SimpleNamespace(name="NVIDIA H200", total_memory=150110011392, major=9, minor=0)
DRIVER_FILE = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.03  Release Build  (dvs-builder@U22-I3)
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""
BUILT_FOR_CUDA = "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"


@pytest.mark.parametrize("modules", [{}, {"pynvml": Nvml([], starts=False)}])
def test_torch_is_asked_where_nvml_is_absent_or_fails(modules: dict[str, Any]) -> None:
    sources = machine(
        {**modules, "torch": torch_with([H200])},
        torch_version=BUILT_FOR_CUDA,
        texts={"/proc/driver/nvidia/version": DRIVER_FILE},
    )
    device = Device("cuda", "NVIDIA H200", "nvidia-h200", 150110011392, (9, 0), count=1)
    assert cuda.find(sources) == Found((device,), {"driver": "580.159.03"})


def test_torch_is_asked_where_nvml_cannot_count() -> None:
    nvml = Nvml([Card()])
    nvml.nvmlDeviceGetCount = lambda: told(None)  # type: ignore[method-assign]
    found = cuda.find(machine({"pynvml": nvml, "torch": torch_with([H200])}, torch_version=BUILT_FOR_CUDA))
    assert (keys(found.devices), nvml.open) == (["nvidia-h200"], 0)


def test_torch_that_is_already_imported_is_asked_without_a_driver_in_sight() -> None:
    found = cuda.find(machine({}, files=(), loaded={"torch": torch_with([H200, H200])}))
    assert [(device.key, device.count) for device in found.devices] == [("nvidia-h200", 2)] * 2
    assert found.versions == {}


def test_torch_names_a_mig_instance() -> None:
    instance = SimpleNamespace(name="NVIDIA H200 MIG 1g.18gb", total_memory=16 * 1024**3, major=9, minor=0)
    (device,) = cuda.find(machine({}, loaded={"torch": torch_with([instance])})).devices
    assert (device.key, device.mig, device.memory_bytes) == ("nvidia-h200-mig-1g-18gb", "1g.18gb", 16 * 1024**3)


def broken() -> bool:
    raise RuntimeError("CUDA unknown error")


@pytest.mark.parametrize(
    "torch",
    [
        torch_with([H200], version_cuda=None),
        torch_with([H200], available=lambda: False),
        torch_with([H200], available=broken),
        torch_with([]),
        SimpleNamespace(),
    ],
)
def test_torch_that_cannot_use_the_gpu_finds_none(torch: SimpleNamespace) -> None:
    assert cuda.find(machine({"torch": torch}, torch_version=BUILT_FOR_CUDA)) == Found()


@pytest.mark.parametrize(
    ("files", "torch_version"),
    [
        (("/dev/nvidiactl",), "cuda: Optional[str] = None\n"),
        (("/dev/nvidiactl",), ""),
        (("/dev/dxg",), BUILT_FOR_CUDA),
    ],
)
def test_torch_is_not_imported_where_it_cannot_help(files: tuple[str, ...], torch_version: str) -> None:
    sources = machine({}, files=files, torch_version=torch_version)
    imports: list[str] = []
    assert cuda.find(Sources(**{**vars(sources), "load": imports.append})) == Found()
    assert imports == ["pynvml"]
