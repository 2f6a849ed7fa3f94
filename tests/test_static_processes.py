"""Do the processes that compile survive whatever a launch does? With real launches of small kernels.

Everything is asked in one go, as a run of pytest does: launches of one target are compiled by one process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfgate.static.answers import FORMS, Answer, Question
from perfgate.static.pool import Pool
from perfgate.static.processes import Gone, Parent

pytest.importorskip("torch")
pytest.importorskip("triton")

LAUNCHES = """
import contextlib
import enum
import functools
import os
import signal
import time
from copy import deepcopy

import library_of_kernels
import pytest
import torch
import triton
import triton.language as tl
from packaging.version import Version
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources
from triton.tools.tensor_descriptor import TensorDescriptor


@triton.jit
def copy(x_ptr, y_ptr, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(y_ptr + offsets, tl.load(x_ptr + offsets))


tuned = triton.autotune([triton.Config({"TILE": 64}), triton.Config({"TILE": 32})], key=[])(copy)


class DataLayout(enum.Enum):
    ROWS = 1


@triton.jit
def _mistaken(x_ptr):
    return tl.arange(0, 3)


@triton.jit
def mistaken(x_ptr):
    tl.store(x_ptr + _mistaken(x_ptr), 0.0)


def launch(x):
    copy[(1,)](x, torch.empty_like(x), 1024, num_warps=4)


def rows():
    return torch.empty(4, 4096, device="cuda")


def copied():
    x = rows()
    x[1] = 0.0
    x.copy_(x * 2)
    launch(x[:, ::2].contiguous())
    launch(x[torch.arange(2, device="cuda"), 1:])
    for x in (torch.ones(4096).to("cuda"), torch.ones(4096).cuda(), rows().to("cuda", torch.float32)):
        assert x.device == torch.device("cuda", 0)
        launch(x)
    launch(torch.rand(4096, device="cuda", generator=torch.Generator("cuda").manual_seed(1)))
    launch(torch.empty(4096, device="cuda", requires_grad=True) * 2)


def numbered():
    number, device = torch.cuda.current_device(), torch.device("cuda", 0)
    linear = torch.nn.Linear(64, 64)
    made = [torch.empty(1024, device=number), torch.randn(1024, dtype=torch.float32, device=number)]
    moved = [rows().cpu().to(number), rows().cpu().cuda(number), rows().cpu().to(device=number)]
    moved.append(rows().cpu().pin_memory().to(number, non_blocking=True))
    weights = [linear.cuda(number).weight, linear.cpu().to(number).weight, linear.cpu().to(device=number).weight]
    for x in (*made, *moved, *weights):
        assert x.device == device == torch.device(number)
        launch(x)


def module():
    block = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64)).cuda().to(torch.bfloat16)
    block[0].bias.requires_grad_(False)
    block.to("cuda")
    (linear, norm), device = block, torch.device("cuda", 0)
    assert (linear.weight.device, linear.weight.requires_grad, linear.bias.requires_grad) == (device, True, False)
    assert (norm.running_mean.device, norm.running_mean.dtype) == (device, torch.bfloat16)
    copy[(1,)](linear.weight, block(linear.weight), 4096, num_warps=4)


class Apart(torch.optim.Optimizer):
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                told[(1,)](parameter, parameter.numel())


def kept():
    # In this order, too, an optimizer has the parameters that are moved.
    block = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64))
    block[0].weight = block[1].weight
    block[1].bias.grad = torch.ones(64)
    optimizer = Apart(block.parameters(), {})
    block.cuda()
    if block[0].weight is not block[1].weight:
        raise ValueError("the weights must be tied")
    assert block[1].bias.grad.device == torch.device("cuda", 0)
    block(torch.empty(64, 64, device="cuda")).sum().backward()
    optimizer.step()


def replaced():
    with torch.device("meta"):
        linear = torch.nn.Linear(64, 64)
    assert linear.to_empty(device="cuda").weight.device == torch.device("cuda", 0)
    copy[(1,)](LINEAR.cuda().weight, linear(linear.weight), 4096, num_warps=4)


