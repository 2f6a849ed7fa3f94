"""Do launchers take what was tuned for their GPU, and their fallback everywhere else?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.measure import notes
from perfgate.model import Device, Hardware
from perfgate.tune import store
from perfgate.tune.store import Tuned

pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")

from triton.backends.driver import GPUDriver

from perf_kernels import tuned

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "kernels" / "perf_kernels"
H200 = Device("cuda", "NVIDIA H200", "nvidia-h200")
B200 = Device("cuda", "NVIDIA B200", "nvidia-b200")
CPU = Device("cpu", "Pretended CPU", "cpu-pretended-2t")


@dataclass(frozen=True)
class Config:
    """A pretended launch."""

    warps: int
    one_pass: bool = True


#: What runs on the pretended GPUs.
SOFTWARE = {"driver": "580.1", "python": "3.12.3", "torch": "2.13.0", "triton": "3.9.0"}
ENTRY = Tuned({"warps": 8, "one_pass": False}, 1e-6, {"warps": 4, "one_pass": True}, 2e-6, "", {})


class RealDriver(GPUDriver):  # type: ignore[misc]
    """What Triton has on a machine with a GPU."""

    def __init__(self, device: int = 0) -> None:
        self.device = device

    def get_current_device(self) -> int:
        """Give the device's number."""
        return self.device

    is_active = map_python_to_cpp_type = get_current_target = get_active_torch_device = get_benchmarker = None


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Pretend a machine with two GPUs; only the first has tuned configurations."""
    store.merge(tmp_path, "nvidia-h200", "rows", {"up to 128": ENTRY, "up to 512": replace(ENTRY, config=None)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFGATE_BASELINES", str(tmp_path))
    monkeypatch.setattr("perfgate.hardware.detect", lambda: Hardware((H200, B200, CPU), {"cuda": SOFTWARE}))
    monkeypatch.setattr(tuned, "INTERPRETED", False)
    active = SimpleNamespace(active=RealDriver())
    monkeypatch.setattr(tuned, "driver", active)
    tuned._stored.cache_clear()
    yield active
    tuned._stored.cache_clear()


def chooser(fallback: Callable[[int], Config] = lambda rows: Config(4)) -> tuned.Chooser[Config]:
    return tuned.Chooser("rows", fallback, lambda rows: f"up to {128 if rows <= 128 else 512}")


def noted(choose: tuned.Chooser[Config], rows: int) -> tuple[Config, dict[str, str]]:
    with notes.collect() as taken:
        config = choose(rows)
    return config, notes.texts(taken)


def test_what_is_tuned_is_launched_and_noted(place: SimpleNamespace) -> None:
    choose = chooser()
    assert noted(choose, 7) == (Config(8, False), {"rows": "warps=8 one_pass=False (tuned)"})
    assert noted(choose, 200) == (Config(4), {"rows": "warps=4 one_pass=True (default: none faster found)"})
    assert tuned.lookup("rows", "up to 128") == {"warps": 8, "one_pass": False}
    assert tuned.lookup("rows", "up to 512") is None
    assert tuned.lookup("columns", "up to 128") is None


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        (SOFTWARE, "tuned"),
        # These turn no configuration into other code.
        ({**SOFTWARE, "driver": "590.2", "python": "3.13.0"}, "tuned"),
        ({**SOFTWARE, "triton": "3.6.0"}, "tuned with triton 3.6.0"),
        ({**SOFTWARE, "torch": "2.11.0", "triton": "3.6.0"}, "tuned with torch 2.11.0, triton 3.6.0"),
        # Nothing is known.
        ({}, "tuned"),
    ],
)
def test_what_was_tuned_with_other_software_is_launched_and_says_so(
    place: SimpleNamespace, tmp_path: Path, environment: dict[str, str], how: str
) -> None:
    store.merge(tmp_path, "nvidia-h200", "rows", {"up to 128": replace(ENTRY, environment=environment)})
    assert noted(chooser(), 7) == (Config(8, False), {"rows": f"warps=8 one_pass=False ({how})"})


def test_a_default_says_what_was_searched(place: SimpleNamespace, tmp_path: Path) -> None:
    default = "warps=4 one_pass=True (default"
    elsewhere = tuned.Chooser("columns", lambda rows: Config(4), lambda rows: "any")
    assert noted(elsewhere, 7) == (Config(4), {"columns": f"{default}: not searched)"})
    store.merge(tmp_path, "nvidia-h200", "columns", {"other": ENTRY})
    elsewhere.forget()
    assert noted(elsewhere, 7) == (Config(4), {"columns": f"{default}: not searched)"})
    before = replace(ENTRY, config=None, environment={**SOFTWARE, "triton": "3.6.0"})
    store.merge(tmp_path, "nvidia-h200", "columns", {"any": before})
    elsewhere.forget()
    assert noted(elsewhere, 7) == (Config(4), {"columns": f"{default}: none faster found with triton 3.6.0)"})
    # A GPU that nothing is known of.
    place.active.device = 2
    assert noted(elsewhere, 7) == (Config(4), {"columns": f"{default})"})


def test_it_is_noted_at_each_launch_not_only_at_the_first(place: SimpleNamespace) -> None:
    choose = chooser()
    choose(7)
    assert noted(choose, 7)[1] == {"rows": "warps=8 one_pass=False (tuned)"}


def test_another_gpu_takes_the_fallback(place: SimpleNamespace) -> None:
    choose = chooser()
    choose(7)
    place.active.device = 1
    assert choose(7) == Config(4)
    # One that perfgate does not know of.
    place.active.device = 2
    assert choose(7) == Config(4)
    place.active.device = 0
    assert choose(7) == Config(8, False)


def test_what_is_compiled_ahead_of_time_takes_the_fallback(place: SimpleNamespace) -> None:
    choose = chooser()
    assert choose(7) == Config(8, False)
    place.active = _Pretended()
    assert choose(7) == Config(4)
    place.active = RealDriver()
    assert choose(7) == Config(8, False)


class _Pretended:
    def get_current_device(self) -> int:
        return 0


def test_the_interpreter_takes_the_fallback_and_asks_no_driver(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned, "INTERPRETED", True)
    del place.active
    assert noted(chooser(), 7) == (Config(4), {"rows": "warps=4 one_pass=True (default)"})
    assert tuned.lookup("rows", "up to 128") is None


def test_files_and_fallbacks_are_asked_once_a_shape(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fallback(rows: int) -> Config:
        asked.append(rows)
        return Config(4)

    loaded: list[str] = []
    original = store.load

    def load(root: Path, key: str, kernel: str) -> Any:
        loaded.append(kernel)
        return original(root, key, kernel)

    monkeypatch.setattr(store, "load", load)
    choose = chooser(fallback)
    for rows in (7, 200, 7, 200, 7):
        choose(rows)
    assert (asked, loaded) == ([7, 200], ["rows"])
    choose.forget()
    choose(7)
    assert (asked, loaded) == ([7, 200, 7], ["rows", "rows"])


@pytest.mark.parametrize("fields", [{"warps": 8}, {"one_pass": True, "warps": "8"}, {"one_pass": 1, "warps": 8}, {}])
def test_fields_of_another_version_are_told_once_and_not_used(
    place: SimpleNamespace, tmp_path: Path, fields: dict[str, Any]
) -> None:
    store.merge(tmp_path, "nvidia-h200", "rows", {"up to 128": replace(ENTRY, config=fields)})
    choose = chooser()
    with pytest.warns(tuned.UnusableTuning) as told:
        assert choose(7) == Config(4)
    assert [str(each.message) for each in told] == [
        "rows launches its default configuration: "
        f"the tuned configuration {fields} of up to 128 is not one of this version"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(7) == Config(4)


def test_a_damaged_file_is_told_once_and_not_used(place: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "nvidia-h200/tuning/rows.json").write_text("{")
    choose = chooser()
    with pytest.warns(tuned.UnusableTuning) as told:
        assert choose(7) == Config(4)
    assert len(told) == 1
    assert str(told[0].message) == (
        "rows launches its default configuration: nvidia-h200/tuning/rows.json: not JSON: line 1, column 2: Expecting "
        "property name enclosed in double quotes\nhint: restore it with: git checkout -- nvidia-h200/tuning/rows.json "
        "(or delete it and run: perfgate tune rows)"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # What was searched is not known then.
        assert noted(choose, 200) == (Config(4), {"rows": "warps=4 one_pass=True (default)"})


def test_without_the_variable_the_repository_s_baselines_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERFGATE_BASELINES", raising=False)
    assert tuned._folder() == ROOT / "baselines"


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*/tuning/*.json")), ids=lambda path: path.stem)
def test_stored_notes_name_what_a_launcher_chooses_now(path: Path) -> None:
    """Else a field that is new in a configuration reads as the possible cause of every change of time."""
    fields = {frozenset(entry["default"]) for entry in json.loads(path.read_text())["classes"].values()}
    noted = [
        value
        for file in (path.parents[1] / "perf_tests").rglob("*.json")
        for case in json.loads(file.read_text())["cases"].values()
        for value in notes.values(case.get("notes", {}).get(path.stem, ""))
    ]
    # A model notes the implementation that it took under the same name, without fields.
    named = {value: frozenset(re.findall(r"(\w+)=", value)) for value in noted}
    assert {value: names for value, names in named.items() if names and names not in fields} == {}


PROGRAM = """
import json, sys
sys.modules["perfgate"] = None  # as if it were not installed
from perf_kernels import tuned
from perf_kernels.row_quantization import launch_config
from perf_kernels.row_quantization.inputs import random_rows
from perf_kernels.row_quantization.ops import choose, quantize_rows
quantize_rows(random_rows(3, 64))
same = choose(3, 64, 2, True) == launch_config(3, 64, 2)
print(json.dumps([tuned.lookup("row_quantization", "int8-16bit-64-128"), same]))
"""


def run(program: str, *arguments: str) -> Any:
    """Run a program in Triton's interpreter, in a process of its own, and give the JSON that it prints."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/src:{ROOT}/kernels", "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-P", "-W", "ignore", "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kernels_run_without_perfgate() -> None:
    assert run(PROGRAM) == [None, True]


