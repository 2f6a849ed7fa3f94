"""Text generation through Hugging Face transformers: load a model, generate greedily, stamp every token.

Importing this package imports neither torch nor transformers; calling it does.
"""

from __future__ import annotations

from perf_workloads.text_generation.driver import Generation, generate, greedy_gap
from perf_workloads.text_generation.models import GenerationSetup, generation_work, load, random_prompt

__all__ = [
    "Generation",
    "GenerationSetup",
    "generate",
    "generation_work",
    "greedy_gap",
    "load",
    "random_prompt",
]