def given():
    weight = torch.nn.Parameter(torch.empty(1024))
    weight.data = weight.data.to("cuda", torch.bfloat16)
    launch(weight)
    weight.data = torch.empty(4096)
    assert weight.device == torch.device("cpu") == weight.data.device


def brought():
    # One after the other.
    TIED[0].cuda()
    TIED[1].cuda()
    if TIED[0].weight is not TIED[1].weight:
        raise ValueError("the weights must be tied")
    launch(TIED[0].weight)


def copied_module():
    # Copies the layer.
    encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(64, 4, 64), 2).cuda()
    launch(encoder(deepcopy(torch.empty(64, 64, device="cuda")).unsqueeze_(1)))


@functools.cache
def table():
    return torch.arange(1024, device="cuda")


def looked_up():
    launch(table().t_() * CODES.to("cuda"))


def refused():
    with torch.no_grad():
        try:
            raise ValueError("rows must be even")
        finally:
            rows()


def check(x):
    try:
        if x.shape[0] % 3:
            raise NotImplementedError
    except NotImplementedError as error:
        raise ValueError("rows must be thirds") from error


def late():
    launch(rows())
    raise ValueError("rows must be few")


def valued():
    torch._check_value(rows().shape[0] == 5, lambda: "rows must be five")


def versioned():
    Version("of a library without kernels")


def unsaid():
    raise NotImplementedError


def hidden():
    try:
        mistaken[(1,)](rows())
    except Exception:
        raise ValueError("this GPU cannot do it") from None


def enumerated():
    DataLayout(5)


def normalised():
    torch.nn.functional.batch_norm(rows()[:1, :8], None, None, training=True)


def conflicting():
    tuned[(1,)](rows(), rows(), TILE=64)


def unpacked():
    rows, columns, depth = rows_of(2).shape


def rows_of(number):
    return torch.empty(number, 64, device="cuda")


def reads():
    launch(rows()[: int(rows().sum())])


def killed():
    os.kill(os.getpid(), signal.SIGSEGV)


def warmed():
    x = rows()[0]
    kernel = copy.warmup(x, x, 1024, num_warps=4, grid=(1,))
    copy.warmup(x, x, 2048, num_warps=4, grid=(1,))
    copy.warmup(x, x, 2048, num_warps=4, grid=(1,))
    kernel._init_handles()
    assert kernel.n_spills == 0
    kernel[(kernel.n_regs, 1, 1)](x, x, 1024)
    kernel[(1, 1, 1)](x, x, 1024)


def warmed_up(warps):
    x = rows()
    return copy.warmup(x, x, 4096, num_warps=warps, grid=(1,))


def large():
    warmed_up(64)[(1, 1, 1)](rows(), rows(), 4096)


def smaller():
    kernels = [warmed_up(64), warmed_up(8)]
    try:
        kernels[0]._init_handles()
    except OutOfResources as error:
        assert (error.required, error.limit, error.name) == (2048, 1024, "threads")
        kernels[1][(1, 1, 1)](rows(), rows(), 4096)


def halved():
    x = rows()
    try:
        copy[(1,)](x, x, 4096, num_warps=64)
    except OutOfResources as error:
        assert (error.required, error.limit, error.name) == (2048, 1024, "threads")
        copy[(1,)](x, x, 4096, num_warps=32)


def caught():
    try:
        mistaken[(1,)](rows())
    except Exception:
        return


def fallen_back():
    caught()
    launch(rows())


def fallen_back_by_type():
    try:
        mistaken[(1,)](rows())
    except CompilationError:
        launch(rows())


@triton.jit
def sized(x_ptr, TILE: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, TILE), 0.0)


@functools.cache
def ones():
    return torch.zeros(512, dtype=torch.float32, device="cuda") + 1


def busy():
    x = torch.empty(64, 32, dtype=torch.float32, device="cuda")
    y = x.T.contiguous().view(-1)[:1024]
    torch.ones(7).sum()
    copy[(1,)](y, torch.zeros_like(y), 1024)
    y.add_(1)
    ones()


def first_that_compiles():
    for size in (17, 18, 17, 32):
        with contextlib.suppress(CompilationError):
            sized[(1,)](rows(), TILE=size)


