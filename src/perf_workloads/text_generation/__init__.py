"""Text generation through Hugging Face transformers: load or quantise a model, generate greedily, stamp every token.

Importing this package imports neither torch nor transformers; calling it does.
"""

from __future__ import annotations

from perf_workloads.text_generation.driver import Generation, fit_line, generate, percentile
from perf_workloads.text_generation.models import generation_work, load, weight_bytes
from perf_workloads.text_generation.prompts import has_tokenizer, random_prompt, text_prompt
from perf_workloads.text_generation.quality import greedy_gap, logit_error, prompt_logits
from perf_workloads.text_generation.setups import Configuration, GenerationSetup, linear_layer_count

__all__ = [
    "Configuration",
    "Generation",
    "GenerationSetup",
    "fit_line",
    "generate",
    "generation_work",
    "greedy_gap",
    "has_tokenizer",
    "linear_layer_count",
    "load",
    "logit_error",
    "percentile",
    "prompt_logits",
    "random_prompt",
    "text_prompt",
    "weight_bytes",
]
