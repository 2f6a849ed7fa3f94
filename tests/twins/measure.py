"""Measure the gate itself: false alarms on unchanged code, and how often a twin is caught.

    python tests/twins/measure.py cpu --runs 20 --trials 10 --busy
    python tests/twins/measure.py rows --runs 20 --trials 5

``cpu`` records baselines of its own in a temporary folder; ``rows`` (row quantisation on a GPU) uses those in
``baselines``. Everything goes through pytest's command line, as a user would call it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
TWINS = Path(__file__).parent
SELECTION = {
    "cpu": [str(TWINS / "cpu_cases.py")],
    "rows": [str(ROOT / "perf_tests" / "slidesparse"), "-k", "test_row_quantization and not vllm and not reference"],
}
#: Device time of rows below which a slow-down of 3 % is inside the limit of 0.25 us.
LEAST_S = 20e-6


def pytest_run(folder: Path, *args: str, **environment: str) -> dict:
    """Run pytest once; give the run as it was written."""
    run = folder / "run.json"
    run.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *args, f"--perf-json={run}"]
    if "PERFGATE_PLUGIN" in os.environ:
        command += ["-p", os.environ["PERFGATE_PLUGIN"]]
    paths = os.pathsep.join([str(TWINS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths, **environment}, cwd=ROOT, capture_output=True, text=True
    )
    if not run.exists():
        sys.exit(f"pytest wrote no run:\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    return json.loads(run.read_text())


@contextlib.contextmanager
def busy_core(busy: bool):
    """Keep another core busy meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def told(case: dict) -> str:
    """Give the figures of a case that did not do what it should."""
    parts = [
        f"{m['name']} {m['value']:.4g} ({m['change'] or 0:+.1%}, {m['verdict']})"
        for m in case["metrics"]
        if m["baseline"]
    ]
    return f"      {case['id'].split('::')[-1]}: {case['verdict']}, {', '.join(parts)}; {case['reason']}"


def unchanged(folder: Path, what: str, runs: int, options: list[str]) -> None:
    """Compare unchanged code again and again."""
    verdicts: Counter[str] = Counter()
    alarms = 0
    for number in range(runs):
        begin = time.time()
        run = pytest_run(folder, *SELECTION[what], "--benchmark-compare", *options)
        now = Counter(case["verdict"] for case in run["cases"])
        verdicts += now
        alarms += now["regressed"] > 0
        repeated = sum(case["processes"] > 1 for case in run["cases"])
        print(f"  run {number + 1}: {dict(now)}, {repeated} repeated, {time.time() - begin:.0f} s", flush=True)
        for case in run["cases"]:
            if case["verdict"] != "unchanged":
                print(told(case), flush=True)
    total = sum(verdicts.values())
    print(
        f"unchanged code: {runs} runs, {total} verdicts: {dict(verdicts)}; runs with a false alarm: {alarms}",
        flush=True,
    )


def twin(folder: Path, what: str, name: str, metric: str, trials: int, options: list[str], **environment: str) -> None:
    """Count how often a twin is caught."""
    caught = total = 0
    for number in range(trials):
        begin = time.time()
        run = pytest_run(folder, *SELECTION[what], "--benchmark-compare", *options, **environment)
        for case in run["cases"]:
            figure = next((m for m in case["metrics"] if m["name"] == metric), None)
            if figure and figure["baseline"] and (what != "rows" or figure["baseline"] >= LEAST_S):
                total += 1
                caught += figure["verdict"] == "regressed"
                if figure["verdict"] != "regressed":
                    print(told(case), flush=True)
        print(f"  {name} {number + 1}: {caught} of {total} caught so far, {time.time() - begin:.0f} s", flush=True)
    print(f"twin {name}: {caught} of {total} REGRESSED on {metric}", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(SELECTION))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="keep another core busy while comparing")
    parser.add_argument("--only", default="", help="-k expression that narrows the rows' cases further")
    parser.add_argument("--share", default="0.03", help="slow-down of the rows' twin")
    arguments = parser.parse_args()
    if arguments.only:
        SELECTION["rows"][-1] += f" and ({arguments.only})"
    with tempfile.TemporaryDirectory(prefix="perfgate-twins-") as name:
        folder = Path(name)
        options: list[str] = []
        if arguments.what == "cpu":
            options = [f"--perf-baselines={folder / 'baselines'}"]
            run = pytest_run(folder, *SELECTION["cpu"], "--perf-update=all", *options)
            print(f"recorded {len(run['recorded'])} cases", flush=True)
        with busy_core(arguments.busy):
            unchanged(folder, arguments.what, arguments.runs, options)
            if arguments.what == "cpu":
                twin(folder, "cpu", "slow", "wall_time", arguments.trials, options, TWIN="slow")
                twin(folder, "cpu", "big", "memory", arguments.trials, options, TWIN="big")
            else:
                slow = ["-p", "slow_rows", *options]
                twin(folder, "rows", "slow", "device_time", arguments.trials, slow, TWIN_SHARE=arguments.share)


if __name__ == "__main__":
    main()
