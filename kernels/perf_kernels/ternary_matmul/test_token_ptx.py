"""Does the PTX for four words of weights add up exactly? Emulated in plain Python: nothing runs it without a GPU."""

from __future__ import annotations

import random
import re

import pytest
import torch

from perf_kernels.ternary_matmul import pack_ternary
from perf_kernels.ternary_matmul.token_kernel import _DP4A_OPERANDS, _four_words

FIELDS, WORDS, BYTES = 4, 4, 4
#: Columns of a block, and of one of its fields.
COLUMNS, FIELD_COLUMNS = 256, 64
OUTPUTS, INPUTS = 4, 4 + FIELDS * WORDS


def signed(bits: int, width: int = 32) -> int:
    """Read the low bits of a number as two's complement."""
    bits &= (1 << width) - 1
    return bits - (1 << width) if bits >> (width - 1) else bits


def byte(word: int, number: int) -> int:
    """Give a signed byte of a word."""
    return signed(word >> (8 * number), 8)


def instructions(text: str) -> list[tuple[str, str, list[str]]]:
    """Give operation, destination and sources of each instruction."""
    lines = [line.rstrip(";") for line in text.splitlines() if line not in ("{", "}") and not line.startswith(".reg")]
    parts = [re.split(r",? ", line) for line in lines]
    return [(operation, to, sources) for operation, to, *sources in parts]


def execute(text: str, inputs: list[int]) -> list[int]:
    """Run PTX on int32 registers; operands after the results are ``inputs``. An unknown instruction raises."""
    registers = {f"${OUTPUTS + i}": signed(word) for i, word in enumerate(inputs)}

    def value(operand: str) -> int:
        return signed(int(operand, 0)) if operand[0].isdigit() else registers[operand]

    for operation, to, sources in instructions(text):
        a, *rest = map(value, sources)
        match operation:
            case "mov.b32":
                result = a
            case "and.b32":
                result = a & rest[0]
            case "shr.s32":
                result = a >> rest[0]
            case "dp4a.s32.s32":
                result = rest[1] + sum(byte(a, j) * byte(rest[0], j) for j in range(BYTES))
            case _:
                raise AssertionError(operation)
        registers[to] = signed(result)
    return [registers[f"${i}"] for i in range(OUTPUTS)]


def check(weights: torch.Tensor, codes: list[int]) -> None:
    """Compare the sums over a block of 256 columns, four words at a time, with exact ones.

    Args:
        weights: [256] int8, -1, 0 or 1.
        codes: of the 256 activations, -128 to 127.
    """
    packed = pack_ternary(weights[None])[0].view(torch.int32).tolist()
    for first in range(0, len(packed), WORDS):
        # Where the first column of each word lies, by field.
        starts = [[f * FIELD_COLUMNS + (first + k) * BYTES for k in range(WORDS)] for f in range(FIELDS)]
        columns = [[at + j for at in field for j in range(BYTES)] for field in starts]
        words = [sum((codes[at + j] & 255) << (8 * j) for j in range(BYTES)) for field in starts for at in field]
        total, *others = execute(_four_words(), packed[first : first + WORDS] + words)
        # The lower three fields hold w + 1.
        excess = sum(codes[column] for field in columns[:3] for column in field)
        assert total - excess == sum(int(weights[column]) * codes[column] for field in columns for column in field)
        assert others == [0, 0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_random_blocks(seed: int) -> None:
    draw = random.Random(seed)
    weights = torch.tensor(draw.choices((-1, 0, 1), k=COLUMNS), dtype=torch.int8)
    check(weights, draw.choices(range(-128, 128), k=COLUMNS))


@pytest.mark.parametrize("weight", [-1, 0, 1])
@pytest.mark.parametrize("code", [-128, -127, -1, 0, 1, 127])
def test_all_at_one_end(weight: int, code: int) -> None:
    check(torch.full((COLUMNS,), weight, dtype=torch.int8), [code] * COLUMNS)


def test_each_product_alone() -> None:
    """One weight and one code at a time: every column meets its own, with its sign."""
    for column in range(0, COLUMNS, 5):
        weights, codes = torch.zeros(COLUMNS, dtype=torch.int8), [0] * COLUMNS
        weights[column], codes[column] = -1, 93
        check(weights, codes)


def test_operands() -> None:
    """Four results and twenty inputs, all of them read before the first result is written: they may share registers."""
    assert _DP4A_OPERANDS.value.split(",") == ["=r"] * OUTPUTS + ["r"] * INPUTS
    found = instructions(_four_words())
    results = {f"${i}" for i in range(OUTPUTS)}
    written = [i for i, (_, to, _) in enumerate(found) if to in results]
    read = [i for i, (_, _, sources) in enumerate(found) if any(source.startswith("$") for source in sources)]
    assert {source for *_, sources in found for source in sources if source.startswith("$")} == {
        f"${OUTPUTS + i}" for i in range(INPUTS)
    }
    assert {to for _, to, _ in found if to.startswith("$")} == results
    assert max(read) < min(written)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("shr.s32 sum, sum, 2;", "shr.s32 sum, sum, 1;"), ("0xc0c0c0c0", "0x40c0c0c0"), ("field, $8,", "field, $9,")],
)
def test_mistakes_are_seen(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _four_words()
    assert right in text
    monkeypatch.setattr(f"{__name__}._four_words", lambda: text.replace(right, wrong), raising=True)
    with pytest.raises(AssertionError):
        test_random_blocks(0)
