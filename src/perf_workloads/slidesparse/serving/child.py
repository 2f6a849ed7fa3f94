"""What does the process of an engine do? Reads one request a line, answers each with one line, until there are no more.

``python -m perf_workloads.slidesparse.serving.child``. Requests: ``load`` an engine (instead of the one before),
``run`` a workload, ``score`` prompts, ``facts``. Answers are JSON on what was standard output; whatever else the
process prints goes to standard error. An answer with ``outcome`` says how a request failed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perf_workloads.slidesparse.serving import workloads
from perf_workloads.slidesparse.serving.workloads import Point

#: An engine in this process, so that its scheduler can be watched, and nothing that reaches for a network.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
#: Gigabytes that an engine on a CPU keeps for keys and values.
CPU_CACHE_GB = "1"


def main() -> None:
    """Serve requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GB)
    server = _Server()
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(server.calls, request)), file=answers, flush=True)


def answer(calls: Mapping[str, Callable[..., Any]], request: dict[str, Any]) -> dict[str, Any]:
    """Make the call that a request names, and give its result or how it failed."""
    from perfgate.outcomes import classify

    name = request.pop("call")
    try:
        return {"result": calls[name](**request)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        return {"outcome": classify(error).value, "cause": f"{type(error).__name__}: {error}"}


class _Server:
    """The engine, while there is one."""

    def __init__(self) -> None:
        self._engine: Any = None
        self.calls: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "run": self._run,
            "score": self._score,
            "facts": self._facts,
        }

    def _load(self, folder: str, points: list[list[Any]], drawn: bool, eager: bool, options: dict[str, Any]) -> None:
        from perf_workloads.slidesparse.serving import engine

        if self._engine is not None:
            self._engine.close()
            self._engine = None
        pinned = engine.start_options([Point(*each) for each in points], drawn=drawn, eager=eager)
        self._engine = engine.Engine(Path(folder), {**pinned, **options})

    def _run(self, stage: workloads.Stage, tokens: int, passes: int, new_tokens: int) -> dict[str, Any]:
        result: dict[str, Any] = self._engine.run(workloads.workload(Point(stage, tokens), passes, new_tokens))
        return result

    def _score(self, prompts: list[list[int]], new_tokens: int) -> Any:
        return self._engine.score(prompts, new_tokens)

    def _facts(self) -> Any:
        return self._engine.facts()


if __name__ == "__main__":
    main()
