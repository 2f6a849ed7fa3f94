"""What does a model of ternary weights do on this machine? Runs it, and writes the complete report.

    PYTHONPATH=src:kernels python -m perf_workloads.bitnet.report --layers 30 --new-tokens 50 --out DIR

writes ``bitnet.json``, ``bitnet.md`` and ``bitnet.html`` into DIR.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perf_workloads.bitnet.document import document
from perf_workloads.bitnet.experiment import PROMPT, run
from perf_workloads.bitnet.html import to_html
from perf_workloads.bitnet.markdown import to_markdown
from perf_workloads.bitnet.models import BitnetSetup
from perf_workloads.bitnet.sampling import Sampling
from perf_workloads.bitnet.shapes import METHODS, MODELS

#: No two lines of progress come closer together, in seconds.
INTERVAL_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.threads is not None:
        import torch

        torch.set_num_threads(given.threads)
    progress = _progress()
    try:
        setup = BitnetSetup(
            model=given.model,
            method=given.method,
            layers=given.layers,
            vocabulary=given.vocabulary,
            device=given.device,
            seed=given.seed,
            weights=None if given.model_path is None else str(given.model_path),
        )
        sampling = Sampling(given.temperature, given.seed)
        seen = run(setup, new_tokens=given.new_tokens, prompt=given.prompt, sampling=sampling, progress=progress)
    except ValueError as error:
        parser.error(str(error))
    report = document(seen)
    for path in write(report, given.out):
        print(path)
    totals = report["totals"]
    print(f"{totals['time_per_token_s'] * 1e3:.1f} ms a token, {totals['tokens_per_s']:.2f} tokens/s")
    return 0


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write a report into a folder as JSON, Markdown and HTML; give the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "bitnet.json": json.dumps(report, indent=1) + "\n",
        "bitnet.md": to_markdown(report),
        "bitnet.html": to_html(report),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perf_workloads.bitnet.report", description="Report of one generation by a ternary model."
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for bitnet.json, bitnet.md and bitnet.html")
    add("--model", choices=[*MODELS], default="2b4t", help="shape of the model (default: 2b4t)")
    add("--method", choices=[*METHODS], default="int8", help="form of the ternary weights (default: int8)")
    add("--layers", type=int, metavar="N", help="decoder layers (default: the model's, 30)")
    add("--vocabulary", type=int, metavar="N", help="size of the vocabulary (default: the model's, 128256)")
    add("--new-tokens", type=int, default=50, metavar="N", help="tokens to generate (default: 50)")
    add("--prompt", default=PROMPT, metavar="TEXT", help="text to begin with")
    add("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)")
    add("--seed", type=int, default=0, help="of random weights and of drawing tokens (default: 0)")
    add("--threads", type=int, metavar="N", help="of torch (default: torch's own)")
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--model-path", type=Path, metavar="DIR", help="master weights, config.json and tokenizer; else random weights")
    return parser


def _progress(clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """Give a function that shows what is going on, at most once every ``INTERVAL_S``."""
    start_s = clock()
    last_s = start_s - INTERVAL_S

    def show(text: str) -> None:
        nonlocal last_s
        now_s = clock()
        if now_s - last_s >= INTERVAL_S:
            last_s = now_s
            print(f"{now_s - start_s:6.1f} s  {text}", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
