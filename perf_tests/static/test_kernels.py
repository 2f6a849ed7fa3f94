"""What do the kernels compile to, for GPUs that are not here? One case a launch and target.

The dearest come first, so that all processes that compile end at about the same time.
"""

from __future__ import annotations

from typing import Any

import pytest

#: One GPU of each vendor, for launches whose code says little more about another one.
VENDORS = ("sm90", "gfx942")
#: What spills all the same, by launch and target. Those for AMD keep scalar registers in lanes of vector registers, not
#: in memory. Where they keep none there, tiles are so small that a thread loads 8 bytes at a time, or a program has one
#: output and rounds the activations for it alone. The tuned ones are the fastest that tuning found on their
#: GPU, with the compiler there.
SPILLING = {
    ("fp8-gate_up-1-codes", "gfx90a"),
    ("fp8-gate_up-1-codes", "gfx942"),
    ("32-4bit-9728-2560-tuned-nvidia-h200", "sm90"),
    ("8-16bit-9728-2560-gated-tuned-nvidia-h200", "sm90"),
    ("16bit-128x128-normalized-64x4096-tuned-nvidia-h200", "sm90"),
    ("16bit-128x128-normalized-8x32768-tuned-nvidia-h200", "sm90"),
}


@pytest.mark.static("perf_kernels.hbv.specialisations")
def test_hbv(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.hbv.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_hbv_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.ternary_matmul.specialisations")
def test_ternary_matmul(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.ternary_matmul.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_ternary_matmul_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.slide_quantization.specialisations")
def test_slide_quantization(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.slide_quantization.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_slide_quantization_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.linear_attention.specialisations")
def test_linear_attention(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.decode_linear.specialisations")
def test_decode_linear(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.decode_linear.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_decode_linear_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.decode_attention.specialisations")
def test_decode_attention(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.decode_attention.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_decode_attention_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.row_quantization.specialisations")
def test_row_quantization(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.row_quantization.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_row_quantization_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.silu_mul_quantization.specialisations")
def test_silu_mul_quantization(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.silu_mul_quantization.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_silu_mul_quantization_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.dequantize_bias.specialisations")
def test_dequantize_bias(compiled: Any) -> None:
    assert_sound(compiled)


@pytest.mark.static("perf_kernels.dequantize_bias.specialisations:VENDOR_LAUNCHES", targets=VENDORS)
def test_dequantize_bias_of_vendors(compiled: Any) -> None:
    assert_sound(compiled)


def assert_sound(compiled: Any) -> None:
    """Check what holds of every kernel here, whatever its baseline says: offsets are wide, and nothing spills."""
    assert {kernel.name: kernel.narrow_offsets for kernel in compiled.kernels if kernel.narrow_offsets} == {}
    spilling = {kernel.name: kernel.code.spills for kernel in compiled.kernels if kernel.code.spills}
    # Another compiler may need no spills where this one does.
    assert not spilling or (compiled.launch, compiled.target) in SPILLING, spilling