@triton.autotune([triton.Config({"TILE": 2}), triton.Config({"TILE": 64})], key=[])
@triton.jit
def tried(x_ptr, TILE: tl.constexpr):
    tl.static_assert(TILE >= 64)
    tl.store(x_ptr + tl.arange(0, TILE), 0.0)


def on_host():
    copy[(1,)](rows(), y_ptr=torch.empty(1024), TILE=1024)


@triton.jit
def copy_tuple(pair, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    tl.store(pair[1] + offsets, tl.load(pair[0] + offsets))


def on_host_in_tuple():
    copy_tuple[(1,)]((rows(), torch.empty(1024)), 1024)


@triton.jit
def copy_described(x, y_ptr, TILE: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, TILE), x.load([0]))


def on_host_described():
    copy_described[(1,)](TensorDescriptor.from_tensor(torch.empty(1024), [64]), rows(), 64)


@triton.jit
def copy_biased(x_ptr, bias_ptr, y_ptr, BIASED: tl.constexpr):
    y = tl.load(x_ptr)
    if BIASED:
        y += tl.load(bias_ptr)
    tl.store(y_ptr, y)


def on_host_by_handle():
    warmed_up(8)[(1, 1, 1)](torch.empty(4096), rows(), 4096)


def run():
    kernel = warmed_up(8)
    kernel.run(1, 1, 1, 0, kernel.function, kernel.packed_metadata, None, None, None, rows(), rows(), 4096)


