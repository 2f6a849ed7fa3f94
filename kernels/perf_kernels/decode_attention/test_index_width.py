"""Are offsets into the cache 64 bits wide? Checked on the compiled code, in the interpreter, and on a GPU for real."""

from __future__ import annotations

import math

import pytest
import torch

from perf_kernels.child import run
from perf_kernels.decode_attention import decode_attention, ops
from perf_kernels.decode_attention.inputs import random_step
from perf_kernels.decode_attention.oracle import Allowed, relative_rms
from perf_kernels.target import DEVICE_TYPE
from perf_kernels.undeclared_tests import around_int32, narrow_heads
from perfgate.static.figures import Figures
from perfgate.static.pool import compile_all, shared

#: So many sequences of so long caches that the last one starts past 2**31 elements.
SEQUENCES, LENGTH, WIDTH = 34, 2**19, 128
#: Elements on each side of caches and outputs that nobody may write to, and what they hold.
ROOM, CANARY = 16, 7.0

PLACE = "perf_kernels.decode_attention.specialisations"
TWIN = "naive-640"

INTERPRET = """
import resource, sys
import torch
from perf_kernels.decode_attention import decode_attention
from perf_kernels.decode_attention.inputs import random_step
from perf_kernels.decode_attention.naive_twin import naive_kernel
from perf_kernels.decode_attention.oracle import FLOOR, Allowed, relative_rms
from perf_kernels.index_width import interpreted

which, sequences, length, width = sys.argv[1], *map(int, sys.argv[2:])
small = random_step(1, 2, 1, width, 64, 20, torch.float16)


def check(sequences, length):
    # Memory is committed only where it is touched: 4.5 GiB are reserved for each, the end is used.
    keys, values = (torch.empty(sequences, 1, length, width, dtype=torch.float16) for _ in range(2))
    keys[-1, :, :64], values[-1, :, :64] = small.keys[0], small.values[0]
    # Of the others, the ends must stay as they are.
    for cache in (keys, values):
        cache[:-1, :, :64] = cache[:-1, :, -64:] = 7
    with interpreted([sequences - 1], grid=sequences):
        if which == "kernel":
            qkv = torch.zeros(sequences, 4 * width, dtype=torch.float16)
            qkv[-1] = small.qkv[0]
            # The tables are longer than they are read.
            cos, sin = (torch.empty(length, width, dtype=torch.float16) for _ in range(2))
            cos[:64], sin[:64] = small.cos, small.sin
            y = decode_attention(qkv, small.q_norm, small.k_norm, cos, sin, small.position, keys, values)
            allowed = Allowed(*small[:5], 20, small.keys, small.values)
            assert relative_rms(y[-1:], allowed.output) <= allowed.output_error
            assert relative_rms(keys[-1:, :, 20], allowed.key) <= allowed.key_error
            assert torch.equal(values[-1:, :, 20].double(), allowed.value)
            for cache, old in ((keys, small.keys), (values, small.values)):
                assert torch.equal(cache[-1, :, :20], old[0, :, :20])
                assert cache[-1, :, 21:64].isnan().all()
                assert (cache[:-1, :, :64] == 7).all() and (cache[:-1, :, -64:] == 7).all()
        else:
            q = torch.zeros(sequences, width, dtype=torch.float16)
            q[-1] = small.qkv[0, :width]
            scores = torch.empty(sequences, 20)
            naive_kernel[(sequences,)](q, keys, scores, length, 20, width, 64)
            expected = small.keys[0, 0, :20].double() @ small.qkv[0, :width].double()
            assert relative_rms(scores[-1], expected) <= FLOOR[torch.float32]
    print("equals the reference", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20, "GiB")


if which == "twin":
    # Below the limit it must pass: otherwise it might be caught for another reason than its offsets.
    check(3, 64)
check(sequences, length)
"""


@pytest.fixture(scope="module")
def kernels() -> dict[str, Figures]:
    """Compile every launch for one target, in another process: in this one kernels may be interpreted.

    The static gate compiles most of them for all targets.
    """
    answers = {
        where: answer
        for place in (PLACE, f"{PLACE}:VENDOR_LAUNCHES")
        for where, answer in compile_all(place, list(shared().launches(place).code), ["sm90"]).items()
    }
    assert {where: answer.reason for where, answer in answers.items() if answer.status != "compiled"} == {}
    return {" ".join([*where, kernel.name]): kernel for where, answer in answers.items() for kernel in answer.kernels}


@pytest.fixture(scope="module")
def twin() -> Figures:
    """Compile the deliberate mistake."""
    return compile_all(f"{PLACE}:TWIN_LAUNCHES", [TWIN], ["sm90"])[TWIN, "sm90"].kernels[0]


def test_compiled_offsets_are_wide(kernels: dict[str, Figures]) -> None:
    assert {name: found.narrow_offsets for name, found in kernels.items() if found.narrow_offsets} == {}


