"""Do quantised layers compute what they store, and are GPTQ tensors packed and read as checkpoints have them?"""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from perf_workloads.text_generation import (  # noqa: E402
    GenerationSetup,
    generate,
    gptq,
    greedy_gap,
    has_tokenizer,
    load,
    logit_error,
    prompt_logits,
    random_prompt,
    text_prompt,
    weight_bytes,
)
from perf_workloads.text_generation.layers import (  # noqa: E402
    FEW_TOKENS,
    GptqLinear,
    PackedLinear,
    StoredLinear,
    quantize_layers,
)

REFERENCE = GenerationSetup("tiny-qwen3", "float32", "cpu")
METHODS = [("int8-weight-only", "rebuild"), ("int8-dynamic", "int-mm"), ("int4-gptq", "rebuild")]


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: several wait for each other at every small operation when a core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference():
    return load(REFERENCE)


def weight(outputs: int = 16, inputs: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


def test_gptq_tensors_are_packed_as_the_format_says():
    """Bit by bit, in plain Python: eight rows to a word, zero points of eight columns less one."""
    tensors = gptq.quantize(weight(), group_size=32)
    assert [(part.dtype, list(part.shape)) for part in (tensors.qweight, tensors.qzeros, tensors.scales)] == [
        (torch.int32, [8, 16]),
        (torch.int32, [2, 2]),
        (torch.float16, [2, 16]),
    ]
    codes = [
        [(int(tensors.qweight[row // 8, column]) >> 4 * (row % 8)) & 15 for column in range(16)] for row in range(64)
    ]
    zeros = [
        [((int(tensors.qzeros[group, column // 8]) >> 4 * (column % 8)) & 15) + 1 for column in range(16)]
        for group in range(2)
    ]
    assert tensors.g_idx.tolist() == [row // 32 for row in range(64)]
    for row in (0, 7, 8, 31, 32, 63):
        for column in (0, 7, 8, 15):
            group = row // 32
            rebuilt = (codes[row][column] - zeros[group][column]) * float(tensors.scales[group, column])
            assert float(gptq.rebuild(tensors)[row, column]) == pytest.approx(rebuilt, rel=1e-3)
            assert abs(rebuilt - float(weight()[column, row])) <= 0.51 * float(tensors.scales[group, column]) + 1e-3


def test_codes_use_their_range():
    codes, zeros = gptq.codes_and_zeros(gptq.quantize(weight(), group_size=32))
    assert (int(codes.min()), int(codes.max()), set(zeros.flatten().tolist())) == (0, 15, {8})


@pytest.mark.parametrize(("shape", "group_size"), [((16, 60), 32), ((12, 64), 32)])
def test_a_weight_that_cannot_be_packed_is_an_error(shape, group_size):
    with pytest.raises(ValueError) as error:
        gptq.quantize(torch.zeros(shape), group_size)
    assert str(error.value) == (
        f"a weight [{shape[0]}, {shape[1]}] cannot be packed: rows and columns must be multiples of 8, columns of the "
        "group size 32"
    )


def test_rows_in_another_order_are_rebuilt_and_not_packed_for_the_kernel():
    """What desc_act gives: the group of each row says where its scale is."""
    tensors = gptq.quantize(weight(), group_size=32)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    codes, _ = gptq.codes_and_zeros(tensors)
    shuffled = gptq.GptqTensors(
        gptq._pack(codes[order].to(torch.int32), 0), tensors.qzeros, tensors.scales, tensors.g_idx[order]
    )
    assert torch.equal(gptq.rebuild(shuffled), gptq.rebuild(tensors)[order])
    with pytest.raises(ValueError) as error:
        PackedLinear.from_gptq(shuffled, torch.float32)
    assert str(error.value) == (
        "these GPTQ tensors order rows by activation (desc_act): the backend 'triton' takes groups that follow each "
        "other, the backend 'rebuild' takes any"
    )


def test_layers_multiply_by_what_they_store():
    x = weight(20, 64, seed=1)
    stored = weight(16, 64)
    scale = stored.abs().amax(dim=1) / 127
    int8 = (stored / scale[:, None]).round().to(torch.int8)
    expected = x @ (int8.float() * scale[:, None]).t()
    weight_only = StoredLinear(int8, scale, torch.float32, None, triton=False)
    torch.testing.assert_close(weight_only(x), expected)
    dynamic = StoredLinear(int8, scale, torch.float32, torch.int8, triton=False)
    assert 0 < (dynamic(x) - expected).norm() / expected.norm() < 0.02
    # A token that is a multiple of its codes is not rounded.
    exact = torch.randint(-127, 128, (2, 3, 64), generator=torch.Generator().manual_seed(3)).float()
    exact[..., 0] = 127
    torch.testing.assert_close(dynamic(exact), weight_only(exact), rtol=1e-5, atol=1e-3)


def test_few_tokens_are_what_the_kernel_takes():
    launch = pytest.importorskip("perf_kernels.decode_linear.launch")
    assert FEW_TOKENS == launch.MAX_TOKENS


def test_packed_layers_hold_the_weights_of_gptq_tensors():
    pytest.importorskip("triton")
    tensors = gptq.quantize(weight(), group_size=32)
    assert torch.equal(PackedLinear.from_gptq(tensors, torch.float16).rebuilt(), gptq.rebuild(tensors).t())
    packed, x = PackedLinear.from_gptq(tensors, torch.float32), weight(FEW_TOKENS + 1, 64, seed=1)
    # The tensors' own arithmetic is that of their scales, fp16.
    torch.testing.assert_close(packed(x), GptqLinear(tensors, torch.float32)(x), rtol=0, atol=2.0**-9 * 64**0.5)


@pytest.mark.parametrize(("method", "backend"), METHODS)
def test_a_quantised_model_is_smaller_and_near_the_full_one(reference, method, backend):
    model = load(GenerationSetup("tiny-qwen3", "float32", "cpu", method, backend))
    input_ids = random_prompt(model, 26)
    error = logit_error(prompt_logits(model, input_ids), prompt_logits(reference, input_ids))
    assert 1e-3 < error < {"int8-weight-only": 0.08, "int8-dynamic": 0.12, "int4-gptq": 0.7}[method]
    head = reference.config.vocab_size * reference.config.hidden_size * 4
    layers = weight_bytes(reference) - head
    share = (weight_bytes(model) - head) / layers
    assert share < {"int8-weight-only": 0.27, "int8-dynamic": 0.27, "int4-gptq": 0.16}[method]
    tokens = generate(model, input_ids, 6, cache="static").tokens
    assert greedy_gap(model, input_ids, tokens) < (0.1 if method == "int8-dynamic" else 1e-3)


@pytest.mark.parametrize(("method", "backend"), METHODS)
def test_nothing_of_a_quantised_model_remembers_how_it_was_made(method, backend):
    """With a scale that had a gradient, a pass kept all weights that it rebuilt for as long as its cache: 14 GB."""
    model = load(GenerationSetup("tiny-qwen3", "float32", "cpu", method=method, backend=backend))
    assert not any(tensor.requires_grad for tensor in model.state_dict(keep_vars=True).values())
    assert not model(random_prompt(model, 26), use_cache=False).logits.requires_grad


def test_logits_of_another_shape_or_that_are_not_finite_are_errors():
    with pytest.raises(ValueError) as error:
        logit_error(torch.zeros(1, 3), torch.zeros(2, 3))
    assert str(error.value) == "logits are [1, 3], those of the reference [2, 3]"
    with pytest.raises(ValueError) as error:
        logit_error(torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0]))
    assert str(error.value) == "there are logits that are no finite numbers"
    assert logit_error(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 3.0])) == pytest.approx(0.125**0.5 / 2**0.5)


def save_checkpoint(folder, model, zero_format: str) -> None:
    """Write what AutoGPTQ and GPTQModel write: one file of tensors, and settings in config.json."""
    from safetensors.torch import save_file

    tensors = {}
    for name, tensor in model.state_dict().items():
        if zero_format == "gptq_v2" and name.endswith("qzeros"):
            # The same zero points, without one taken off.
            tensor = gptq._pack((gptq._unpack(tensor, 1) + 1).to(torch.int32), 1)
        if name != "lm_head.weight":
            tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors")
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}
    config = {**model.config.to_dict(), "quantization_config": {**settings, "checkpoint_format": zero_format}}
    (folder / "config.json").write_text(json.dumps(config, default=str))


@pytest.mark.parametrize("zero_format", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("backend", ["rebuild", "triton"])
def test_a_gptq_checkpoint_is_read_as_it_is(tmp_path, zero_format, backend):
    pytest.importorskip("triton")
    made = load(GenerationSetup("tiny-qwen3", "float32", "cpu", "int4-gptq", "rebuild", seed=3))
    save_checkpoint(tmp_path, made, zero_format)
    setup = GenerationSetup("tiny-qwen3", "float32", "cpu", "int4-gptq", backend, weights=str(tmp_path))
    read = load(setup)
    input_ids = random_prompt(made, FEW_TOKENS + 1)
    # Packed anew, weights are computed in fp32 and not in the type of the scales.
    most = 1e-6 if backend == "rebuild" else 0.01
    assert logit_error(prompt_logits(read, input_ids), prompt_logits(made, input_ids)) < most
    kinds = {type(layer.mlp.down_proj) for layer in read.model.layers}
    assert kinds == {GptqLinear if backend == "rebuild" else PackedLinear}


def test_a_gptq_checkpoint_with_something_missing_is_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    made = load(GenerationSetup("tiny-qwen3", "float32", "cpu", "int4-gptq", "rebuild"))
    save_checkpoint(tmp_path, made, "gptq")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.other.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError) as error:
        load(GenerationSetup("tiny-qwen3", "float32", "cpu", "int4-gptq", "rebuild", weights=str(tmp_path)))
    assert str(error.value) == (f"{tmp_path}: not there: ['model.norm.weight']; not understood: ['model.other.weight']")


def test_weights_that_are_quantised_otherwise_than_asked_for_are_an_error(tmp_path, reference):
    config = reference.config.to_dict()
    for settings, message in (
        ({"quant_method": "awq", "bits": 4}, "its weights are quantised by 'awq' to 4 bits; read are 'gptq' and 4"),
        (
            {"quant_method": "gptq", "bits": 4},
            "its weights have 4 bits already, so int8-dynamic cannot be made of them",
        ),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": settings}, default=str))
        with pytest.raises(ValueError) as error:
            load(GenerationSetup("tiny-qwen3", "float32", "cpu", "int8-dynamic", "int-mm", weights=str(tmp_path)))
        assert str(error.value) == f"{tmp_path}: {message}"


def test_a_checkpoint_without_tensors_is_an_error(tmp_path):
    with pytest.raises(ValueError) as error:
        gptq.read_tensors(tmp_path, "cpu")
    assert str(error.value) == f"{tmp_path}: no *.safetensors there"


def test_full_precision_weights_are_quantised_after_reading(tmp_path):
    other = load(GenerationSetup("tiny-qwen3", "float32", "cpu", seed=5))
    other.save_pretrained(tmp_path)
    setup = GenerationSetup("tiny-qwen3", "float32", "cpu", "int8-weight-only", "rebuild", weights=str(tmp_path))
    input_ids = random_prompt(other, 26)
    read = prompt_logits(load(setup), input_ids)
    quantize_layers(other, setup)
    torch.testing.assert_close(read, prompt_logits(other, input_ids))


def test_text_prompts_have_the_wanted_length_and_differ(tmp_path, reference):
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "The": 1, "river": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    assert not has_tokenizer(tmp_path)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(tmp_path)
    assert has_tokenizer(tmp_path)
    for tokens in (3, 26, 512):
        prompts = text_prompt(reference, tmp_path, tokens, batch=2)
        assert (prompts.shape, prompts.dtype) == ((2, tokens), torch.int64)
        assert prompts[0, :2].tolist() == [1, 2]
    assert not torch.equal(prompts[0], prompts[1])


def test_a_random_prompt_is_the_same_for_the_same_seed(reference):
    first = random_prompt(reference, 26, batch=2)
    assert first.shape == (2, 26)
    assert torch.equal(first, random_prompt(reference, 26, batch=2))
    assert not torch.equal(first, random_prompt(reference, 26, seed=1, batch=2))