@triton.jit
def centred(x_ptr, y_ptr, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    x = tl.load(x_ptr + offsets)
    tl.store(y_ptr + offsets, x - tl.sum(x))


def spilled():
    x = rows()
    kernel = centred.warmup(x, x, 32768, num_warps=1, grid=(1,))
    kernel._init_handles()
    kernel[(1, 1, 1)](x, x, 32768)
    # Shows in the form what was told.
    told[(1,)](x, kernel.n_spills)


@triton.jit
def told(x_ptr, NUMBER: tl.constexpr):
    tl.store(x_ptr, NUMBER)


def asked(kernel):
    # Shows in the forms what was told.
    told[(1,)](rows(), kernel.n_regs)
    told[(1,)](rows(), kernel.n_spills + kernel.metadata.shared)
    kernel[(1, 1, 1)](rows(), rows(), 1024)


def loud():
    print("not an answer", flush=True)
    os.write(1, b"nor is this")
    launch(rows())


LAUNCHES = {
    "plain": lambda: launch(rows()),
    "copied": copied,
    "module": module,
    "numbered": numbered,
    "refused": refused,
    "checked": lambda: check(rows()),
    "unpacked": unpacked,
    "nothing": rows,
    "reads": reads,
    "killed": killed,
    "exits": lambda: os._exit(3),
    "loud": loud,
    "warmed": warmed,
    "mistaken": lambda: mistaken[(1,)](rows()),
    "last": lambda: launch(rows()[0]),
}
SLOW = {"before": lambda: launch(rows()), "slow": lambda: time.sleep(60), "plain": lambda: launch(rows())}
EMPTY = {}
WRONG = {"b": rows, "a": 1}
LIST = [rows]
NUMBERED = {1: rows}
WARMED = {"warmed": warmed}
ACCIDENTS = {
    "late": late,
    "unsaid": unsaid,
    "versioned": versioned,
    "hidden": hidden,
    "enumerated": enumerated,
    "normalised": normalised,
    "conflicting": conflicting,
    "gridless": lambda: copy[lambda meta: (1024 // meta["ROWS"],)](rows(), rows(), 1024),
    "refusing_grid": lambda: copy[lambda meta: check(meta["x_ptr"][: meta["TILE"]])](rows(), rows(), TILE=1024),
    "skipping": lambda: pytest.skip("not for this GPU"),
}
CONFLICTING = {"plain": lambda: launch(rows()), "conflicting": conflicting}
# With memory, from before any launch.
CODES = torch.arange(1024.0)
LINEAR = torch.nn.Linear(64, 64)
TIED = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
TIED[0].weight = TIED[1].weight
KEPT = {
    "kept": kept,
    "given": given,
    "brought": brought,
    "replaced": replaced,
    "copied_module": copied_module,
    "looked_up": looked_up,
    "looked_up_again": looked_up,
    "replaced_again": replaced,
}
ASKED = {
    "launched": lambda: asked(copy[(1,)](rows(), rows(), 1024, num_warps=4)),
    "tuned": lambda: asked(tuned[(1,)](rows(), rows())),
}
REFUSED = {"refused": refused, "valued": valued, "installed": library_of_kernels.check}
HANDLES = {
    "large": large,
    "smaller": smaller,
    "halved": halved,
    "caught": caught,
    "fallen_back": fallen_back,
    "first_that_compiles": first_that_compiles,
    "busy": busy,
    "fallen_back_by_type": fallen_back_by_type,
    "tried": lambda: tried[(1,)](rows()),
    "on_host": on_host,
    "on_host_in_tuple": on_host_in_tuple,
    "on_host_described": on_host_described,
    "on_host_by_handle": on_host_by_handle,
    "on_host_but_empty": lambda: copy_biased[(1,)](rows(), torch.empty(0), rows(), BIASED=False),
    "on_number": lambda: copy[4](rows(), rows(), 1024),
    "on_share": lambda: copy[lambda meta: (1, 4096 / meta["TILE"])](rows(), rows(), TILE=1024),
    "on_nothing": lambda: copy[()](rows(), rows(), 1024),
    "on_too_few": lambda: warmed_up(8)[(4, 1)](rows(), rows(), 4096),
    "on_list": lambda: copy[lambda meta: [torch.tensor(4), 1, 1]](rows(), rows(), 1024),
    "run": run,
    "unloaded": lambda: warmed_up(16).n_regs,
    "spilled": spilled,
}
"""
PLACE = "processes_launches"
SKIPPING = """
import pytest

pytest.importorskip("not_there")
"""
LIBRARY = """
import triton.language as tl
from triton import jit


def check():
    raise NotImplementedError("this GPU has no FP8")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path with launches, and a compile cache of its own."""
    folder = tmp_path_factory.mktemp("project")
    (folder / f"{PLACE}.py").write_text(LAUNCHES)
    (folder / "skipping_launches.py").write_text(SKIPPING)
    installed = folder / "site-packages"
    installed.mkdir()
    (installed / "library_of_kernels.py").write_text(LIBRARY)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.syspath_prepend(installed)
        patch.setenv("TRITON_CACHE_DIR", str(folder / "cache"))
        # As in a test run of kernels that are interpreted.
        patch.setenv("TRITON_INTERPRET", "1")
        yield folder


@pytest.fixture(scope="module")
def answers(project: Path) -> Iterator[dict[str, Answer]]:
    """Ask for everything at once, by "launch" on sm90 and "launch-gfx942"."""
    pool = Pool(2)
    names = [*pool.launches(PLACE).code]
    questions = {name: Question(PLACE, name, "sm90") for name in names}
    questions |= {f"{name}-gfx942": Question(PLACE, name, "gfx942") for name in ("plain", "warmed")}
    questions |= {"gone": Question(PLACE, "gone", "sm90")}
    questions |= {
        name: Question(f"{PLACE}:{name}", "", "sm90") for name in ("EMPTY", "WRONG", "LIST", "NUMBERED", "ABSENT")
    }
    for place in ("ACCIDENTS", "ASKED", "KEPT", "REFUSED", "HANDLES"):
        questions |= {
            name: Question(f"{PLACE}:{place}", name, "sm90") for name in pool.launches(f"{PLACE}:{place}").code
        }
        questions[f"forms {place}"] = Question(f"{PLACE}:{place}", "", "sm90", FORMS)
    questions["forms CONFLICTING"] = Question(f"{PLACE}:CONFLICTING", "", "sm90", FORMS)
    questions["spilled-gfx942"] = Question(f"{PLACE}:HANDLES", "spilled", "gfx942")
    questions["forms"] = Question(f"{PLACE}:WARMED", "", "sm90", FORMS)
    questions["skipping module"] = Question("skipping_launches", "", "sm90")
    questions["forms of skipping module"] = Question("skipping_launches", "", "sm90", FORMS)
    pool.submit(questions.values())
    yield {name: pool.ask(question) for name, question in questions.items()}
    pool.close()


def test_launches_are_compiled_whatever_others_do(answers: dict[str, Answer]) -> None:
    for name in ("plain", "copied", "loud", "last", "plain-gfx942"):
        assert (answers[name].status, answers[name].reason) == ("compiled", "")
    (kernel,) = answers["plain"].kernels
    assert (kernel.name, kernel.target, kernel.code.loads[16], kernel.code.stores[16]) == ("copy", "sm90", 2, 2)
    assert answers["plain-gfx942"].kernels[0].code.loads[16] == 1
    assert answers["last"].kernels == answers["plain"].kernels


def test_launchers_may_copy_slice_and_index(answers: dict[str, Answer]) -> None:
    answer = answers["copied"]
    assert answer.launches == 7
    hints = [kernel.form.arguments["x_ptr"] for kernel in answer.kernels]
    # Columns from the second one on are copied by the index, so that they are aligned again.
    assert hints == ["*fp32:16"]


def test_launchers_may_move_modules_and_convert_them(answers: dict[str, Answer]) -> None:
    answer = answers["module"]
    assert (answer.status, answer.reason, answer.launches) == ("compiled", "", 1)
    assert answer.kernels[0].form.arguments["y_ptr"] == "*bf16:16"


def test_parameters_that_are_moved_remain_those_of_an_optimizer(answers: dict[str, Answer]) -> None:
    kept = answers["kept"]
    assert (kept.status, kept.reason) == ("compiled", "")
    assert [kernel.form.arguments["NUMBER"] for kernel in kept.kernels] == ["=4096", "=64"]


@pytest.mark.parametrize(
    "name", ["given", "brought", "replaced", "copied_module", "looked_up", "looked_up_again", "replaced_again"]
)
def test_launchers_may_keep_and_copy_tensors_and_bring_their_own(answers: dict[str, Answer], name: str) -> None:
    assert (answers[name].status, answers[name].reason, answers[name].launches) == ("compiled", "", 1)
    assert (answers["forms KEPT"].status, answers["forms KEPT"].reason) == ("compiled", "")


def test_a_number_names_a_gpu(answers: dict[str, Answer]) -> None:
    numbered = answers["numbered"]
    assert (numbered.status, numbered.reason, numbered.launches) == ("compiled", "", 9)


@pytest.mark.parametrize("name", ["warmed", "warmed-gfx942"])
def test_a_kernel_that_is_warmed_up_tells_its_registers_and_can_be_launched(
    answers: dict[str, Answer], name: str
) -> None:
    answer = answers[name]
    assert (answer.status, answer.reason, answer.launches) == ("compiled", "", 3)
    # Launched twice with 1024 elements; only warmed up with 2048.
    assert [kernel.form.arguments["TILE"] for kernel in answer.kernels] == ["=1024", "=2048"]


def test_a_tensor_of_the_host_without_elements_has_no_address(answers: dict[str, Answer]) -> None:
    empty = answers["on_host_but_empty"]
    assert (empty.status, empty.reason, empty.launches) == ("compiled", "", 1)


@pytest.mark.parametrize(
    ("name", "grid"), [("on_number", "4"), ("on_share", "(1, 4.0)"), ("on_nothing", "()"), ("on_too_few", "(4, 1)")]
)
def test_a_kernel_is_not_launched_on_what_is_no_grid(answers: dict[str, Answer], name: str, grid: str) -> None:
    numbers, sizes = ("three integers", ", 1, 1") if name == "on_too_few" else ("one to three integers", ",")
    assert answers[name] == Answer(
        "failed",
        f"copy is launched on the grid {grid}",
        f"Triton takes a tuple of {numbers}, and launches nothing on this.\n"
        f"hint: write such as (triton.cdiv(n, TILE){sizes})",
    )
    assert (answers["on_list"].status, answers["on_list"].reason) == ("compiled", "")


@pytest.mark.parametrize("name", ["launched", "tuned"])
def test_a_kernel_that_is_launched_tells_its_registers(answers: dict[str, Answer], name: str) -> None:
    answer = answers[name]
    assert (answer.status, answer.reason, answer.launches) == ("compiled", "", 4)
    copy, *told = answer.kernels
    expected = [f"={copy.code.registers}", f"={copy.code.stack // 4 + copy.shared}"]
    assert [kernel.form.arguments["NUMBER"] for kernel in told] == expected
    # The forms are those of all configurations; that which the kernel is asked of compiles.
    assert (answers["forms ASKED"].status, answers["forms ASKED"].reason) == ("compiled", "")
    forms = answers["forms ASKED"].forms[name]
    assert [form.arguments["NUMBER"] for form in forms if "NUMBER" in form.arguments] == expected


def test_a_kernel_that_is_not_loaded_tells_no_registers(answers: dict[str, Answer]) -> None:
    assert (answers["unloaded"].status, answers["unloaded"].reason) == (
        "failed",
        "AttributeError: 'CompiledKernel' object has no attribute 'n_regs'",
    )


def test_the_form_of_a_kernel_that_is_warmed_up_is_known(answers: dict[str, Answer]) -> None:
    assert (answers["forms"].status, answers["forms"].reason) == ("compiled", "")
    assert [form.arguments["TILE"] for form in answers["forms"].forms["warmed"]] == ["=1024", "=2048", "=2048"]


def test_a_kernel_that_is_too_large_may_be_warmed_up_but_not_launched(answers: dict[str, Answer]) -> None:
    large, smaller = answers["large"], answers["smaller"]
    assert (large.status, large.reason) == (
        "compile_error",
        "copy: OutOfResources: needs 2048 threads in a block, sm90 has 1024",
    )
    assert (smaller.status, smaller.reason, smaller.launches) == ("compiled", "", 2)
    assert [kernel.warps for kernel in smaller.kernels] == [8, 64]


def test_what_torch_does_beside_a_kernel_is_counted(answers: dict[str, Answer]) -> None:
    """On the device: to view is nothing, to give memory is told in bytes, and what is kept is made once."""
    busy, plain = answers["busy"], answers["plain"]
    assert (busy.status, busy.reason) == ("compiled", "")
    assert busy.operators == "aten::add_, aten::clone, aten::zeros_like"
    assert (busy.operator_calls, busy.allocated) == (3, 4 * (2048 + 2048 + 1024))
    assert (plain.operators, plain.operator_calls) == ("", 0)
    assert plain.allocated > 0


def test_a_launcher_may_launch_another_form_of_what_is_too_large(answers: dict[str, Answer]) -> None:
    halved = answers["halved"]
    assert (halved.status, halved.reason, halved.launches) == ("compiled", "", 1)
    assert [kernel.warps for kernel in halved.kernels] == [32]
    assert halved.too_large == ("copy: OutOfResources: needs 2048 threads in a block, sm90 has 1024",)


def test_a_kernel_that_a_launcher_passes_over_is_told(answers: dict[str, Answer]) -> None:
    mistake = "mistaken: CompilationError: arange's range must be a power of 2"
    caught, tried = answers["caught"], answers["tried"]
    for fallen_back in (answers["fallen_back"], answers["fallen_back_by_type"]):
        assert (fallen_back.status, fallen_back.launches, fallen_back.passed_over) == ("compiled", 1, (mistake,))
    assert (caught.status, caught.reason) == (
        "failed",
        f"the launch 'caught' launched no Triton kernel, and passed over what does not compile: {mistake}",
    )
    # Each form once, however often it is tried.
    assert answers["first_that_compiles"].passed_over == (mistake.replace("mistaken", "sized"),) * 2
    # What an autotuner tries is no launch.
    assert (tried.status, tried.kernels[0].form.arguments["TILE"], tried.passed_over) == ("compiled", "=64", ())
    assert answers["plain"].passed_over == ()


@pytest.mark.parametrize(
    ("name", "kernel", "argument"),
    [
        ("on_host", "copy", "y_ptr"),
        ("on_host_in_tuple", "copy_tuple", "pair[1]"),
        ("on_host_described", "copy_described", "x.base"),
        ("on_host_by_handle", "copy", "x_ptr"),
    ],
)
def test_a_kernel_is_not_launched_on_memory_of_the_host(
    answers: dict[str, Answer], name: str, kernel: str, argument: str
) -> None:
    assert answers[name] == Answer(
        "failed",
        f"{kernel} is launched with {argument} on the CPU",
        f'A GPU cannot read it: there Triton refuses the launch.\nhint: make {argument} with device="cuda"',
    )


def test_a_compiled_kernel_is_not_launched_with_the_handles_of_a_driver(answers: dict[str, Answer]) -> None:
    assert answers["run"] == Answer(
        "failed",
        "copy is launched by the run(...) of its compiled kernel",
        "It takes the handles of a driver, and there is no GPU.\n"
        "hint: write kernel[grid](...), or declare a launch of copy[grid](...)",
    )


@pytest.mark.parametrize("name", ["spilled", "spilled-gfx942"])
def test_a_compiled_kernel_tells_the_words_of_its_local_memory_as_spills(answers: dict[str, Answer], name: str) -> None:
    centred, told = answers[name].kernels
    assert centred.code.stack > 0
    assert told.form.arguments["NUMBER"] == f"={centred.code.stack // 4}"


@pytest.mark.parametrize(("name", "how"), [("killed", "SIGSEGV"), ("exits", "exit code 3")])
def test_a_compiler_that_ends_its_process_is_told_with_its_launch(
    answers: dict[str, Answer], name: str, how: str
) -> None:
    assert answers[name] == Answer("crashed", f"the compiler ended its process with {how}")


def test_what_is_wrong_with_a_launch_is_told(answers: dict[str, Answer]) -> None:
    told = {
        name: (answers[name].status, answers[name].reason)
        for name in ("refused", "checked", "unpacked", "nothing", "gone")
    }
    assert told == {
        "refused": ("unsupported", "rows must be even"),
        "checked": ("unsupported", "rows must be thirds"),
        "unpacked": ("failed", "ValueError: not enough values to unpack (expected 3, got 2)"),
        "nothing": ("failed", "the launch 'nothing' launched no Triton kernel"),
        "gone": (
            "failed",
            "processes_launches has no launch 'gone'; it has plain, copied, module, numbered, refused, checked, "
            "unpacked, nothing, reads, killed, exits, loud, warmed, mistaken, last",
        ),
    }
    # Of a mistake in a function that a kernel calls, not where it is called.
    assert answers["mistaken"].status == "compile_error"
    assert answers["mistaken"].reason == "mistaken: CompilationError: arange's range must be a power of 2"
    # The source of the helper, then that of the call; nothing of the compiler's own.
    detail = answers["mistaken"].detail
    assert 0 < detail.index("return tl.arange(0, 3)") < detail.index("tl.store(x_ptr + _mistaken(x_ptr), 0.0)")
    assert not re.search(r"Traceback|\.py", detail)
    assert answers["reads"].status == "failed"
    assert answers["reads"].reason.startswith("DataDependentOutputException: ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("late", "ValueError: rows must be few (after the launch of copy)"),
        ("versioned", "InvalidVersion: Invalid version: 'of a library without kernels'"),
        ("unsaid", "NotImplementedError: "),
        ("hidden", "ValueError: this GPU cannot do it (after the launch of mistaken)"),
        ("enumerated", "ValueError: 5 is not a valid DataLayout"),
        ("normalised", "ValueError: Expected more than 1 value per channel when training, got input size "),
        ("conflicting", "ValueError: Conflicting meta-parameters: TILE. "),
        ("gridless", "KeyError: 'ROWS'"),
        ("refusing_grid", "ValueError: rows must be thirds (after the launch of copy)"),
    ],
)
def test_what_a_launcher_does_by_accident_is_no_refusal(answers: dict[str, Answer], name: str, reason: str) -> None:
    assert (answers[name].status, answers[name].reason[: len(reason)]) == ("failed", reason)


def test_what_is_raised_to_end_more_than_the_launch_is_told(answers: dict[str, Answer]) -> None:
    assert answers["skipping"] == Answer(
        "failed",
        "Skipped: not for this GPU",
        "That ends more than the launch.\nhint: to refuse a target, raise NotImplementedError with a message",
    )


def test_what_is_raised_to_end_more_than_the_import_is_told(answers: dict[str, Answer]) -> None:
    reason = "Skipped: could not import 'not_there': No module named 'not_there'"
    detail = "That ends more than the import of skipping_launches.\nhint: to skip a test, skip it in its own module"
    assert answers["skipping module"] == Answer("failed", reason, detail)
    assert answers["forms of skipping module"] == Answer("failed", reason, detail)


def test_what_torch_checks_for_a_launcher_is_a_refusal(answers: dict[str, Answer]) -> None:
    assert (answers["valued"].status, answers["valued"].reason) == ("unsupported", "rows must be five")


def test_what_a_library_of_kernels_raises_is_a_refusal(answers: dict[str, Answer]) -> None:
    assert (answers["installed"].status, answers["installed"].reason) == ("unsupported", "this GPU has no FP8")


def test_forms_are_those_of_launches_that_do_not_refuse(answers: dict[str, Answer]) -> None:
    refused, accidents = answers["forms REFUSED"], answers["forms ACCIDENTS"]
    assert (refused.status, refused.reason, refused.forms) == ("compiled", "", {})
    assert (accidents.status, accidents.reason) == (
        "failed",
        "late: ValueError: rows must be few (after the launch of copy)",
    )
    conflicting = answers["forms CONFLICTING"]
    assert (conflicting.status, conflicting.reason.partition(". ")[0]) == (
        "failed",
        "conflicting: ValueError: Conflicting meta-parameters: TILE",
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("EMPTY", "processes_launches.EMPTY is empty"),
        ("WRONG", "processes_launches.WRONG must map names to functions; 'a' is of type int"),
        ("LIST", "processes_launches.LIST must map names to functions"),
        ("NUMBERED", "processes_launches.NUMBERED must map names to functions; 1 is a function"),
        ("ABSENT", "processes_launches has no ABSENT"),
    ],
)
def test_launches_that_cannot_be_used(answers: dict[str, Answer], name: str, reason: str) -> None:
    assert answers[name] == Answer("failed", reason)


def test_a_launch_that_takes_too_long_holds_up_no_other(project: Path, answers: dict[str, Answer]) -> None:
    # Little patience, since what the other one launches is compiled already.
    pool = Pool(1, patience_s=4.0)
    questions = [Question(f"{PLACE}:SLOW", name, "sm90") for name in ("before", "slow", "plain")]
    pool.submit(questions)
    before, slow, plain = map(pool.ask, questions)
    assert slow == Answer("crashed", "the compiler took more than 4 s")
    assert (before.status, plain.status) == ("compiled", "compiled")
    pool.close()


def test_without_a_compiler(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    pool = Pool(1)
    missing = "torch cannot be imported: No module named 'not_there'"
    assert pool.launches(PLACE) == Answer("no_compiler", missing)
    pool.close()


def test_a_parent_that_cannot_start_is_told_with_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('no room left')\n")
    monkeypatch.syspath_prepend(tmp_path)
    pool = Pool(1)
    told = "the compiling process ended with exit code 1\nno room left"
    assert pool.launches(PLACE) == Answer("crashed", told)
    pool.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_nothing_is_left_behind(project: Path) -> None:
    pool = Pool(1)
    assert pool.launches(PLACE).status == "compiled"
    (child,) = pool._parent._children
    parent = pool._parent._process
    assert parent is not None
    pool.close()
    assert parent.returncode == -9
    # A signal takes a moment, and whoever adopts the child may take a while to ask how it ended.
    state = Path(f"/proc/{child._pid}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)


def test_what_was_ended_starts_nothing_any_more() -> None:
    parent = Parent()
    parent.end()
    with pytest.raises(Gone) as caught:
        parent.child("sm90")
    assert str(caught.value) == "the compiling processes were ended"
    assert parent._process is None