def test_compiled_code_does_not_spill(kernels: dict[str, Figures]) -> None:
    assert {name: found.code.spills for name, found in kernels.items() if found.code.spills} == {}


def test_products_are_on_tensor_cores(kernels: dict[str, Figures]) -> None:
    assert [name for name, found in kernels.items() if found.code.tensor_core == 0] == []


def test_compile_check_catches_the_naive_twin(twin: Figures) -> None:
    assert any("tt.addptr" in line for line in twin.narrow_offsets)


def test_interpreted_at_a_large_shape() -> None:
    assert (SEQUENCES - 1) * LENGTH * WIDTH > 2**31 - 1
    done = run(INTERPRET, "kernel", SEQUENCES, LENGTH, WIDTH, interpret=True)
    assert done.returncode == 0, done.stderr
    # Resident memory: torch alone takes 1 GiB where it is built for CUDA.
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")


def test_interpreter_check_catches_the_naive_twin_past_the_limit() -> None:
    done = run(INTERPRET, "twin", SEQUENCES, LENGTH, WIDTH, interpret=True)
    assert done.returncode == 1
    assert done.stdout in ("equals the reference 0 GiB\n", "equals the reference 1 GiB\n")
    assert "int32 overflow detected for operation mul" in done.stderr


def check_every_sequence(
    monkeypatch: pytest.MonkeyPatch, sequences: int, kv_heads: int, length: int, before: int = 0
) -> None:
    """Let every sequence have the same new token, and the last one a past: it must give what it gives alone.

    Args:
        monkeypatch: puts the outputs where what lies beside them is known.
        sequences: of the cache.
        kv_heads: heads of keys and values.
        length: tokens that the cache has room for.
        before: elements of memory before the caches.
    """
    dtype, heads, kept, position = torch.bfloat16, 4 * kv_heads, 64, 20
    step = random_step(1, heads, kv_heads, WIDTH, kept, position, dtype, DEVICE_TYPE)
    allowed = Allowed(*step[:5], position, step.keys, step.values)

    def between_canaries(*shape: int, before: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]:
        number = math.prod(shape)
        room = torch.zeros(ROOM + before + number + ROOM, dtype=dtype, device=DEVICE_TYPE)
        sides = [room[:ROOM], room[before : before + ROOM], room[-ROOM:]]
        for side in sides:
            side.fill_(CANARY)
        return room[ROOM + before : -ROOM].view(shape), sides

    out, sides = between_canaries(sequences, heads * WIDTH)
    monkeypatch.setattr(ops, "_empty", lambda qkv, keys: out)
    caches = []
    for old in (step.keys, step.values):
        cache, beside = between_canaries(sequences, kv_heads, length, WIDTH, before=before)
        cache[-1, :, :kept] = old[0]
        caches.append(cache)
        sides += beside
    tables = [torch.zeros(length, WIDTH, dtype=dtype, device=DEVICE_TYPE) for _ in range(2)]
    for table, small in zip(tables, (step.cos, step.sin), strict=True):
        table[:kept] = small
    y = decode_attention(step.qkv.repeat(sequences, 1), step.q_norm, step.k_norm, *tables, step.position, *caches)
    assert all((side == CANARY).all() for side in sides)
    keys, values = caches
    assert relative_rms(y[-1:], allowed.output) <= allowed.output_error
    assert relative_rms(keys[-1:, :, position], allowed.key) <= allowed.key_error
    assert torch.equal(values[-1:, :, position].double(), allowed.value)
    # The others have no past but zeros, and give the same as each other.
    assert torch.equal(y[:-1], y[:1].expand(sequences - 1, -1))
    for cache, old in ((keys, step.keys), (values, step.values)):
        assert torch.equal(cache[-1, :, :position], old[0, :, :position])
        assert cache[-1, :, position + 1 : kept].isnan().all()
        # Every sequence has the same new token, and nothing else is stored in any.
        assert torch.equal(cache[:, :, position], cache[-1:, :, position].expand(sequences, -1, -1))
        cache[-1, :, :kept] = 0
        cache[:, :, position] = 0
        assert not any(each.any() for each in cache)


@narrow_heads
def test_small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the large ones do, anywhere."""
    check_every_sequence(monkeypatch, 3, 2, 64, before=48)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
def test_last_sequence_of_a_large_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of 2.3 billion elements each."""
    check_every_sequence(monkeypatch, SEQUENCES // 2, 2, LENGTH)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_sequences_around_the_limit(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """The last sequence starts at 2**31, or 2048 elements, 16 tokens, before it or behind."""
    length = 2**20 + more
    assert 16 * length * WIDTH == 2**31 + 2048 * more
    check_every_sequence(monkeypatch, 17, 1, length)


@around_int32
@pytest.mark.cuda
@pytest.mark.vram(24)
@pytest.mark.isolate
def test_caches_that_start_past_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    check_every_sequence(monkeypatch, 3, 2, 1024, before=2**31 + 16)
