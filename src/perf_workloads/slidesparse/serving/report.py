"""How are stored results read? Totals, what ran and what did not, throughput, speed-ups, failures: Markdown and CSV.

What was not run is shown as absent. Imports nothing heavy.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.serving import comparison, models, results
from perf_workloads.slidesparse.serving.results import Key, Record
from perf_workloads.slidesparse.serving.workloads import PASSES, STAGES, TOKENS, Point, Stage
from perfgate.model import Outcome

ABSENT = "–"
#: Of a time as records have it, up to its minutes.
_MINUTES = len("2026-01-01T00:00")
_FIGURES = (
    "prompt_tokens_per_s",
    "output_tokens_per_s",
    "elapsed_s",
    "median_pass_s",
    "passes",
    "prompt_tokens",
    "output_tokens",
    "weight_bytes",
)
_FACTS = ("engine", "torch", "backend", "graph_mode", "compilation", "product", "epilogue", "layers", "options")
#: Those that the CSV alone has: there are as many as layers.
_CHOICES = ("sparse_matmul",)

#: What the rows of two forms of a scheme differ in.
_FORMS = (
    "Products of sparse INT8 weights write int32, which `dequantize_bias` scales back; those of `-bf16` apply the "
    "weights' scales, and write bf16 (`epilogue`)."
)

#: Those that no published run has, and campaigns run where they are named.
_SPARSE_FP8 = tuple(schemes.Scheme("fp8", group).name for group in schemes.GROUPS)

Status = Mapping[tuple[str, str, Point], str]


class Table:
    """The results of one device over a grid of models, schemes and points.

    Args:
        device: as results name it.
        names: models.
        schemes: of each.
        records: of all devices.
        tokens: M of each stage.
    """

    def __init__(
        self,
        device: str,
        names: Sequence[str],
        schemes: Sequence[str],
        records: Iterable[Record],
        tokens: Mapping[Stage, Sequence[int]] = TOKENS,
    ) -> None:
        self.device, self.names, self.schemes, self.tokens = device, tuple(names), tuple(schemes), tokens
        self.stands = {key: record for key, record in results.standing(records).items() if key.device == device}

    def keys(self, stage: Stage) -> list[Key]:
        """List the points of a stage, run or not."""
        return [
            Key(self.device, model, scheme, stage, tokens)
            for model in self.names
            for scheme in self.schemes
            for tokens in self.tokens[stage]
        ]

    def status(self, key: Key) -> str:
        """Say how a point ended: "ok", an outcome, or absent."""
        record = self.stands.get(key)
        if record is None:
            return ABSENT
        return "ok" if record.ok else record.outcome.value.replace("_", " ")


def in_every_form(names: Sequence[str], device: str, records: Iterable[Record]) -> list[str]:
    """Put beside schemes what else a device has results of.

    That is the other form of a scheme, sparse FP8 beside dense, and vLLM's own INT8 beside our dense one.
    """
    run = {record.key.scheme for record in records if record.key.device == device}
    shown: list[str] = []
    for name in names:
        others = [other for other in (*schemes.SCHEMES, *schemes.TO_BF16) if other != name and other in run]
        shown += [name, *(other for other in others if comparison.published_as(other) == comparison.published_as(name))]
        if name == "fp8-dense":
            shown += [other for other in _SPARSE_FP8 if other in run and other not in names]
        if name == "int8-dense" and models.VLLM_INT8 in run:
            shown.append(models.VLLM_INT8)
    return shown


def markdown(table: Table, published: Status, rerun: str) -> str:
    """Write the report.

    Args:
        table: what is shown.
        published: how the published runs ended.
        rerun: the command that runs what failed.
    """
    lines = [f"# Serving with SlideSparse on {table.device}", ""]
    lines += [f"- {name}: {' | '.join(found)}" for name in _FACTS if (found := _found(table, name))]
    lines += [*_passes(table)]
    if any(name in schemes.TO_BF16 for name in table.schemes):
        lines += ["", _FORMS]
    lines += [
        "",
        "## Totals",
        "",
        *_totals(table, published),
        "",
        "## When points were run, UTC",
        "",
        *_dates(table),
        "",
    ]
    lines += ["## How runs ended", ""]
    lines += ["The A100's published runs stand behind a slash where they did not end alike.", ""]
    for stage in STAGES:
        lines += [f"### {stage}", "", *_matrix(table, stage, _status_beside(table, published)), ""]
    for stage in STAGES:
        lines += [f"## {_rate_name(stage)} of {stage}", "", *_matrix(table, stage, _rate_shown(table)), ""]
    lines += ["## Speed-up", "", "Sparse schemes over dense weights of the same codes; dense ones over bf16.", ""]
    for stage in STAGES:
        lines += [f"### {stage}", "", *_matrix(table, stage, _speedup_shown(table)), ""]
    lines += ["## Beside the published rates", "", *_beside_published(table), ""]
    lines += ["## Failures", "", *_failures(table, rerun), ""]
    return "\n".join(lines)


def to_csv(table: Table, published: Status) -> str:
    """Write one row a point, those that were not run among them; rates in tokens/s, times in s, memory in bytes."""
    text = io.StringIO()
    head = ("device", "model", "scheme", "stage", "tokens", "status", "published_a100", "speedup", *_FIGURES)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*head, *_FACTS, *_CHOICES, "cause", "when", "commit"))
    for stage in STAGES:
        for key in table.keys(stage):
            record = table.stands.get(key, Record(key, "", Outcome.SKIPPED))
            factor = comparison.speedup(table.stands, key)
            writer.writerow(
                (
                    *key,
                    table.status(key) if key in table.stands else "absent",
                    published.get((key.model, comparison.published_as(key.scheme), key.point), ""),
                    "" if factor is None else f"{factor:.4f}",
                    *(_number(record.figures.get(name)) for name in _FIGURES),
                    *(record.fact(name) for name in (*_FACTS, *_CHOICES)),
                    record.cause,
                    record.when,
                    record.commit,
                )
            )
    return text.getvalue()


def _passes(table: Table) -> Iterator[str]:
    counts = [int(each.figures["passes"]) for key, each in table.stands.items() if each.ok and key.stage == "prefill"]
    if counts:
        yield f"- passes of a prefill: {min(counts)} to {max(counts)}, published were {PASSES}; M was read from each"


def _totals(table: Table, published: Status) -> Iterator[str]:
    """Count what is shown, and beside it all that was published of the A100."""
    yield "| stage | points | ok | failed | absent | A100, published |"
    yield "|---|---|---|---|---|---|"
    for stage in STAGES:
        theirs = [status for (_, _, point), status in published.items() if point.stage == stage]
        beside = f"{theirs.count('ok')} of {len(theirs)} ok" if theirs else ABSENT
        status = [table.status(key) for key in table.keys(stage)]
        ok, absent = status.count("ok"), status.count(ABSENT)
        yield f"| {stage} | {len(status)} | {ok} | {len(status) - ok - absent} | {absent} | {beside} |"


def _dates(table: Table) -> Iterator[str]:
    """Give the first and the last time of the points that stand for each model and scheme."""
    yield "| model | scheme | points | first | last |"
    yield "|---|---|---|---|---|"
    for model in table.names:
        for scheme in table.schemes:
            keys = [key for stage in STAGES for key in table.keys(stage) if (key.model, key.scheme) == (model, scheme)]
            whens = sorted(table.stands[key].when[:_MINUTES].replace("T", " ") for key in keys if key in table.stands)
            if whens:
                yield f"| {model} | {scheme} | {len(whens)} | {whens[0]} | {whens[-1]} |"


def _matrix(table: Table, stage: Stage, cell: Callable[[Key], str]) -> Iterator[str]:
    tokens = table.tokens[stage]
    yield f"| model | scheme | {' | '.join(f'M={each}' for each in tokens)} |"
    yield "|---" * (2 + len(tokens)) + "|"
    for model in table.names:
        for scheme in table.schemes:
            cells = [cell(Key(table.device, model, scheme, stage, each)) for each in tokens]
            yield f"| {model} | {scheme} | {' | '.join(cells)} |"


def _status_beside(table: Table, published: Status) -> Callable[[Key], str]:
    def cell(key: Key) -> str:
        own, theirs = table.status(key), published.get((key.model, comparison.published_as(key.scheme), key.point))
        return own if theirs is None or theirs == own or (own == ABSENT and theirs == "ok") else f"{own} / {theirs}"

    return cell


def _rate_shown(table: Table) -> Callable[[Key], str]:
    def cell(key: Key) -> str:
        record = table.stands.get(key)
        value = None if record is None else comparison.rate(record)
        return ABSENT if value is None else f"{value:,.0f}"

    return cell


def _speedup_shown(table: Table) -> Callable[[Key], str]:
    def cell(key: Key) -> str:
        factor = comparison.speedup(table.stands, key)
        if factor is None:
            return ABSENT
        return f"{factor:.2f}" + (" **implausible**" if comparison.implausible(key.scheme, factor) else "")

    return cell


def _beside_published(table: Table) -> Iterator[str]:
    point = comparison.PUBLISHED_POINT
    yield f"Prompt tokens/s of {comparison.PUBLISHED_MODEL}, {point}, and the speed-up over dense INT8."
    yield ""
    yield f"| scheme | A100 80 GB PCIe, published | speed-up | {table.device} | speed-up |"
    yield "|---|---|---|---|---|"
    dense = comparison.PUBLISHED_RATES["int8-dense"]
    for scheme, theirs in comparison.PUBLISHED_RATES.items():
        forms = [name for name in table.schemes if comparison.published_as(name) == scheme]
        for name in forms or [scheme]:
            key = Key(table.device, comparison.PUBLISHED_MODEL, name, *point)
            own = comparison.speedup(table.stands, key, "int8-dense")
            shown = ABSENT if own is None else f"{own:.2f}"
            yield f"| {name} | {theirs:,.0f} | {theirs / dense:.2f} | {_rate_shown(table)(key)} | {shown} |"


def _failures(table: Table, rerun: str) -> Iterator[str]:
    failed = [record for record in table.stands.values() if not record.ok]
    if not failed:
        yield "None."
        return
    for record in failed:
        key = record.key
        yield f"- {key.model} {key.scheme} {key.point}: {table.status(key)}: {record.cause}"
    yield ""
    yield f"Run them again: `{rerun}`"


def _found(table: Table, name: str) -> list[str]:
    return sorted({fact for record in table.stands.values() if (fact := record.fact(name))})


def _rate_name(stage: Stage) -> str:
    return "Prompt tokens/s" if stage == "prefill" else "Output tokens/s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
