"""Are the forms found that tests launch kernels in, and what no declared launch has of them? Also interpreted ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.static import launch_form, tested
from perfgate.static.answers import Answer, Question, answer_from_json
from perfgate.static.figures import Form
from perfgate.static.pool import Pool
from perfgate.static.tested import Nearest, change_text, nearest

pytest.importorskip("torch")
pytest.importorskip("triton")

KERNEL = """
import torch
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["days"])
def scale(x_ptr, y_ptr, bias_ptr, width, step, days, factor, MODE: tl.constexpr, TILE: tl.constexpr = 64):
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets * step, mask=offsets < width)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + offsets)
    tl.store(y_ptr + offsets, x * factor + MODE + days, mask=offsets < width)


def launch(device, width=32, start=0, dtype=torch.float32, step=1, bias=False, **options):
    x = torch.zeros(256, dtype=dtype, device=device)[start:]
    scale[(1,)](x, torch.empty_like(x), x if bias else None, width, step, 16, 2.5, 3, **options)
"""
SPECIALISATIONS = """
import torch
from rows.kernel import launch
LAUNCHES = {
    "plain": lambda: launch("cuda", num_warps=4),
    "ragged": lambda: launch("cuda", width=2**31 + 1, start=1, step=2, bias=True, dtype=torch.bfloat16, TILE=128),
}
MORE_LAUNCHES = {"wide": lambda: launch("cuda", width=33, num_warps=8)}
"""
REFUSED = """
from rows.kernel import launch

def refuse():
    raise NotImplementedError("not on this GPU")

LAUNCHES = {"refused": refuse, "fine": lambda: launch("cuda")}
"""
BROKEN = """
LAUNCHES = {"wrong": lambda: {}["size"]}
"""
PLACE = "rows.specialisations"
#: Launches on the CPU what is declared for a GPU, and something that is not.
PROGRAM = """
import json
from dataclasses import asdict
import torch
from perfgate.static import tested
from rows.kernel import launch
with tested.watched() as forms:
    launch("cpu", num_warps=4)
    launch("cpu", num_warps=4)
    launch("cpu", width=33, num_warps=8)
    declared = list(forms.values())
    launch("cpu", dtype=torch.float16, num_warps=2)
    for width in range(1, 8):
        launch("cpu", TILE=2**width, start=1)
