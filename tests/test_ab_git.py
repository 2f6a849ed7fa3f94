"""Has each way in which a commit cannot be compared with its own answer?"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from perfgate import interrupts
from perfgate.ab import git, worktree
from perfgate.errors import ReplicaError, SettingError

FLAG = "--perf-ab=main"


def run(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / name).write_text(text)
    run(folder, "add", "--all")
    run(folder, "commit", "--quiet", "--allow-empty", "--message", "next")
    return run(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with two commits on main."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    folder = tmp_path / "repository"
    folder.mkdir()
    run(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, a="1", b="1")
    commit(folder, a="2")
    return folder


@pytest.fixture(autouse=True)
def _temporary_files_follow_the_environment(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)


def error_of(ref: str, folder: Path) -> str:
    with pytest.raises(SettingError) as caught:
        git.resolve(ref, folder, f"--perf-ab={ref}")
    return str(caught.value)


def test_a_commit_is_found_by_any_name_from_any_folder(repository):
    (repository / "inner").mkdir()
    head = run(repository, "rev-parse", "HEAD")
    found = git.resolve("main", repository / "inner", FLAG)
    assert (found.commit, found.root, found.same, found.uncommitted) == (head, repository.resolve(), True, 0)
    assert found.name == f"main ({head[:7]})"
    assert found.told() == f"base: main ({head[:7]}); head: working tree"
    assert git.resolve("HEAD~1", repository, FLAG).same is False
    assert git.resolve(head, repository, FLAG).name == head[:7]


def test_files_that_are_not_committed_are_counted_new_and_deleted_ones_too(repository):
    (repository / "a").write_text("3")
    (repository / "b").unlink()
    (repository / "new name").write_text("")
    found = git.resolve("main", repository, FLAG)
    assert found.uncommitted == 3
    assert found.told().endswith("; head: working tree, 3 files not committed")


def test_what_python_writes_beside_its_sources_is_no_change(repository):
    (repository / "__pycache__").mkdir()
    (repository / "__pycache__" / "a.cpython-311.pyc").write_text("")
    (repository / "b.pyc").write_text("")
    assert git.changed("HEAD", repository) == []


def test_three_dots_name_the_commit_where_two_parted(repository):
    parted = run(repository, "rev-parse", "HEAD")
    run(repository, "checkout", "--quiet", "-b", "change")
    commit(repository, a="3")
    run(repository, "checkout", "--quiet", "main")
    commit(repository, b="3")
    run(repository, "checkout", "--quiet", "change")
    assert git.resolve("main...", repository, FLAG).commit == parted
    assert git.resolve("main", repository, FLAG).commit != parted


def test_a_ref_that_does_not_exist(repository):
    assert error_of("origin/main", repository) == (
        f"--perf-ab=origin/main: there is no commit origin/main in {repository.resolve()}\n"
        "A branch of the remote is known here once it was fetched.\n"
        "hint: git fetch origin main"
    )


def test_a_folder_of_a_commit_is_no_commit(repository):
    run(repository, "update-ref", "refs/remotes/origin/HEAD", "HEAD")
    assert error_of("HEAD:a", repository) == (
        "--perf-ab=HEAD:a: HEAD:a is no commit\nhint: name a branch, a tag or a commit, e.g. origin/main"
    )


@pytest.mark.parametrize("ref", ["", "--all"])
def test_what_is_no_name_at_all(repository, ref):
    assert error_of(ref, repository) == (
        f"--perf-ab={ref}: {ref!r} is not the name of a commit\nhint: name one, e.g. origin/main"
    )


def test_a_branch_that_only_the_remote_has(repository, tmp_path):
    run(repository, "branch", "other")
    run(tmp_path, "clone", "--quiet", str(repository), "clone")
    assert error_of("other", tmp_path / "clone") == (
        "--perf-ab=other: there is no branch other here, only that of the remote\nhint: --perf-ab=origin/other"
    )
    with pytest.raises(SettingError) as caught:
        git.resolve("other", tmp_path / "clone", "affected other")
    assert caught.value.hint == "perfgate affected origin/other"


def test_a_shallow_clone(repository, tmp_path):
    run(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "clone")
    assert error_of("HEAD~1", tmp_path / "clone") == (
        "--perf-ab=HEAD~1: there is no commit HEAD~1 in this shallow clone\n"
        "It was cloned without its older commits, as CI does to save time.\n"
        "hint: git fetch --unshallow origin, or fetch-depth: 0 for actions/checkout"
    )
    run(repository, "checkout", "--quiet", "--orphan", "other")
    commit(repository)
    run(tmp_path / "clone", "fetch", "--quiet", "--depth=1", "origin", "other:other")
    assert error_of("other...", tmp_path / "clone") == (
        "--perf-ab=other...: the commit where the two parted is not in this shallow clone\n"
        "It was cloned without its older commits, as CI does to save time.\n"
        "hint: git fetch --unshallow origin, or fetch-depth: 0 for actions/checkout"
    )


def test_a_history_without_a_common_commit(repository):
    run(repository, "checkout", "--quiet", "--orphan", "other")
    commit(repository)
    assert error_of("main...", repository) == (
        "--perf-ab=main...: it shares no commit with the one that is checked out\n"
        "What changed since is unknown.\n"
        "hint: name a branch of the same history"
    )


def test_no_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert error_of("main", tmp_path) == (
        f"--perf-ab=main: {tmp_path} is not in a git repository\n"
        "The commit to compare with is checked out from there.\n"
        "hint: call it inside a clone of the repository"
    )


def test_a_repository_that_git_refuses_to_read(tmp_path, monkeypatch):
    program = tmp_path / "git"
    said = "fatal: detected dubious ownership in repository at '/the top'"
    program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 128\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error_of("main", tmp_path) == (
        "--perf-ab=main: git refuses to read /the top: another user owns it\n"
        "Containers in CI often check out as one user and test as another.\n"
        "hint: git config --global --add safe.directory '/the top'"
    )


def test_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error_of("main", tmp_path) == (
        "git is not installed\nThe commit to compare with is checked out by it.\nhint: install git"
    )


def test_git_is_asked_about_this_repository_in_a_hook_of_another_too(repository, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert git.resolve("main", repository, FLAG).root == repository.resolve()


def folders(repository: Path) -> int:
    return len(run(repository, "worktree", "list").splitlines())


def test_a_checkout_is_there_and_gone_whatever_happens(repository, tmp_path):
    base = git.resolve("HEAD~1", repository, FLAG)
    with worktree.checkout(base) as tree:
        assert (tree / "a").read_text() == "1"
        assert folders(repository) == 2
    with pytest.raises(interrupts.Terminated), worktree.checkout(base):
        os.kill(os.getpid(), signal.SIGTERM)
    assert folders(repository) == 1
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_checkout_that_somebody_removed_meanwhile_leaves_no_note(repository, tmp_path):
    with worktree.checkout(git.resolve("HEAD~1", repository, FLAG)) as tree:
        for path in sorted(tree.parent.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    assert folders(repository) == 1


@pytest.fixture
def with_submodule(repository, tmp_path):
    """A repository whose last commit moved a submodule from text "1" to "2"; the one before that had none."""
    other = tmp_path / "other"
    other.mkdir()
    run(other, "init", "--quiet", "--initial-branch=main")
    commit(other, text="1")
    run(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "with space")
    commit(repository)
    commit(repository / "with space", text="2")
    commit(repository)
    return repository


def test_submodules_are_those_of_the_base_and_their_folders_do_not_stay_empty(with_submodule, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    (tmp_path / "settings").write_text("[submodule]\n\trecurse = true\n")
    found = []
    for ref in ("HEAD", "HEAD~1", "HEAD~2"):
        with worktree.checkout(git.resolve(ref, with_submodule, FLAG)) as tree:
            place = tree / "with space/text"
            found.append(place.read_text() if place.exists() else None)
    assert found == ["2", "1", None]
    assert folders(with_submodule) == 1
    assert list((tmp_path / "temporary").iterdir()) == []
    assert run(with_submodule, "status", "--porcelain") == ""


def test_a_submodule_that_lacks_the_commit_of_the_base(with_submodule, tmp_path):
    inner = with_submodule / "with space"
    lost = run(inner, "rev-parse", "HEAD")
    run(inner, "reset", "--quiet", "--hard", "HEAD~1")
    run(inner, "reflog", "expire", "--expire=now", "--all")
    run(inner, "gc", "--quiet", "--prune=now")
    with pytest.raises(ReplicaError) as caught, worktree.checkout(git.resolve("HEAD", with_submodule, FLAG)):
        pass
    what, why, hint = caught.value.args
    assert what == f"the submodule with space cannot be checked out at {lost[:12]}"
    assert lost in why
    assert hint == f"git -C 'with space' fetch origin {lost}"
    assert folders(with_submodule) == 1


def test_a_commit_that_cannot_be_checked_out(repository, tmp_path):
    base = git.resolve("HEAD~1", repository, FLAG)
    missing = type(base)(base.ref, "0" * 40, base.short, base.root)
    with pytest.raises(ReplicaError) as caught, worktree.checkout(missing):
        pass
    what, why, hint = caught.value.args
    assert what.startswith(f"{missing.name} cannot be checked out into {tmp_path / 'temporary'}")
    assert "0000000" in why
    assert hint == "there must be room for a second copy of the repository's files; TMPDIR names another place"
    assert folders(repository) == 1


def test_what_killed_runs_left_is_removed_and_nothing_else(repository, tmp_path):
    places = {
        "dead": tmp_path / f"{worktree.PREFIX}4194304-77-abc" / "base",
        "mine": tmp_path / f"{worktree.PREFIX}{worktree._owner(os.getpid())}-abc" / "base",
        "other": tmp_path / "perfgate-ab-notes" / "base",
    }
    for place in places.values():
        run(repository, "worktree", "add", "--detach", "--quiet", str(place))
    assert worktree.remove_stale(repository) == [places["dead"].parent]
    assert [name for name, place in places.items() if place.exists()] == ["mine", "other"]
    assert folders(repository) == 3
