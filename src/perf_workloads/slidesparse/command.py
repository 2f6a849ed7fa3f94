"""What does ``perfgate-slidesparse`` do? ``convert`` a checkpoint, ``serve`` what is not measured yet, ``report`` it,
make it the ``baseline`` of cases. And of the ``grid`` of products and layers, which ones have a baseline?

Exit codes: 0 done, 1 it could not be done or a point failed, 4 a usage error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from perf_workloads.slidesparse import grid, schemes
from perf_workloads.slidesparse.serving import (
    baselines,
    campaign,
    comparison,
    models,
    origin,
    report,
    results,
    workloads,
)
from perfgate.baseline import BaselineStore
from perfgate.errors import PerfgateError, SettingError
from perfgate.units import count

DONE, FAILED, USAGE = 0, 1, 4


class _Parser(argparse.ArgumentParser):
    """An argument parser that ends usage errors as pytest does."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line and how to get help."""
        self.exit(USAGE, f"{self.prog}: {message}\nhint: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except PerfgateError as error:
        print(f"perfgate-slidesparse: {error}", file=sys.stderr)
        return USAGE if isinstance(error, SettingError) else FAILED
    except KeyboardInterrupt:
        print("perfgate-slidesparse: interrupted; the same command goes on from here", file=sys.stderr)
    return FAILED


def _parser() -> _Parser:
    parser = _Parser(prog="perfgate-slidesparse", description=__doc__)
    commands = parser.add_subparsers(required=True)

    convert = commands.add_parser(
        "convert",
        help="turn a checkpoint's linear weights into codes of a scheme",
        description="Turn a checkpoint's linear weights into codes of a scheme. After an interruption the same command "
        "goes on with what lies in DST.partial, file by file: finished *.safetensors files are kept, and the one that "
        "was being converted is converted anew. A checkpoint of one file therefore begins anew.",
    )
    convert.add_argument("source", type=Path, metavar="SRC", help="folder with config.json and *.safetensors")
    convert.add_argument("target", type=Path, metavar="DST", help="folder to write; must not exist")
    convert.add_argument(
        "--scheme",
        required=True,
        type=_scheme,
        help=f"dense, 2:4, 2:6, 2:8, 2:10, or one of {', '.join(schemes.SCHEMES)}",
    )
    convert.add_argument("--codes", choices=("int8", "fp8"), default="int8", help="for 2:L and dense (default int8)")
    convert.add_argument("--prune", action="store_true", help="zero the 2 smallest weights in each L first")
    convert.add_argument(
        "--layers-differ",
        action="store_true",
        help="layers are meant to have other tensors than their neighbours: do not compare them with each other",
    )
    convert.add_argument("--device", default="cpu", help="where weights are converted (default cpu)")
    convert.set_defaults(run=_convert)

    serve = commands.add_parser("serve", help="run the points that did not succeed yet, each model in its own engine")
    _add_grid(serve)
    which = serve.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="run what succeeded as well")
    which.add_argument(
        "--failed",
        action="store_true",
        help="run only what failed, of all stored models, schemes and M that are not left out by naming others; each "
        "with the passes and options that are stored with it, unless others are given",
    )
    # None tells what is not given from a default that is.
    serve.add_argument("--passes", type=int, help=f"of a prefill (default, as published: {workloads.PASSES})")
    serve.add_argument(
        "--new-tokens", type=int, help=f"of a decoded sequence (default, as published: {workloads.NEW_TOKENS})"
    )
    serve.add_argument(
        "--most-tokens", type=int, metavar="N", help="fewer passes where a prefill has more prompt tokens than N"
    )
    serve.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for a start, and for a point")
    serve.add_argument(
        "--eager", action=argparse.BooleanOptionalAction, help="neither compile nor capture graphs (default: do)"
    )
    serve.add_argument(
        "--option",
        action="append",
        dest="options",
        type=_option,
        metavar="NAME=JSON",
        help="a further option of vllm.LLM, e.g. gpu_memory_utilization=0.8; stored with the results. With --failed, "
        "one takes the place of all that are stored",
    )
    serve.add_argument("--logs", type=Path, metavar="DIR", help="keep what engines print")
    serve.set_defaults(run=_serve, models=None, schemes=None, **dict.fromkeys(workloads.STAGES))

    shown = commands.add_parser("report", help="write the report of stored results as Markdown and CSV")
    _add_grid(shown)
    shown.add_argument("--out", type=Path, metavar="DIR", help="folder for serving.md and serving.csv; else print")
    shown.add_argument("--device", help="whose results (default: this machine's)")
    shown.add_argument(
        "--published", type=Path, metavar="FILE", help="slidesparse_a100_status.csv, to show beside ours"
    )
    shown.set_defaults(run=_report, schemes=None)

    baseline = commands.add_parser(
        "baseline",
        help="make stored results the baselines of the cases that run the same points",
        description="Make stored results the baselines of the cases that run the same points, so that pytest "
        "--benchmark-compare tells when one became slower. Points that failed or were not run get none, nor do those "
        "that were not run as their case does; newer baselines stay.",
    )
    baseline.add_argument("--results", type=Path, required=True, metavar="FILE", help="stored results (JSON Lines)")
    baseline.add_argument("--device", help="whose results (default: this machine's)")
    baseline.add_argument(
        "--baselines", type=Path, default=Path("baselines"), metavar="DIR", help="where they go (default: %(default)s)"
    )
    baseline.set_defaults(run=_baseline)

    counted = commands.add_parser("grid", help="write which cases of products and layers have a baseline, as Markdown")
    counted.add_argument("--device", help="whose baselines (default: this machine's)")
    counted.add_argument(
        "--baselines", type=Path, default=Path("baselines"), metavar="DIR", help="where they are (default: %(default)s)"
    )
    counted.add_argument("--out", type=Path, metavar="FILE", help="the file to write; else print")
    counted.set_defaults(run=_grid)

    merge = commands.add_parser("merge", help="put results of several runs together; none is lost")
    merge.add_argument("sources", type=Path, nargs="+", metavar="FILE")
    merge.add_argument("--results", type=Path, required=True, metavar="FILE", help="the file that takes them all")
    merge.set_defaults(run=_merge)
    return parser


