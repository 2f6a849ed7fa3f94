"""Do fused steps on a static cache give the tokens of transformers' layers? In Triton's interpreter, in a child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import sys
import torch
from perf_kernels.decode_linear import LaunchConfig, ops
from perf_kernels.interpreter import round_as_a_gpu
from perf_workloads.text_generation import (
    GenerationSetup, generate, greedy_gap, load, models, random_prompt, setups, weight_bytes,
)
from perf_workloads.text_generation.graphed import GraphedGenerator

round_as_a_gpu()
torch.set_num_threads(1)
# The interpreter runs programs one after the other: a small model, and few of them.
shape = dict(hidden_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
             intermediate_size=160, vocab_size=256, tie_word_embeddings=True)
setups.SHAPES = models.SHAPES = {**setups.SHAPES, "micro": shape}
setups.GROUP_SIZES = {**setups.GROUP_SIZES, "micro": 32}
ops.choose = lambda tokens, outputs, stride, itemsize, packed, gated, codes: LaunchConfig(
    max(1 << (outputs - 1).bit_length(), 16), 32 if packed else 128)

for line in sys.argv[1:]:
    method, theirs, dtype, batch, tokens = line.split(",")
    expected = load(GenerationSetup("micro", dtype, "cpu", method, theirs or "torch"))
    model = load(GenerationSetup("micro", dtype, "cpu", method, "triton"))
    input_ids = random_prompt(model, int(tokens), batch=int(batch))
    stored = weight_bytes(model)
    generator = GraphedGenerator(model, int(batch), 40, graph=False)
    # Twice: the second prompt must not see what the first left in the cache.
    generator.generate(random_prompt(model, 18, seed=1, batch=int(batch)), 1)
    generation = generator.generate(input_ids, 3)
    assert weight_bytes(model) == stored, "weights are stored twice"
    # A second step on the same model finds its weights joined.
    again = GraphedGenerator(model, int(batch), 40, graph=False)
    assert again.step._layers[0].qkv[0].data_ptr() == generator.step._layers[0].qkv[0].data_ptr()
    assert len(generation.inter_token_latencies_s) == 2 and min(generation.inter_token_latencies_s) > 0
    same = theirs == "" or generation.tokens == generate(expected, input_ids, 3).tokens
    print(line, same, greedy_gap(model, input_ids, generation.tokens) < 1e-2)
try:
    generator.generate(input_ids, 40)
except ValueError as error:
    print(error)
"""

#: Method, backend to compare with, type, sequences, tokens of the prompt. torch's FP8 products take a GPU.
CASES = [
    "dense,torch,float32,2,20",
    "int8-dynamic,int-mm,float32,1,20",
    "int4-gptq,rebuild,float32,1,20",
]


def test_fused_steps_give_the_same_tokens():
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "kernels")]),
        "PYTHONWARNINGS": "ignore",
        "TRITON_INTERPRET": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *CASES], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    told = "1 sequences of 20 + 40 tokens do not fit into a cache for 1 of 40"
    assert run.stdout.splitlines() == [*(f"{case} True True" for case in CASES), told]
