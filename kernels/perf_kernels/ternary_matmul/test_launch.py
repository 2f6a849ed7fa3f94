"""Do launches cover the product, whatever its shape and the GPU, and is the work counted right?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.target import Target
from perf_kernels.ternary_matmul import LaunchConfig, bytes_moved, flops, launch_config, packed_bytes
from perf_kernels.ternary_matmul.inputs import LAYERS
from perf_kernels.ternary_matmul.launch import check_token_config, quantize_tile
from perfgate.static.pool import shared
from perfgate.static.tested import question

H200 = Target("cuda", 90, 32)
examples = settings.get_profile("perf_kernels")


@examples
@given(
    st.integers(1, 200),
    st.integers(1, 2**18),
    st.integers(1, 2**17),
    st.sampled_from([H200, Target("cuda", 80, 32), Target("hip", "gfx942", 64), Target("hip", "gfx1100", 32)]),
)
def test_launch_covers_the_product(tokens: int, outputs: int, width: int, target: Target) -> None:
    config = launch_config(tokens, outputs, width, target)
    assert 1 <= config.step <= config.outputs <= 64
    blocks = -(-width // 256)
    assert (config.tiles(width) - 1) * config.slices < blocks <= config.tiles(width) * config.slices
    if tokens == 1:
        check_token_config(config)
    else:
        assert config.num_warps <= config.slices, "a warp without a slice would repeat another's work"
    for number in (config.num_warps, config.outputs, config.slices, config.tokens):
        assert number.bit_count() == 1
    tile, warps = quantize_tile(width)
    assert tile % 256 == 0
    assert warps * 32 * 8 <= max(tile, 256)


def test_a_thread_has_four_words() -> None:
    with pytest.raises(ValueError, match="has 128 words of weights for 64 threads; one token takes 4 for each"):
        check_token_config(LaunchConfig(num_warps=2, outputs=8, step=8, slices=1, tokens=1))


def test_layers_of_the_model_are_requested_at_once() -> None:
    for inputs, outputs in LAYERS.values():
        config = launch_config(1, outputs, inputs, H200)
        assert config.tiles(inputs) <= 2
        # More programs than multiprocessors, where there are enough outputs.
        assert -(-outputs // config.step) >= min(200, outputs // 8)


def test_one_token_of_every_layer_of_the_model_is_declared() -> None:
    """In the form that it is launched in where nothing is tuned."""
    answer = shared().ask(question("perf_kernels.ternary_matmul.specialisations", "sm90"))
    assert answer.status == "compiled", answer.reason
    declared = {
        (each["OUTPUTS"], each["SLICES"], each["TILES"], each["step"], form.options["num_warps"])
        for launch, forms in answer.forms.items()
        for form in forms
        if launch not in answer.tuned and form.kernel.endswith("._token_kernel")
        if (each := form.arguments)["x_ptr"] == "*bf16:16"
    }
    for inputs, outputs in LAYERS.values():
        config = launch_config(1, outputs, inputs, H200)
        step = "i32:16" if config.step % 16 == 0 else "i32"
        cut = (f"={config.outputs}", f"={config.slices}", f"={config.tiles(inputs)}", step, f"{config.num_warps}")
        assert cut in declared, (inputs, outputs)


def test_work() -> None:
    assert packed_bytes(6912) == 1728
    assert bytes_moved(1, 2560, 6912, 2) == 2560 * 1728 + (6912 + 2560) * 2 + 4
    assert bytes_moved(2, 6912, 2560, 4, bias=True) == 6912 * 640 + 2 * (2560 + 6912) * 4 + 6912 * 4 + 4
    assert flops(2, 6912, 2560) == 2 * 2 * 2560 * 6912
