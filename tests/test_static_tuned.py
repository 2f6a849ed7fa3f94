"""Are stored tuned configurations compiled as they are launched, for their own hardware alone?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perfgate.baseline.files import replace_file
from perfgate.static import tuned
from perfgate.static.answers import Answer, Question
from perfgate.static.pool import Pool
from perfgate.static.targets import of_key
from perfgate.tune import store
from perfgate.tune.store import Tuned

pytest.importorskip("torch")
pytest.importorskip("triton")

KERNEL = """
from dataclasses import dataclass

import torch
import triton
import triton.language as tl


@dataclass(frozen=True)
class LaunchConfig:
    num_warps: int


@triton.jit
def copy(x_ptr, y_ptr, rows, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets))


def launch(x, config=LaunchConfig(4)):
    copy[(1,)](x, torch.empty_like(x), len(x), 4096, num_warps=config.num_warps)
    return x
"""
SPECIALISATIONS = """
import torch
from tuned_rows.kernel import launch

LAUNCHES = {"default": lambda: launch(torch.empty(128, 4096, device="cuda"))}
OTHERS = dict(LAUNCHES)
"""
TUNING = """
import torch
from perfgate.tune.tunable import Tunable
from tuned_rows.kernel import LaunchConfig, launch


def inputs(rows):
    if rows == 3:
        return [1][rows:][0]
    # An input may come out of another kernel.
    return (launch(torch.randn(rows, 4096, device="cuda", generator=torch.Generator("cuda").manual_seed(0))),)


