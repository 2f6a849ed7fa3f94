"""Pretraining on generated text: loss and perplexity by epoch, and the perplexities in short, of every mixer.

The short form makes a few hundred updates on a GPU and forty on a CPU. The long one is ``slow``: five epochs of as many
characters as WikiText-2 has, or of fewer where ``--slow-budget`` does not last.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.attention.cases import grid, skip_unless_it_runs
from perf_workloads.attention.config import decoder

EPOCHS = 5
#: Characters of the training text of WikiText-2.
WIKITEXT_CHARACTERS = 10_800_000


@dataclass(frozen=True)
class Form:
    """How large an experiment is."""

    hidden: int
    layers: int
    heads: int
    tokens: int
    batch: int
    rate: float
    #: Updates of one epoch.
    updates: int


FORMS = {"cuda": Form(256, 4, 4, 256, 128, 5e-4, 60), "cpu": Form(64, 2, 2, 64, 8, 4e-3, 10)}


@pytest.mark.perf(time="50%", clock="wall", budget=0.2)
@pytest.mark.parametrize(("device", "row"), [*grid("cuda"), *grid("cpu")])
def test_pretraining(benchmark: Any, torch: ModuleType, device: str, row: str) -> None:
    pretrain(benchmark, device, row, FORMS[device].updates)


@pytest.mark.slow
@pytest.mark.perf(time="50%", clock="wall", budget=0.2)
@pytest.mark.parametrize(("device", "row"), [*grid("cuda"), *grid("cpu")])
def test_long_pretraining(benchmark: Any, torch: ModuleType, device: str, row: str, slow_budget_s: float) -> None:
    from perf_workloads.attention.language import updates_within
    from perf_workloads.attention.stepping import stepping

    form = FORMS[device]
    config = decoder_of(device, row)
    skip_unless_it_runs(config)
    trial = stepping(config, device, form.batch, form.tokens)
    # A tenth is left for validation, and for what comes before and after.
    affordable = updates_within(0.9 * slow_budget_s, trial.step) // EPOCHS
    whole = WIKITEXT_CHARACTERS // (form.batch * form.tokens)
    pretrain(benchmark, device, row, max(1, min(affordable, whole)), gated=affordable >= whole)


def decoder_of(device: str, row: str) -> Any:
    """Give the decoder that is trained."""
    from perf_workloads.attention.corpus import CHARACTERS

    form = FORMS[device]
    changes = {"hidden": form.hidden, "layers": form.layers, "heads": form.heads}
    return decoder(row, device, vocabulary=len(CHARACTERS), positions=form.tokens, **changes)


def pretrain(benchmark: Any, device: str, row: str, updates: int, *, gated: bool = True) -> None:
    """Train for five epochs of so many updates; what is timed is one update of another model.

    ``gated`` perplexities are compared with those of other runs. They cannot be where the machine's speed decided on
    how long it trains.
    """
    from perf_workloads.attention import corpus, language
    from perf_workloads.attention.decoder import build, parameters
    from perf_workloads.attention.stepping import stepping
    from perf_workloads.attention.training import Recipe, Training, logits
    from perf_workloads.attention.verify import assert_implementation

    form, config = FORMS[device], decoder_of(device, row)
    skip_unless_it_runs(config)
    benchmark(stepping(config, device, form.batch, form.tokens).step)

    characters = updates * form.batch * form.tokens + 1
    text, unseen = corpus.write(characters, seed=0), corpus.write(max(characters // 10, 20 * form.tokens), seed=1)
    train, validation = (
        language.sequences(language.encode(each.characters, device), form.tokens) for each in (text, unseen)
    )
    model = build(config, device)
    recipe = Recipe(EPOCHS * updates, form.batch, form.rate, warm_up=EPOCHS * updates // 20)
    epochs = []
    for epoch in language.pretrain(
        Training(model, recipe), train, validation, epochs=EPOCHS, progress=benchmark.progress
    ):
        epochs.append(epoch)
        benchmark.report(f"train_loss_{epoch.number}", epoch.train_loss, unit="nats")
        benchmark.report(f"validation_loss_{epoch.number}", epoch.validation_loss, unit="nats")
        benchmark.report(f"perplexity_{epoch.number}", epoch.perplexity)

    assert_implementation(lambda: logits(model, train[:1, :-1]), config)
    best = min(epoch.validation_loss for epoch in epochs)
    benchmark.record("parameters", parameters(model), limit="0")
    final, lowest = epochs[-1].perplexity, min(epoch.perplexity for epoch in epochs)
    for name, perplexity in (("final_perplexity", final), ("best_perplexity", lowest)):
        if gated:
            benchmark.record(name, perplexity, limit="5%", noise="1%")
        else:
            benchmark.report(name, perplexity)
    benchmark.report("text_entropy", unseen.entropy, unit="nats")
    benchmark.report("characters", characters)
    assert best > unseen.entropy, "no model can expect that: what it is examined on was trained on"
    assert best < language.unigram_entropy(unseen.characters), "it knows no more than how frequent each character is"
