"""Are row offsets 64 bits wide? Tests for a kernel to inherit: of compiled code, in the interpreter, and on a GPU."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Mapping

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.index_width import Subject
from perf_kernels.undeclared_tests import around_int32
from perfgate.static.answers import Answer
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared
from perfgate.static.targets import TARGETS

#: Rows and columns of a prompt at the gate and up projection of Qwen2.5-7B: 2 x 18944 columns.
ROWS, WIDTH = 65_536, 37_888
#: The first row of that width whose offset is past 2**31 - 1.
FIRST_WRAPPED_ROW = 56_680
#: Numbers of rows around it.
ROWS_AROUND = (FIRST_WRAPPED_ROW - 1, FIRST_WRAPPED_ROW, FIRST_WRAPPED_ROW + 1, ROWS)
#: Elements from one row to the next.
STRIDES_AROUND = (2**30, 2**31 - 1, 2**31, 2**31 + 1)
_CANARY = 0x55

_QUANTIZE = """
import importlib, sys
from perf_kernels.index_width import check_last_rows
from perf_kernels.interpreter import round_as_a_gpu

module, which, rows, width = sys.argv[1:]
round_as_a_gpu()
check_last_rows(importlib.import_module(module).SUBJECT, which == "twin", int(rows), int(width))
"""


def caught(place: str, launch: str) -> list[str]:
    """Name the kernels of a deliberate mistake whose addresses the compile check finds to be computed in 32 bits."""
    (answer,) = compile_all(f"{place}:TWIN_LAUNCHES", [launch], ["sm90"]).values()
    return [kernel.name for kernel in answer.kernels if any("tt.addptr" in line for line in kernel.narrow_offsets)]


class IndexWidthTests:
    """Tests without a GPU. A subclass says which kernel.

    Attributes:
        package: import path of the kernel's folder.
        twin: the launch of the naive twin.
        twin_operations: what of it may overflow, by the operations of Triton IR in alphabetical order.
        also: names of further launches in the same module that are compiled for one target.
        everywhere: a launch that is compiled for every target here, if any; the static gate compiles most for all.
        unsupported: launches and targets that cannot do them, with what the launcher says.
        kernels_compiled: how many kernels the launches launch.
        program: takes "kernel" or "twin", and a shape. Interprets that at the shape, compares with the reference, and
            prints "equals the reference" and the memory that it took.
        real: the shape of a real size.
        wrapping: a shape at which offsets pass 2**31 in the twin.
        small: a shape at which they do not.
    """

    package: str
    twin: str
    twin_operations: tuple[str, ...]
    also: tuple[str, ...] = ()
    everywhere: str | None = None
    unsupported: tuple[tuple[str, str, str], ...] = ()
    kernels_compiled: int
    program: str
    real: tuple[int, ...]
    wrapping: tuple[int, ...]
    small: tuple[int, ...]

    @property
    def place(self) -> str:
        """Give the import path of the launches."""
        return f"{self.package}.specialisations"

    @pytest.fixture
    def answers(self) -> Mapping[tuple[str, str], Answer]:
        """Compile every launch for one target and one for all, in another process: in this one they may be interpreted.

        What was compiled for one test is not compiled again for the next.
        """
        answers = self.compiled(self.place, *(f"{self.place}:{name}" for name in self.also))
        if self.everywhere is None:
            return answers
        return answers | compile_all(self.place, [self.everywhere], [target for target in TARGETS if target != "sm90"])

    def compiled(self, *places: str) -> dict[tuple[str, str], Answer]:
        """Compile all launches of some places for one target."""
        return {
            where: answer
            for place in places
            for where, answer in compile_all(place, list(shared().launches(place).code), ["sm90"]).items()
        }

    @pytest.fixture
    def kernels(self, answers: Mapping[tuple[str, str], Answer]) -> dict[str, Figures]:
        """Give the compiled kernels by launch and target, and by name where a launch launches several."""
        return {
            " ".join(where if len(answer.kernels) == 1 else (*where, kernel.name)): kernel
            for where, answer in answers.items()
            for kernel in answer.kernels
        }

    def test_every_launch_compiles(
        self, answers: Mapping[tuple[str, str], Answer], kernels: dict[str, Figures]
    ) -> None:
        left = {where: (each.status, each.reason) for where, each in answers.items() if each.status != "compiled"}
        assert left == {(launch, target): ("unsupported", reason) for launch, target, reason in self.unsupported}
        assert len(kernels) == self.kernels_compiled

    def test_compiled_offsets_are_wide(self, kernels: dict[str, Figures]) -> None:
        assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}

    def test_compiled_code_does_not_spill(self, kernels: dict[str, Figures]) -> None:
        assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}

    def test_compile_check_catches_the_naive_twin(self) -> None:
        (answer,) = compile_all(f"{self.place}:TWIN_LAUNCHES", [self.twin], ["sm90"]).values()
        (twin,) = answer.kernels
        found = sorted(line.split(" = ")[1].split(" ")[0] for line in twin.narrow_offsets)
        assert tuple(found) == self.twin_operations

    def interpret(self, which: str, shape: tuple[int, ...]) -> subprocess.CompletedProcess[str]:
        """Interpret the "kernel" or the "twin" at a shape."""
        return run(self.program, which, *shape, interpret=True)

    def test_interpreted_at_the_real_shape(self) -> None:
        done = self.interpret("kernel", self.real)
        assert done.returncode == 0, done.stderr
        # Resident memory: the tensors are gigabytes of address space. torch alone takes 1 GiB where it is built for
        # CUDA.
        assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")

    def test_interpreter_check_catches_the_naive_twin(self) -> None:
        done = self.interpret("twin", self.wrapping)
        assert done.returncode == 1
        assert "int32 overflow detected for operation mul" in done.stderr

    def test_interpreter_check_lets_the_naive_twin_pass_below_the_limit(self) -> None:
        # Otherwise the twin might be caught for another reason than its offsets.
        done = self.interpret("twin", self.small)
        assert done.returncode == 0, done.stderr
        assert "int32 overflow" not in done.stderr
        assert done.stdout.startswith("equals the reference")


class QuantizerIndexWidthTests(IndexWidthTests):
    """The same for a kernel that quantises rows, and tests on a GPU. Its ``past_int32`` module says how it is called.

    Attributes:
        width: columns of the result, or of what becomes it.
    """

    width: int = WIDTH
    small = (4, 512)

    @property
    def real(self) -> tuple[int, ...]:
        """Give rows and columns of the longest prompt."""
        return ROWS, self.width

    wrapping = real

    @property
    def subject(self) -> Subject:
        """Give how the kernel is called."""
        subject = importlib.import_module(f"{self.package}.past_int32").SUBJECT
        assert isinstance(subject, Subject)
        return subject

    def interpret(self, which: str, shape: tuple[int, ...]) -> subprocess.CompletedProcess[str]:
        """Interpret the last rows of a shape."""
        return run(_QUANTIZE, f"{self.package}.past_int32", which, *shape, interpret=True)

    def check_every_code(self, rows: int) -> None:
        """Quantise so many rows on a GPU, between canary rows, and compare every code and scale."""
        subject = self.subject
        x = subject.exact(subject.draw(rows, self.width, torch.bfloat16, "cuda", 5))
        made, columns = subject.shape(rows, self.width)
        room = torch.full((made + 2, columns), _CANARY, dtype=torch.int8, device="cuda")
        scales = torch.full((made + 2,), torch.nan, device="cuda")
        q, scale = subject.quantize(x, out=(room[1:-1], scales[1:-1]))
        torch.cuda.synchronize()
        for start in range(0, rows, 2048):
            part = x[start : start + 2048]
            expected_q, expected_scale = subject.reference(part)
            assert torch.equal(q[start : start + len(part)], expected_q[: len(part)])
            assert torch.equal(scale[start : start + len(part)], expected_scale[: len(part)])
        # Padding, of kernels that make any.
        assert q[rows:].count_nonzero() == 0
        assert (scale[rows:] == 1).all()
        assert (room[[0, -1]] == _CANARY).all()
        assert scales[[0, -1]].isnan().all()

    @around_int32
    @pytest.mark.cuda
    @pytest.mark.vram(24)
    @pytest.mark.isolate
    @pytest.mark.parametrize("rows", ROWS_AROUND)
    def test_real_shape(self, rows: int) -> None:
        self.check_every_code(rows)

    @around_int32
    @pytest.mark.cuda
    @pytest.mark.vram(24)
    @pytest.mark.isolate
    @pytest.mark.parametrize("stride", STRIDES_AROUND)
    def test_distant_rows(self, stride: int) -> None:
        """A row gives the same bits wherever it lies: three rows this far apart, and a storage offset of as much."""
        subject = self.subject
        row = subject.draw(1, 3584, torch.bfloat16, "cuda", 6)
        alone_q, alone_scale = subject.quantize(row)
        columns = row.shape[1]
        room = torch.empty(2 * stride + columns + 16, dtype=torch.bfloat16, device="cuda")
        far = room.as_strided((3, columns), (stride, 1))
        far.copy_(row.expand(3, columns))
        q, scale = subject.quantize(far)
        assert torch.equal(q[:3], alone_q[:1].expand(3, -1))
        assert torch.equal(scale[:3], alone_scale[:1].expand(3))
        q, _ = subject.quantize(room[stride : stride + columns].view(1, columns))
        assert torch.equal(q, alone_q)