launch("cpu", dtype=torch.float64)
print(json.dumps([[asdict(form) for form in found] for found in (declared, forms.values())]))
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a kernel that declares launches."""
    folder = tmp_path_factory.mktemp("tested")
    (folder / "rows").mkdir()
    modules = {"kernel": KERNEL, "specialisations": SPECIALISATIONS, "refused": REFUSED, "broken": BROKEN}
    for name, text in {"__init__": "", **modules}.items():
        (folder / "rows" / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def launched(rows: Path) -> list[list[Form]]:
    """Launch in Triton's interpreter: what is declared, and everything."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON")}
    path = os.pathsep.join([str(rows), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", PROGRAM],
        env={**environment, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [[Form(**form) for form in found] for found in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def pool(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Compiles what the package declares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(rows)
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        pool = Pool(1)
        pool.launches(PLACE)
        yield pool
        pool.close()


def test_forms_are_the_same_interpreted_declared_and_compiled(launched: list[list[Form]], pool: Pool) -> None:
    answer = pool.ask(tested.question(PLACE, "sm90"))
    assert (answer.status, answer.reason, list(answer.forms)) == ("compiled", "", ["plain", "ragged", "wide"])
    plain, wide = launched[0]
    assert answer.forms["plain"] == (plain,)
    assert answer.forms["wide"] == (wide,)
    for place, launch in ((PLACE, "plain"), (PLACE, "ragged"), (f"{PLACE}:MORE_LAUNCHES", "wide")):
        (compiled,) = pool.ask(Question(place, launch, "sm90")).kernels
        (declared,) = answer.forms[launch]
        assert declared.arguments == compiled.form.arguments
        assert declared.options.items() <= compiled.form.options.items()


def test_nothing_is_compiled_to_find_the_declared_forms(pool: Pool) -> None:
    answer = pool.ask(tested.question(PLACE, "gfx942"))
    assert [len(forms) for forms in answer.forms.values()] == [1, 1, 1]
    assert {question.launch for question in pool.known() if question.target == "gfx942"} == {""}


def test_launches_of_all_lists_are_named_with_their_places(pool: Pool) -> None:
    everything = f"{PLACE}:LAUNCHES"
    assert pool.every_launch(PLACE).code == {
        "plain": everything,
        "ragged": everything,
        "wide": f"{PLACE}:MORE_LAUNCHES",
    }
    assert pool.every_launch(f"{PLACE}:MORE_LAUNCHES").code == {"wide": f"{PLACE}:MORE_LAUNCHES"}
    assert pool.every_launch("rows.missing").reason == "ModuleNotFoundError: No module named 'rows.missing'"


def test_what_a_launcher_refuses_has_no_form_and_what_breaks_it_is_told(pool: Pool) -> None:
    assert list(pool.ask(tested.question("rows.refused", "sm90")).forms) == ["fine"]
    broken = pool.ask(tested.question("rows.broken", "sm90"))
    assert (broken.status, broken.reason) == ("failed", "wrong: KeyError: 'size'")


def test_each_form_is_collected_once_and_only_inside(launched: list[list[Form]]) -> None:
    declared, everything = launched
    assert [form.kernel for form in declared] == ["rows.kernel.scale"] * 2
    first = {
        "x_ptr": "*fp32:16", "y_ptr": "*fp32:16", "bias_ptr": "=None", "width": "i32:16", "step": "=1", "days": "i32",
        "factor": "fp32", "MODE": "=3", "TILE": "=64",
    }  # fmt: skip
    assert (dict(declared[0].arguments), dict(declared[0].options)) == (first, {"num_warps": "4"})
    assert declared[1].arguments["width"] == "i32"
    assert len(everything) == 2 + 1 + 7


def test_compiled_launches_are_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = iter(["a", "b", "a", None, "broken", "warm", "warm"])

    class JITFunction:
        def run(self, *args: Any, grid: Any, warmup: bool) -> Any:
            return next(kernels)

    def form_of_launch(function: Any, args: tuple[int, ...], kwargs: Any) -> Form:
        if args == (4,):
            raise ValueError
        return Form(f"rows.k{args[0]}", {}, {})

    monkeypatch.setitem(sys.modules, "triton.runtime.jit", SimpleNamespace(JITFunction=JITFunction))
    monkeypatch.delitem(sys.modules, "triton.runtime.interpreter", raising=False)
    monkeypatch.setattr(tested, "form_of_launch", form_of_launch)
    original = JITFunction.run
    with tested.watched() as forms:
        launched = [JITFunction().run(number, grid=(1,), warmup=False) for number in range(5)]
        warmed = [JITFunction().run(number, grid=(1,), warmup=number == 5) for number in (5, 6)]
    assert (launched, warmed) == (["a", "b", "a", None, "broken"], ["warm", "warm"])
    # A compiled kernel that is launched again has the form that it had; what is warmed up may be launched by itself.
    assert [form.kernel for form in forms.values()] == ["rows.k0", "rows.k1", "rows.k3", "rows.k5"]
    assert JITFunction.run is original


def test_a_compiled_kernel_is_asked_for_what_it_does_not_specialise() -> None:
    import triton

    @triton.jit(do_not_specialize=[1], do_not_specialize_on_alignment=["c"])
    def k(a, b, c, d, F: triton.language.constexpr):
        pass

    form = launch_form.form_of_launch(k, (16, 16, 16), {"d": (32, 1), "F": triton.language.float32, "num_warps": 2})
    assert form.arguments == {"a": "i32:16", "b": "i32", "c": "i32", "d": "(i32:16, =1)", "F": "=fp32"}
    assert form.options == {"num_warps": "2"}


KNOWN = [
    ("small", {"x_ptr": "*bf16:16", "width": "i32:16", "TILE": "=64", "num_warps": "1"}),
    ("large", {"x_ptr": "*fp16:16", "width": "i32:16", "TILE": "=1024", "num_warps": "8"}),
]


@pytest.mark.parametrize(
    ("other", "allowed", "expected"),
    [
        ({}, (), Nearest("small", {})),
        ({"width": "i32"}, (), Nearest("small", {"width": ("i32", "i32:16")})),
        ({"TILE": "=1024", "num_warps": "8"}, (), Nearest("large", {"x_ptr": ("*bf16:16", "*fp16:16")})),
        # What a marker allows does not count.
        (
            {"TILE": "=1024", "num_warps": "8"},
            ("TILE", "num_warps"),
            Nearest("small", {"TILE": ("=1024", "=64"), "num_warps": ("8", "1")}),
        ),
        ({"num_stages": "3"}, (), Nearest("small", {"num_stages": ("3", None)})),
    ],
)
def test_the_nearest_declared_launch_is_found(
    other: dict[str, str], allowed: tuple[str, ...], expected: Nearest
) -> None:
    assert nearest({**KNOWN[0][1], **other}, KNOWN, allowed) == expected


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("*bf16", "*bf16:16"), "a: *bf16, not aligned to 16 bytes (declared: aligned to 16 bytes)"),
        (("*fp16:16", "*bf16"), "a: *fp16, aligned to 16 bytes (declared: *bf16, not aligned to 16 bytes)"),
        (("i32", "i32:16"), "a: i32, not a multiple of 16 (declared: a multiple of 16)"),
        (("=1", "i64:16"), "a: constant 1 (declared: i64, a multiple of 16)"),
        (("=2", "=4"), "a: constant 2 (declared: constant 4)"),
        (("=", "=dp4a"), "a: constant '' (declared: constant dp4a)"),
        (("=None", "*i8:16"), "a: constant None (declared: *i8, aligned to 16 bytes)"),
        (("8", None), "a: 8 (declared: not given)"),
        (("u1", "fp32"), "a: u1 (declared: fp32)"),
    ],
)
def test_changes_are_told_in_words(change: tuple[str | None, str | None], text: str) -> None:
    assert change_text("a", change) == text


def test_forms_survive_the_way_between_processes() -> None:
    form = Form("rows.k", {"a": "i32"}, {"num_warps": "1"})
    answer = Answer("compiled", forms={"plain": (form, form)})
    assert answer_from_json(json.loads(json.dumps(asdict(answer)))) == answer