#: For every kernel that can be tuned: each class of shapes has a name of its own, the chooser gives the default here,
#: and no candidate or neighbour is the default in disguise or repeats.
PLANS = """
import json, sys
from pathlib import Path
from perfgate.static.find import kernels
from perfgate.tune.tunable import MODULE, resolve
roots = [Path(sys.argv[1])]
found = {}
for name in kernels(roots, MODULE):
    tunable = resolve(name, roots)
    classes = tunable.classes()
    tried = 0
    for shape in classes.values():
        default = tunable.default(*shape)
        candidates = list(tunable.candidates(*shape))
        near = [other for config in (default, *candidates) for other in tunable.neighbours(config, *shape)]
        assert all(type(config) is type(default) for config in (*candidates, *near)), (name, shape)
        assert len(set(candidates)) == len(candidates), (name, shape)
        tried += len({default, *candidates})
    found[tunable.kernel] = [len(classes), tried]
    assert tunable.kernel == name
print(json.dumps(found))
"""


def tunable() -> set[str]:
    """Name the kernels that say how they are tuned."""
    return {path.parent.name for path in KERNELS.glob("*/tuning.py")}


def test_every_declared_kernel_can_be_planned() -> None:
    found = run(PLANS, str(ROOT / "kernels"))
    assert "row_quantization" in found
    assert set(found) == tunable()
    for kernel, (classes, tried) in found.items():
        assert 1 <= classes <= tried, kernel


