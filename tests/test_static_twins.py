"""Is each kind of damage to a compiled kernel caught? Kernels that are recorded sound and compared damaged.

Everything goes by the command line, in two runs: the first records, the second compares.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

KERNELS = Path(__file__).parent / "twins" / "compiled_kernels.py"
CASES = """
import pytest

@pytest.mark.static("compiled_kernels", targets=("sm90", "gfx942", "gfx1100"))
def test_damage(compiled):
    assert compiled.kernel.code.instructions > 0

@pytest.mark.static("compiled_kernels:PIPELINE_LAUNCHES", targets=("sm80", "sm90", "sm100"))
def test_pipeline(compiled):
    pass

@pytest.mark.static("compiled_kernels:FP8_LAUNCHES", targets=("sm80",))
def test_fp8(compiled):
    pass

@pytest.mark.static("compiled_kernels:WARPS_LAUNCHES", targets=("sm90", "gfx942"))
def test_warps(compiled):
    pass

@pytest.mark.static("compiled_kernels:SOUND_LAUNCHES", targets=("sm90", "gfx942"))
def test_sound(compiled):
    assert compiled.kernel.narrow_offsets == ()
"""
#: Cases that are in no way damaged.
SOUND = 4
#: By damage, what the reason of its case must say on any target.
TOLD = {
    "spill": r"spilled registers 0 -> \d+, .*local-memory accesses 0 -> \d+",
    "occupancy": r"registers \d+ -> \d+, occupancy [\d.]+ % -> [\d.]+ %",
    "shared-memory": r"shared memory [\d.]+ KiB -> [\d.]+ KiB",
    "width": r"mean width of global loads 16 B -> 4 B, global loads \d+ -> \d+, .*loads of at most 4 bytes 0 -> \d+",
    "store-width": r"mean width of global stores 16 B -> 4 B, .*stores of at most 4 bytes 0 -> \d+",
    "tensor-cores": r"tensor-core instructions \d+ -> 0",
    "offsets": r"32-bit offsets 0 -> 3",
    "loop": r"32-bit offsets 0 -> 1",
    "while": r"32-bit offsets 0 -> 3",
    "packed-rows": r"32-bit offsets 0 -> 1",
    "carried": r"32-bit offsets 0 -> 1",
    "barriers": r"barriers 0 -> 1",
}
TARGETS = ("sm90", "gfx942", "gfx1100")
#: Those of the other kinds: sound ones, pipeline, FP8 and refused FP8, warps.
OTHERS = SOUND + 6 + 2 + 2


class Twins:
    """A project with the kernels, recorded sound.

    Args:
        folder: for the project.
        cache: what was compiled, which may be another project's.
    """

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.folder = folder
        self.cache = cache or folder / "cache"
        (folder / "test_twins.py").write_text(CASES)
        (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        self.damage(False)

    def damage(self, damaged: bool) -> None:
        """Choose the form of all kernels."""
        text = KERNELS.read_text(encoding="utf-8")
        (self.folder / "compiled_kernels.py").write_text(text.replace("DAMAGED = False", f"DAMAGED = {damaged}"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pytest on the project."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TRITON"))}
        # As a caller does whose kernels are interpreted in its own tests.
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TRITON_INTERPRET": "1"}
        environment["TRITON_CACHE_DIR"] = str(self.cache)
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        command = [sys.executable, "-P", "-m", "pytest", "-p", "benchmark", "-p", "perfgate", "-p", "no:cacheprovider"]
        return subprocess.run(
            [*command, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def compare(self, *arguments: str) -> tuple[dict[str, Mapping[str, Any]], subprocess.CompletedProcess[str]]:
        """Compare; give each case by its name, and what pytest printed."""
        done = self.run("--benchmark-compare", "--perf-json=run.json", *arguments)
        run = json.loads((self.folder / "run.json").read_text())
        return {case["id"].partition("::")[2]: case for case in run["cases"]}, done


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """Record the sound kernels."""
    made = Twins(tmp_path_factory.mktemp("twins"))
    done = made.run("--perf-update=all")
    assert f"{3 * len(TOLD) + OTHERS - 1} passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    return made


@pytest.fixture(scope="module")
def damaged(twins: Twins) -> dict[str, Mapping[str, Any]]:
    """Compare the damaged kernels."""
    twins.damage(True)
    cases, done = twins.compare()
    twins.damage(False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(cases) == 3 * len(TOLD) + OTHERS
    return cases


@pytest.fixture(scope="module")
def repaired(twins: Twins, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mapping[str, Any]]:
    """Record the damaged kernels, and compare the sound ones."""
    reverse = Twins(tmp_path_factory.mktemp("reverse"), cache=twins.cache)
    reverse.damage(True)
    reverse.run("--perf-update=all")
    reverse.damage(False)
    cases, done = reverse.compare()
    assert len(cases) == 3 * len(TOLD) + OTHERS, done.stdout + done.stderr
    return cases


def test_sound_kernels_are_unchanged(twins: Twins) -> None:
    cases, done = twins.compare()
    assert {name: case["reason"] for name, case in cases.items() if case["verdict"] != "unchanged"} == {}
    assert done.returncode == 0
    assert f"{len(TOLD) + 3 + SOUND // 2} unchanged on static-sm90" in done.stdout


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("target", TARGETS)
def test_damage_is_caught(damaged: dict[str, Mapping[str, Any]], kind: str, target: str) -> None:
    case = damaged[f"test_damage[{kind}-{target}]"]
    assert case["verdict"] == "regressed"
    assert case["failed"]
    assert case["processes"] == 1
    # Below stands what the twin was launched with otherwise.
    told = case["reason"].splitlines()[0]
    assert re.search(TOLD[kind], told), told
    assert told.endswith(f" on {target}")


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("target", TARGETS)
def test_repair_is_no_regression(repaired: dict[str, Mapping[str, Any]], kind: str, target: str) -> None:
    case = repaired[f"test_damage[{kind}-{target}]"]
    assert case["verdict"] == "improved", case["reason"]
    assert {metric["name"] for metric in case["metrics"] if metric["verdict"] == "regressed"} == set()


@pytest.mark.parametrize("target", ["sm80", "sm90", "sm100"])
def test_a_lost_pipeline_is_caught(damaged: dict[str, Mapping[str, Any]], target: str) -> None:
    """Everything else about it looks better: fewer registers and instructions, no shared memory."""
    case = damaged[f"test_pipeline[pipeline-{target}]"]
    assert case["verdict"] == "regressed"
    assert case["reason"].startswith("asynchronous loads 100 % -> 0 %, "), case["reason"]
    assert [metric["name"] for metric in case["metrics"] if metric["verdict"] == "regressed"] == ["asynchronous"]


@pytest.mark.parametrize("target", ["sm80", "sm90", "sm100"])
def test_fewer_stages_of_a_pipeline_are_no_regression(damaged: dict[str, Mapping[str, Any]], target: str) -> None:
    """The first copies are fewer then, and so is their share where something else is loaded once."""
    case = damaged[f"test_pipeline[shorter-pipeline-{target}]"]
    metrics = {metric["name"]: metric for metric in case["metrics"]}
    assert metrics["asynchronous"]["value"] < 0.9 * metrics["asynchronous"]["baseline"]
    assert case["verdict"] == "improved", case["reason"]
    assert {name for name, metric in metrics.items() if metric["verdict"] == "regressed"} == set()


def test_code_that_no_longer_compiles_is_caught(damaged: dict[str, Mapping[str, Any]]) -> None:
    case = damaged["test_fp8[fp8-sm80]"]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", "compile_error")
    assert case["reason"].startswith("passed -> compile error: raise_tile: CompilationError: ")
    assert "fp8e4nv" in case["reason"]


def test_a_launch_that_no_longer_fits_a_target_is_caught(damaged: dict[str, Mapping[str, Any]]) -> None:
    case = damaged["test_warps[warps-gfx942]"]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", "compile_error")
    assert case["reason"] == (
        "passed -> compile error: raise_tile: OutOfResources: needs 2048 threads in a block, gfx942 has 1024"
    )
    assert damaged["test_warps[warps-sm90]"]["outcome"] == "passed"


def test_a_launcher_that_no_longer_refuses_is_caught(damaged: dict[str, Mapping[str, Any]]) -> None:
    case = damaged["test_fp8[refused-fp8-sm80]"]
    assert (case["verdict"], case["outcome"]) == ("outcome_changed", "compile_error")
    assert case["reason"].startswith("unsupported -> compile error: raise_tile: CompilationError: ")


def test_another_compiler_makes_baselines_stale(twins: Twins) -> None:
    path = twins.folder / "baselines" / "static-sm90" / "test_twins.json"
    sound = path.read_text()
    path.write_text(re.sub(r'"triton": "[^"]*"', '"triton": "3.0.0"', sound))
    twins.damage(True)
    cases, done = twins.compare("-m", "sm90", "-k", "barriers or offsets")
    twins.damage(False)
    path.write_text(sound)
    assert [case["verdict"] for case in cases.values()] == ["stale", "stale"]
    assert all(case["reason"].startswith("triton 3.0.0 -> ") for case in cases.values())
    assert done.returncode == 0
    names = "'test_twins.py::test_damage[offsets-sm90]' 'test_twins.py::test_damage[barriers-sm90]'"
    assert f"hint: record the baseline again: pytest --perf-update=all {names}" in done.stdout
