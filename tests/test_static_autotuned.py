"""Which configuration of an autotuned kernel is compiled, and which are declared? With real launches of a kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perfgate.static.answers import FORMS, Answer, Question
from perfgate.static.pool import Pool

pytest.importorskip("torch")
pytest.importorskip("triton")

PLACE = "autotuned_launches"
LAUNCHES = """
import torch
import triton
import triton.language as tl


def configurations(*fields):
    return [triton.Config({"TILE": tile}, num_warps=warps) for tile, warps in fields]


def kernel(x_ptr, width, TILE: tl.constexpr, WHOLE: tl.constexpr):
    tl.static_assert(TILE <= 4096)
    offsets = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(x_ptr + offsets, 1.0, mask=None if WHOLE else offsets < width)


def tuned(*fields):
    whole = triton.heuristics({"WHOLE": lambda args: args["width"] % args["TILE"] == 0})(triton.jit(kernel))
    return triton.autotune(configs=configurations(*fields), key=["width"], reset_to_zero=["x_ptr"])(whole)


#: 32 warps are 1024 threads of NVIDIA's, and 2048 of these GPUs of AMD.
wide = tuned((8192, 4), (4096, 32), (2048, 8), (1024, 4))
none = tuned((8192, 4), (16384, 4))
mistaken = tuned((3000, 4), (1024, 4))


def launch(function):
    x = torch.empty(32768, device="cuda")
    function[lambda meta: (triton.cdiv(32768, meta["TILE"]),)](x, 32768)


LAUNCHES = {"wide": lambda: launch(wide), "none": lambda: launch(none), "mistaken": lambda: launch(mistaken)}
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    """Ask for everything at once: one process compiles for sm90 and tells the forms."""
    folder = tmp_path_factory.mktemp("project")
    (folder / f"{PLACE}.py").write_text(LAUNCHES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("TRITON_CACHE_DIR", str(folder / "cache"))
        questions = {f"{name}-sm90": Question(PLACE, name, "sm90") for name in ("wide", "none", "mistaken")}
        questions |= {"wide-gfx942": Question(PLACE, "wide", "gfx942"), "forms": Question(PLACE, "", "sm90", FORMS)}
        pool = Pool(1)
        pool.submit(questions.values())
        yield {name: pool.ask(question) for name, question in questions.items()}
        pool.close()


@pytest.mark.parametrize(("target", "warps"), [("sm90", 32), ("gfx942", 8)])
def test_the_first_configuration_that_fits_is_compiled(answers: dict[str, Answer], target: str, warps: int) -> None:
    answer = answers[f"wide-{target}"]
    assert (answer.status, answer.reason, answer.launches) == ("compiled", "", 1)
    (kernel,) = answer.kernels
    assert (kernel.warps, kernel.code.stores[16]) == (warps, 1)


def test_where_none_fits_the_first_says_why(answers: dict[str, Answer]) -> None:
    answer = answers["none-sm90"]
    assert (answer.status, answer.reason.split(":")[:2]) == (
        "compile_error",
        ["kernel", " CompileTimeAssertionFailure"],
    )


def test_a_mistake_is_no_reason_to_take_another(answers: dict[str, Answer]) -> None:
    answer = answers["mistaken-sm90"]
    assert (answer.status, answer.reason) == (
        "compile_error",
        "kernel: CompilationError: arange's range must be a power of 2",
    )


def test_all_configurations_are_declared(answers: dict[str, Answer]) -> None:
    forms = answers["forms"].forms["wide"]
    found = {(form.arguments["TILE"], form.options["num_warps"]) for form in forms}
    assert found == {("=8192", "4"), ("=4096", "32"), ("=2048", "8"), ("=1024", "4")}