#: Tunes small shapes in Triton's interpreter, by a clock that says nothing. What is listed was skipped.
SMALL = """
import itertools, json, sys
from pathlib import Path
from perf_kernels.decode_attention import tuning as of_attention
from perf_kernels.interpreter import round_as_a_gpu
from perfgate.tune.search import search
from perfgate.tune.tunable import resolve
round_as_a_gpu()
# A quarter of the heads, and so of the programs: the interpreter runs them one after the other.
of_attention._HEADS, of_attention._KV_HEADS = 8, 2
shapes = json.loads(sys.argv[2])
found = {}
for name, shape in shapes.items():
    seconds = (1e-5 + 1e-9 * number for number in itertools.count())
    choice = search(resolve(name, [Path(sys.argv[1])]), tuple(shape), timer=lambda call, inputs, budget: next(seconds))
    assert not choice.changed
    found[name] = [len(choice.trials), [trial.problem for trial in choice.skipped]]
print(json.dumps(found))
"""
SMALL_SHAPES = {
    "row_quantization": (3, 600, 2, True),
    "silu_mul_quantization": (3, 600, 2, False),
    "slide_quantization": (3, 600, 8, 2, True),
    "dequantize_bias": (9, 70, False, 2),
    "ternary_matmul": (1, 9, 600),
    "decode_linear": (1, 9, 200, 1, False, False, "int8"),
    "hbv": (8, 6, False, False, False),
    "linear_attention": (1, 520, 1, 32, 32, 2, False),
    "decode_attention": (40, 64),
}


def test_every_configuration_gives_the_default_s_results() -> None:
    assert set(SMALL_SHAPES) == tunable()
    found = run(SMALL, str(ROOT / "kernels"), json.dumps(SMALL_SHAPES))
    assert set(found) == set(SMALL_SHAPES)
    assert all(skipped == [] and tried > 2 for tried, skipped in found.values()), found
