"""Which prompt is generated from: a text of the wanted length where a tokenizer is at hand, else random tokens?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: Written for this purpose. Cut to the wanted number of tokens; repeated for long prompts.
TEXT = (
    "The river rises in the hills behind the town. In spring it carries the water of the melting snow past the mill "
    "and the school, under two bridges and out into the plain, where farmers wait for it. Someone has measured its "
    "level every morning for eighty years. The numbers are kept in a cupboard, one notebook a year, and they tell of "
    "dry summers, of a flood that took the old bridge, and of many days on which nothing happened at all. "
)


def random_prompt(model: Any, tokens: int, seed: int = 0, batch: int = 1) -> Any:
    """Give ``input_ids: [batch, tokens]`` int64 on the model's device; the same ids on every device."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.config.vocab_size, (batch, tokens), generator=generator, device="cpu")
    return ids.to(model.device)


def text_prompt(model: Any, folder: Path, tokens: int, batch: int = 1) -> Any:
    """Give ``input_ids: [batch, tokens]`` of :data:`TEXT`; each sequence begins with another of its sentences.

    Args:
        model: gives the device.
        folder: holds the tokenizer.
        tokens: length of each prompt.
        batch: number of prompts.
    """
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    sentences = TEXT.split(". ")
    prompts = []
    for number in range(batch):
        first = number % (len(sentences) - 1)
        text = ". ".join([*sentences[first:-1], *sentences[:first]]) + ". "
        ids = tokenizer(text)["input_ids"]
        prompts.append((ids * (tokens // len(ids) + 1))[:tokens])
    return torch.tensor(prompts, device=model.device)


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder with weights holds a tokenizer, too."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
