"""Is a kernel that tests launch as the static gate never compiles it told? Watched in the interpreter and compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.static import tested
from perfgate.static.answers import Question
from perfgate.static.figures import Form
from perfgate.static.pool import Pool

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
    for name, text in (("__init__", ""), ("kernel", KERNEL), ("specialisations", SPECIALISATIONS)):
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


def test_what_is_never_compiled_is_told_and_nothing_else(
    rows: Path, launched: list[list[Form]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(rows)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "rows"]:
        monkeypatch.delitem(sys.modules, name)
    declared, everything = launched
    pool = Pool(1)
    place = "rows.specialisations"
    names = list(pool.launches(place).code)
    assert names == ["plain", "ragged"]
    assert tested.never_compiled(everything, pool) == [], "nothing is compiled for this alone"
    pool.submit(
        [*(Question(place, name, "sm90") for name in names), Question(f"{place}:MORE_LAUNCHES", "wide", "sm90")]
    )
    for question in list(pool._known):
        pool.ask(question)
    # The interpreted forms are, word for word, those that were compiled.
    assert tested.never_compiled(declared, pool) == []
    assert tested.never_compiled(everything, pool) == [
        "scale: tests launch it in forms that no launch of rows.specialisations has: "
        "x_ptr *fp16:16, *fp32; y_ptr *fp16:16; num_warps 2; TILE =2, =4, =8, =16 and 1 more"
    ]
    twin = Form("rows.kernel.twin", {}, {})
    assert tested.never_compiled([twin], pool) == ["twin: tests launch it, and no launch of rows.specialisations does"]
    assert tested.never_compiled([Form("json.decoder.loads", {}, {})], pool) == []
    pool.close()


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
    kernels = iter(["a", "b", "a", None, "broken"])

    class JITFunction:
        def run(self, *args: Any, grid: Any, warmup: bool) -> Any:
            return next(kernels)

    def form_of(kernel: str) -> Form:
        if kernel == "broken":
            raise ValueError
        return Form(f"rows.{kernel}", {}, {})

    monkeypatch.setitem(sys.modules, "triton.runtime.jit", SimpleNamespace(JITFunction=JITFunction))
    monkeypatch.delitem(sys.modules, "triton.runtime.interpreter", raising=False)
    monkeypatch.setattr("perfgate.static.reading.form_of", form_of)
    original = JITFunction.run
    with tested.watched() as forms:
        launched = [JITFunction().run(1, grid=(1,), warmup=False) for _ in range(5)]
    assert launched == ["a", "b", "a", None, "broken"]
    assert [form.kernel for form in forms.values()] == ["rows.a", "rows.b"]
    assert JITFunction.run is original