TUNABLE = Tunable(
    kernel="rows",
    shapes=lambda: [(128,), (512,), (3,)],
    shape_class=lambda rows: f"up-to-{rows}",
    default=lambda rows: LaunchConfig(4),
    candidates=lambda rows: [],
    neighbours=lambda config, rows: [],
    inputs=inputs,
    launch=lambda config, x: launch(x, config),
    gated=lambda shape_class: shape_class != "up-to-1024",
)
"""
ENTRY = Tuned({"num_warps": 8}, 1e-6, {"num_warps": 4}, 2e-6, "2026-01-31T12:00:00+00:00", {})
STORED = {
    "up-to-128": ENTRY,
    "up-to-512": replace(ENTRY, config=None),
    "up-to-1024": ENTRY,
    "up-to-3": ENTRY,
    "gone": ENTRY,
    "up-to-513": replace(ENTRY, config={"num_warps": 8, "stages": 2}),
}
PLACE = "tuned_rows.specialisations"
FILE = "baselines/nvidia-h200/tuning/rows.json"
HINT = "hint: tune again on that GPU: perfgate tune rows, or delete the entry"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kernel with what was tuned on two GPUs, and on hardware that is no target."""
    folder = tmp_path_factory.mktemp("project")
    package = folder / "tuned_rows"
    package.mkdir()
    tuning = TUNING.replace("(3,)]", "(3,), (513,), (1024,)]")
    for name, text in {"__init__": "", "kernel": KERNEL, "specialisations": SPECIALISATIONS, "tuning": tuning}.items():
        (package / f"{name}.py").write_text(text)
    baselines = folder / "baselines"
    store.merge(baselines, "nvidia-h200", "rows", STORED)
    store.merge(baselines, "amd-instinct-mi300x", "rows", {"up-to-128": replace(ENTRY, config={"num_warps": 2})})
    store.merge(baselines, "nvidia-tesla-t4", "rows", {"up-to-128": ENTRY})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        # Runs may start in a folder of the repository.
        (folder / "sub").mkdir()
        patch.chdir(folder / "sub")
        patch.delenv("PERFGATE_BASELINES", raising=False)
        patch.setenv("TRITON_CACHE_DIR", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def listed(project: Path) -> Iterator[tuple[Answer, Pool]]:
    """List the launches."""
    pool = Pool(1)
    yield pool.launches(PLACE), pool
    pool.close()


@pytest.fixture(scope="module")
def compiled(listed: tuple[Answer, Pool]) -> Mapping[str, Answer]:
    """Compile all for their targets, by name, and the default for sm90."""
    answer, pool = listed
    questions = {name: Question(PLACE, name, target) for name, target in answer.tuned.items()}
    questions["default"] = Question(PLACE, "default", "sm90")
    pool.submit(questions.values())
    return {name: pool.ask(question) for name, question in questions.items()}


def test_stored_configurations_are_launches_of_the_hardwares_target(listed: tuple[Answer, Pool]) -> None:
    answer, pool = listed
    assert list(answer.code) == ["default"]
    assert answer.tuned == {
        "up-to-128-tuned-amd-instinct-mi300x": "gfx942",
        "gone-tuned-nvidia-h200": "sm90",
        "up-to-128-tuned-nvidia-h200": "sm90",
        "up-to-3-tuned-nvidia-h200": "sm90",
        "up-to-513-tuned-nvidia-h200": "sm90",
    }
    assert answer.names("gfx942") == ["default", "up-to-128-tuned-amd-instinct-mi300x"]
    assert answer.names("sm80") == ["default"]
    assert pool.launches(f"{PLACE}:OTHERS").tuned == {}
    assert pool.launches(f"{PLACE}:LAUNCHES").tuned == answer.tuned


def test_a_kernel_may_leave_stored_configurations_out_of_the_gate(listed: tuple[Answer, Pool]) -> None:
    answer, pool = listed
    assert set(tuned.names(PLACE)) - set(answer.tuned) == {"up-to-1024-tuned-nvidia-h200"}
    # It can be asked for all the same.
    assert pool.ask(Question(PLACE, "up-to-1024-tuned-nvidia-h200", "sm90")).status == "compiled"


def test_they_are_launched_with_what_is_stored(compiled: Mapping[str, Answer]) -> None:
    tuned, default = compiled["up-to-128-tuned-nvidia-h200"], compiled["default"]
    # What makes the inputs launches a kernel too, which is no part of it.
    assert (tuned.status, tuned.launches) == ("compiled", 1)
    (kernel,), (usual,) = tuned.kernels, default.kernels
    assert (kernel.form.options["num_warps"], usual.form.options["num_warps"]) == ("8", "4")
    assert kernel.form.arguments == usual.form.arguments
    assert kernel.code.loads[16] == usual.code.loads[16] // 2
    (other,) = compiled["up-to-128-tuned-amd-instinct-mi300x"].kernels
    assert (other.target, other.form.options["num_warps"]) == ("gfx942", "2")


def test_a_stored_configuration_that_cannot_be_launched_is_told(compiled: Mapping[str, Answer]) -> None:
    gone, unknown = compiled["gone-tuned-nvidia-h200"], compiled["up-to-513-tuned-nvidia-h200"]
    assert (gone.status, gone.reason, gone.detail) == (
        "failed", f"{FILE}: gone: the kernel's tuning.py has no shapes of this class", HINT
    )  # fmt: skip
    assert (unknown.status, unknown.reason, unknown.detail) == (
        "failed",
        f"{FILE}: up-to-513: the launcher has no such configuration: {{'num_warps': 8, 'stages': 2}}",
        HINT,
    )
    inputs = compiled["up-to-3-tuned-nvidia-h200"]
    assert (inputs.status, inputs.reason) == (
        "failed",
        "its inputs cannot be made without memory: IndexError: list index out of range",
    )


def test_a_file_that_cannot_be_read_is_told(project: Path) -> None:
    path = project / FILE
    sound = path.read_bytes()
    replace_file(path, sound + b"}")
    pool = Pool(1)
    answer = pool.launches(PLACE)
    replace_file(path, sound)
    pool.close()
    assert answer.status == "failed"
    assert answer.reason.startswith(f"{path}: not JSON: ")
    assert answer.detail.startswith("hint: restore it with: git checkout -- ")


def test_the_folder_that_launchers_are_told_is_taken(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.merge(tmp_path, "nvidia-b200", "rows", {"up-to-128": ENTRY})
    monkeypatch.setenv("PERFGATE_BASELINES", str(tmp_path))
    pool = Pool(1)
    assert pool.launches(PLACE).tuned == {"up-to-128-tuned-nvidia-b200": "sm100"}
    pool.close()


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("nvidia-h200", "sm90"),
        ("nvidia-h200-500w-mig-1g-18gb", "sm90"),
        ("nvidia-h100-80gb-hbm3", "sm90"),
        ("nvidia-a100-sxm4-40gb", "sm80"),
        ("nvidia-a10", None),
        ("nvidia-l4", "sm89"),
        ("nvidia-l40s", "sm89"),
        ("nvidia-geforce-rtx-4090", "sm89"),
        ("nvidia-geforce-rtx-3090", None),
        ("nvidia-b200", "sm100"),
        ("amd-instinct-mi250x", "gfx90a"),
        ("amd-instinct-mi210", "gfx90a"),
        ("amd-instinct-mi300x", "gfx942"),
        ("amd-instinct-mi325x", "gfx942"),
        ("amd-radeon-rx-7900-xtx", "gfx1100"),
        ("cpu-intel-xeon-2t", None),
        ("static-sm90", None),
    ],
)
def test_targets_of_hardware_keys(key: str, target: str | None) -> None:
    found = of_key(key)
    assert (found.name if found else None) == target


def test_every_stored_key_of_this_repository_has_a_target() -> None:
    baselines = Path(__file__).parents[1] / "baselines"
    stored = {path.parent.parent.name: json.loads(path.read_text()) for path in baselines.glob("*/tuning/*.json")}
    assert stored
    keys: dict[str, Any] = {key: of_key(key) for key in stored}
    assert [key for key, target in keys.items() if target is None] == []
