"""Do launches cover the product, whatever its shape, and is the work counted right?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.decode_linear import bytes_moved, flops, launch_config
from perf_kernels.decode_linear.inputs import LAYERS, Layer, layer_of
from perf_kernels.decode_linear.launch import MAX_ROWS, PROGRAMS, piece, shape_class
from perf_kernels.decode_linear.tuning import TUNABLE

examples = settings.get_profile("perf_kernels")


@examples
@given(
    st.integers(1, 64),
    st.integers(1, 2**18),
    st.integers(1, 2**17),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
)
def test_launch_covers_the_product(
    tokens: int, outputs: int, stride: int, itemsize: int, packed: bool, gated: bool
) -> None:
    itemsize = 4 if packed else itemsize
    config = launch_config(tokens, outputs, stride, itemsize, packed, gated)
    tiles = config.tiles(stride)
    assert (tiles - 1) * config.tile < stride <= tiles * config.tile
    for number in (config.rows, config.tile, config.num_warps):
        assert number.bit_count() == 1
    if tokens == 1:
        whole, tail = config.whole_tiles(stride) * config.tile, config.tail(stride, itemsize)
        assert whole <= stride <= whole + tail
        assert (tail == 0) == (whole == stride)
        assert tail == 0 or (tail <= config.tile and tail.bit_count() == 1 and tail % piece(itemsize) == 0)
        assert tail < 2 * max(stride - whole, piece(itemsize))
        assert config.rows <= MAX_ROWS
        assert config.tile % piece(itemsize) == 0
    else:
        # What tensor cores take at the least; packed words are operands nibble by nibble.
        assert config.rows >= 16
        assert config.tile >= 16


@pytest.mark.parametrize("itemsize", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_the_model_fill_a_gpu_and_waste_no_lanes(name: str, itemsize: int) -> None:
    layer = LAYERS[name]
    config = launch_config(1, layer.outputs, layer.width, itemsize, False, layer.gated)
    assert layer.outputs % config.rows == 0
    assert layer.outputs // config.rows >= PROGRAMS
    assert config.tiles(layer.width) * config.tile <= 1.25 * layer.width
    # Four or more loads of 16 bytes of each of 32 threads are under way for each matrix.
    assert config.rows * config.tile * itemsize >= 32 * 16 * 4


def test_work() -> None:
    assert bytes_moved(1, 2560, 9728, 2, 2 * 2560 * 9728, residual=True) == 2 * (2560 * 9728 + 9728 + 2 * 2560)
    assert bytes_moved(8, 6144, 2560, 2, 100) == 100 + 8 * (2560 + 6144) * 2
    assert flops(8, 6144, 2560) == 2 * 8 * 6144 * 2560


def test_tuning_tries_launches_that_can_be_made() -> None:
    """Every class of shapes has candidates, and its default launch has neighbours."""
    classes = TUNABLE.classes()
    assert len(classes) == 2 * (5 * 4 + 1) + 4 * 5
    for shape in classes.values():
        tried = [*TUNABLE.candidates(*shape), *TUNABLE.neighbours(TUNABLE.default(*shape), *shape)]
        assert len(tried) > 8
        for config in tried:
            assert min(config.rows, config.tile, config.num_warps, config.num_stages) >= 1


def test_classes_of_shapes() -> None:
    assert shape_class(1, 9728, 2560, 2, False, True) == "1-16bit-9728-2560-gated"
    assert shape_class(5, 2560, 512, 4, True, False) == "8-4bit-2560-4096"
    assert shape_class(1, 2560, 4096, 1, False, False, "fp8") == "1-8bit-2560-4096-codes-fp8"


@pytest.mark.parametrize("tokens", [1, 8])
@pytest.mark.parametrize("name", ["qkv", "out"])
def test_layers_are_tuned_as_they_are_launched(name: str, tokens: int) -> None:
    """With the norm before them or what is added behind, with codes, and with weights of the type that codes meet."""
    layer = LAYERS[name]
    for codes, dtype in (("", torch.int8), ("int8", torch.int8), ("fp8", torch.float8_e4m3fn)):
        shape = (tokens, layer.outputs, layer.width, 1, False, layer.gated, codes)
        assert shape in TUNABLE.shapes()
        x, values, _, norm, residual, gated, rounded = TUNABLE.inputs(*shape)
        assert (x.shape, values.shape, values.dtype) == ((tokens, layer.width), (layer.rows, layer.width), dtype)
        assert rounded == (dtype if codes else None)
        assert (
            (norm is not None, residual is not None) == (layer.normed, layer.residual) == (name == "qkv", name == "out")
        )
        assert gated == layer.gated


def test_shapes_of_no_layer_have_nothing_before_and_behind() -> None:
    assert layer_of(9728, 2560, False) == Layer(9728, 2560)
    assert layer_of(9728, 2560, True) == LAYERS["gate_up"]