def _add_grid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, required=True, metavar="FILE", help="stored results (JSON Lines)")
    parser.add_argument("--models", nargs="+", choices=tuple(models.CONFIGS), default=models.PUBLISHED, metavar="NAME")
    parser.add_argument("--schemes", nargs="+", choices=models.SERVED, default=models.COMPARED, metavar="NAME")
    for stage in workloads.STAGES:
        published = workloads.TOKENS[stage]
        parser.add_argument(f"--{stage}", nargs="*", type=int, default=published, metavar="M", help="M of this stage")


def _convert(options: argparse.Namespace) -> int:
    from perf_workloads.slidesparse.conversion import convert

    name = options.scheme if options.scheme in schemes.SCHEMES else f"{options.codes}-{options.scheme}"
    done = convert(
        options.source,
        options.target,
        schemes.find(name),
        prune=options.prune,
        layers_differ=options.layers_differ,
        device=options.device,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(done)
    return DONE


def _serve(options: argparse.Namespace) -> int:
    given = _given(options)
    settings = campaign.Settings(load_timeout_s=options.timeout, run_timeout_s=options.timeout, **given)
    _check(options, settings)
    device = campaign.this_device()
    records = results.read(options.results)
    if options.failed:
        todo = campaign.failed_jobs(device, records, settings, lambda key: _wanted(options, key), given)
    else:
        names, ways = options.models or models.PUBLISHED, options.schemes or models.COMPARED
        todo = campaign.jobs(device, names, ways, _points(options), records, again=options.again)
    if not todo:
        print("nothing to run: these points succeeded, or did not fail; --again runs them once more")
    if options.logs is not None:
        options.logs.mkdir(parents=True, exist_ok=True)
    say = lambda line: print(line, flush=True)  # noqa: E731
    measured = origin.here(options.results)
    done = campaign.run(todo, device, options.results, settings, say, logs=options.logs, origin=measured)
    return DONE if done else FAILED


def _report(options: argparse.Namespace) -> int:
    device = options.device or campaign.this_device()
    tokens = {stage: getattr(options, stage) for stage in workloads.STAGES}
    records = results.read(options.results)
    names = options.schemes or report.in_every_form(models.COMPARED, device, records)
    table = report.Table(device, options.models, names, records, tokens)
    published = {} if options.published is None else comparison.published_status(options.published)
    text = report.markdown(table, published, f"perfgate-slidesparse serve --results {options.results} --failed")
    if options.out is None:
        print(text)
        return DONE
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in (("serving.md", text), ("serving.csv", report.to_csv(table, published))):
        (options.out / name).write_text(content, encoding="utf-8")
        print(options.out / name)
    return DONE


def _baseline(options: argparse.Namespace) -> int:
    device = options.device or campaign.this_device()
    records = baselines.of_device(options.results, device)
    store = BaselineStore(options.baselines)
    stored = store.load(device, baselines.MODULE).cases
    found = baselines.make(records, stored)
    for reason, cases in found.left.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        print(f"left out: {cases[0]}{more}: {reason}", file=sys.stderr)
    if not found.baselines:
        print(f"{options.results}: no result of {device} can be a baseline", file=sys.stderr)
        return FAILED
    path = store.merge(device, baselines.MODULE, found.baselines)
    print(f"{path}: {count(len(found.baselines), 'baseline')}")
    return DONE


def _grid(options: argparse.Namespace) -> int:
    device = options.device or campaign.this_device()
    store = BaselineStore(options.baselines)
    files = {cases.module: store.load(device, cases.module) for cases in grid.GRID}
    damages = [str(damage) for file in files.values() for damage in file.damages]
    if damages:
        # What cannot be read would be counted as absent.
        print("\n".join(damages), file=sys.stderr)
        return FAILED
    text = grid.markdown(device, {module: file.cases for module, file in files.items()})
    if options.out is None:
        print(text)
        return DONE
    options.out.write_text(text, encoding="utf-8")
    print(options.out)
    return DONE


def _merge(options: argparse.Namespace) -> int:
    print(f"{options.results}: {results.merge(options.sources, options.results)} runs")
    return DONE


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Give the settings that the command names."""
    named = {name: getattr(options, name) for name in ("passes", "new_tokens", "most_tokens", "eager")}
    if options.options is not None:
        named["options"] = tuple(options.options)
    return {name: value for name, value in named.items() if value is not None}


def _check(options: argparse.Namespace, settings: campaign.Settings) -> None:
    """Refuse what no engine could run, before one is started."""
    hint = "perfgate-slidesparse serve --help"
    if settings.passes < 1:
        raise SettingError(f"--passes={settings.passes}: must be at least 1", hint=hint)
    if not options.timeout > 0:
        raise SettingError(f"--timeout={options.timeout:g}: must be more than 0", hint=hint)
    try:
        for point in _points(options):
            workloads.workload(point, settings.passes, settings.new_tokens)
    except ValueError as error:
        raise SettingError(str(error), hint=hint) from None


def _points(options: argparse.Namespace) -> list[workloads.Point]:
    """List the points that ``serve`` names, by default the published ones."""
    named = {stage: getattr(options, stage) for stage in workloads.STAGES}
    return [
        workloads.Point(stage, tokens)
        for stage in workloads.STAGES
        for tokens in (workloads.TOKENS[stage] if named[stage] is None else named[stage])
    ]


def _wanted(options: argparse.Namespace, key: results.Key) -> bool:
    """Whether a stored failure is to be run again: nothing else was named, and its model and scheme are known."""
    named = ((options.models, key.model), (options.schemes, key.scheme), (getattr(options, key.stage), key.tokens))
    known = key.model in models.CONFIGS and key.scheme in models.SERVED
    return known and all(names is None or own in names for names, own in named)


def _option(text: str) -> tuple[str, Any]:
    """Take ``NAME=JSON``."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON, e.g. gpu_memory_utilization=0.8") from None


def _scheme(text: str) -> str:
    """Take ``2:8`` for ``2_8``, and the full name of a scheme as it is."""
    name = text.replace(":", "_")
    if name in schemes.TO_BF16:
        # Both forms have the same codes; which one multiplies is said when they are loaded.
        raise argparse.ArgumentTypeError(f"convert weights of {text} as {schemes.find(name).exact.name}")
    if name not in schemes.SCHEMES and f"int8-{name}" not in schemes.SCHEMES:
        raise argparse.ArgumentTypeError(f"unknown scheme {text!r}")
    return name


if __name__ == "__main__":
    sys.exit(main())
