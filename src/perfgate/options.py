"""Which settings does a run have? Flags, their ini twins, and what they mean together."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perfgate.errors import SettingError

#: Names a file with the task of this process when it is a fresh process started by another run.
REPLICA_VARIABLE = "PERFGATE_REPLICA"
#: Names a file to write the collected cases to (``perfgate prune``).
COLLECT_VARIABLE = "PERFGATE_COLLECT_FILE"

DEFAULT_PROCESSES = 12
#: Folder of the profiles, at the root.
DEFAULT_PROFILE = "perf-profile"
#: Fresh processes that a recording repeats the selection in, but for what settles sooner (:mod:`perfgate.recording`).
RECORDED_PROCESSES = 5


@dataclass(frozen=True)
class Settings:
    """What the user asked for, flags before ini values.

    Args:
        compare: judge against the stored baselines.
        update: "" (write nothing), "new" or "all".
        baselines: folder of the baselines.
        processes: the most fresh processes that confirm a suspicion, the first one included.
        strict: NEW, STALE, INCONCLUSIVE, THROTTLED and REMOVED fail too.
        json: file for the whole run, or None.
        html: file for the report as a page, or None.
        history: address of the history that the run is added to, or "".
        github: tell GitHub Actions: summary of the step, annotations.
        github_comment: file for a comment on a pull request, or None.
        ab: the ref of the commit to compare with instead of stored baselines, or "".
        replica: this process only measures for another run.
        profile: folder for profiles of each case, or None.
    """

    compare: bool
    update: str
    baselines: Path
    processes: int
    strict: bool
    json: Path | None
    replica: bool
    profile: Path | None = None
    html: Path | None = None
    history: str = ""
    github: bool = False
    github_comment: Path | None = None
    ab: str = ""

    @property
    def active(self) -> bool:
        """Whether cases are measured by the gate in this run."""
        return self.compare or bool(self.update) or self.replica


def add(parser: pytest.Parser) -> None:
    """Declare every flag and its ini twin."""
    group = parser.getgroup("perfgate", "performance regression gate")
    # Defaults are None so that an ini value is not hidden by the default of its flag.
    group.addoption(
        "--perf-update",
        choices=["new", "all"],
        default=None,
        help="Store the results of passing cases as baselines: only of those without one (new), or of all. "
        f"The selection is repeated in {RECORDED_PROCESSES} fresh processes, exact counts in fewer.",
    )
    group.addoption(
        "--perf-ab",
        metavar="REF",
        default=None,
        help="Compare the working tree with a commit instead of stored baselines: both are measured in turn, in fresh "
        "processes. REF... is the last commit that REF and the checked-out one share.",
    )
    group.addoption(
        "--perf-baselines",
        metavar="DIR",
        default=None,
        help="Folder of the baselines (default: 'baselines' at the repository root).",
    )
    group.addoption(
        "--perf-processes",
        metavar="N",
        default=None,
        help="Confirm a suspicion in at most N fresh processes, the first one included "
        f"(default: {DEFAULT_PROCESSES}, and twice as many pairs of --perf-ab for what looks slower; 1: screen only).",
    )
    group.addoption(
        "--perf-strict",
        action="store_true",
        default=None,
        help="NEW, STALE, INCONCLUSIVE, THROTTLED and REMOVED fail too.",
    )
    group.addoption("--perf-json", metavar="FILE", default=None, help="Write the whole run to FILE as JSON.")
    group.addoption(
        "--perf-html", metavar="FILE", default=None, help="Write the whole run to FILE as a page that opens offline."
    )
    group.addoption(
        "--perf-github",
        action="store_true",
        default=None,
        help="Write a summary of the step and annotate failing tests; on by itself under GitHub Actions.",
    )
    group.addoption(
        "--no-perf-github",
        action="store_false",
        dest="perf_github",
        default=None,
        help="Tell GitHub Actions nothing.",
    )
    group.addoption(
        "--perf-github-comment",
        metavar="FILE",
        default=None,
        help="Write the whole run to FILE as Markdown for a comment on a pull request.",
    )
    group.addoption(
        "--perf-history",
        nargs="?",
        const="",
        metavar="URL",
        default=None,
        help="Add the run to a history: a path (SQLite), sqlite:///PATH or postgresql+psycopg://USER@HOST/DATABASE "
        "(default: $PERFGATE_HISTORY, else perf-history.sqlite at the root).",
    )
    group.addoption(
        "--perf-profile",
        nargs="?",
        const="",
        metavar="DIR",
        default=None,
        help="Profile each case in a process that times nothing: trace, operators, kernels and a summary in DIR "
        f"(default: '{DEFAULT_PROFILE}' at the root).",
    )
    parser.addini("perf_compare", "Compare with the stored baselines (--benchmark-compare).", "bool", default=False)
    parser.addini("perf_update", "Store results as baselines: new or all (--perf-update).", default="")
    parser.addini(
        "perf_ab_measuring",
        "Files and folders that measure, besides the tests: with --perf-ab the base gets those of the working tree.",
        "paths",
        default=[],
    )
    parser.addini("perf_baselines", "Folder of the baselines, from the root (--perf-baselines).", default="baselines")
    parser.addini(
        "perf_processes",
        "The most fresh processes that confirm a suspicion (--perf-processes).",
        default=str(DEFAULT_PROCESSES),
    )
    parser.addini("perf_strict", "Fail on anything but a clean comparison (--perf-strict).", "bool", default=False)
    parser.addini("perf_json", "Write each compared or recorded run to this file (--perf-json).", default="")
    parser.addini("perf_html", "Write each compared or recorded run to this page (--perf-html).", default="")
    parser.addini(
        "perf_github",
        "Write a summary of the step and annotate failing tests: auto (under GitHub Actions), on or off.",
        default="auto",
    )
    parser.addini(
        "perf_github_comment", "Write each run to this file for a comment (--perf-github-comment).", default=""
    )
    parser.addini("perf_history", "Add each compared or recorded run to this history (--perf-history).", default="")
    parser.addini("perf_profile", "Write profiles of each case to this folder (--perf-profile).", default="")


def _profile_folder(config: pytest.Config, value: str, source: str) -> Path | None:
    if not value and not source.startswith("--"):
        return None
    root = config.rootpath if not value or not source.startswith("--") else config.invocation_params.dir
    folder = root / (value or DEFAULT_PROFILE)
    if folder.exists() and not folder.is_dir():
        raise SettingError(
            f"{source}: {str(folder)!r} is not a folder",
            "Each case writes its profile to files of its own.",
            f"--perf-profile={DEFAULT_PROFILE}",
        )
    if importlib.util.find_spec("torch") is None:
        raise SettingError(f"{source}: torch is not installed, and it is torch that profiles", hint="pip install torch")
    return folder


def _history(config: pytest.Config, value: str, source: str) -> str:
    """Give the address of the history that the run is added to; only a run that names one pays for its modules."""
    if not value and not source.startswith("--"):
        return ""
    from perfgate.history.place import locate

    # The default, and what an ini file names, is at the root.
    folder = config.invocation_params.dir if value and source.startswith("--") else config.rootpath
    return locate(value, folder, source)


def _github(value: bool | str, source: str) -> bool:
    """Tell whether GitHub Actions is to be told; unless said otherwise where it runs us."""
    if isinstance(value, bool):
        return value
    if value not in ("auto", "on", "off"):
        raise SettingError(f"{source}: {value!r} is not one of auto, on, off", hint="perf_github = auto")
    return value == "on" or (value == "auto" and os.environ.get("GITHUB_ACTIONS") == "true")


def _ref(config: pytest.Config) -> str:
    """Give the ref that the run compares with, or ""; only a run with one pays for its modules."""
    if config.getoption("perf_ab") is None:
        return ""
    from perfgate.ab import setting

    return setting.read(config)


def read(config: pytest.Config) -> Settings:
    """Read the settings of a run.

    Raises:
        SettingError: a value cannot be used; says which flag or ini line it came from.
    """

    def pick(flag: str) -> tuple[Any, str]:
        value = config.getoption(f"perf_{flag}")
        if value is not None:
            return value, f"--perf-{flag.replace('_', '-')}"
        return config.getini(f"perf_{flag}"), f"ini option perf_{flag}"

    update, source = pick("update")
    if update not in ("", "new", "all"):
        raise SettingError(f"{source}: {update!r} is not one of new, all", hint="perf_update = new")
    number, source = pick("processes")
    try:
        processes = int(number)
    except ValueError:
        processes = 0
    if processes < 1:
        raise SettingError(
            f"{source}: {number!r} is not a number of processes",
            "A suspicion is confirmed in fresh processes; at least the first one must run.",
            "--perf-processes=12, or --perf-processes=1 to screen only",
        )
    baselines, source = pick("baselines")
    folder = (config.invocation_params.dir if source.startswith("--") else config.rootpath) / baselines
    strict, _ = pick("strict")
    json, json_source = pick("json")
    html, html_source = pick("html")
    comment, comment_source = pick("github_comment")
    compare = config.getoption("benchmark_compare") not in ([], None, False) or config.getini("perf_compare")
    ref = _ref(config)
    if ref:
        compare, update = True, ""
    for file, source in ((json, json_source), (html, html_source), (comment, comment_source)):
        if file and not compare and not update and source.startswith("--"):
            raise SettingError(
                f"{source} has nothing to write: no case is judged or recorded in this run",
                hint="add --benchmark-compare or --perf-update=new",
            )
    replica = REPLICA_VARIABLE in os.environ
    history = "" if replica else _history(config, *pick("history"))
    if history and not compare and not update and config.getoption("perf_history") is not None:
        raise SettingError(
            "--perf-history has nothing to add: no case is judged or recorded in this run",
            hint="add --benchmark-compare or --perf-update=new",
        )
    return Settings(
        compare=bool(compare),
        update=update,
        baselines=folder,
        processes=processes,
        strict=bool(strict),
        json=config.invocation_params.dir / json if json else None,
        html=config.invocation_params.dir / html if html else None,
        history=history,
        github=not replica and _github(*pick("github")),
        github_comment=config.invocation_params.dir / comment if comment else None,
        replica=replica,
        # The task of a fresh process says whether it profiles.
        profile=None if replica or ref else _profile_folder(config, *pick("profile")),
        ab=ref,
    )
