"""Does ``perfgate-slidesparse convert`` keep what matters, refuse what cannot be converted, and leave nothing half?"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
safetensors = pytest.importorskip("safetensors", reason="pip install -e '.[suite]'")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="pip install -e '.[suite]'")

from perf_workloads.slidesparse import command, conversion, schemes  # noqa: E402
from perf_workloads.slidesparse.conversion import convert  # noqa: E402
from perf_workloads.slidesparse.headers import CheckpointError  # noqa: E402
from perf_workloads.slidesparse.tiny_checkpoint import CONFIG, DOWN, layer, refused, rewrite, write  # noqa: E402


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a checkpoint of two files, one layer in each."""
    return write(tmp_path / "source")


@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_codes_are_those_of_the_layer(source: Path, tmp_path: Path, name: str) -> None:
    from perf_kernels.sparse_weights import check_two_in_four
    from perf_workloads.slidesparse.linear import quantize_weight

    scheme = schemes.find(name)
    target = convert(source, tmp_path / "target", scheme, prune=True)

    converted = safetensors_torch.load_file(target / "model-00002-of-00002.safetensors")
    for key, weight in layer(1).items():
        if not key.endswith("_proj.weight"):
            assert torch.equal(converted[key], weight)
            continue
        codes, scale = quantize_weight(weight, scheme)
        assert converted[key].dtype == codes.dtype
        assert torch.equal(converted[key].view(torch.uint8), codes.view(torch.uint8))
        assert torch.equal(converted[f"{key}_scale"], scale)
        if scheme.group is not None:
            check_two_in_four(converted[key])
    embedding = safetensors_torch.load_file(target / "model-00001-of-00002.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(embedding, torch.arange(64.0).view(4, 16))
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in source.iterdir())
    index = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    assert index[f"{DOWN}_scale"] == "model-00002-of-00002.safetensors"
    config = json.loads((target / "config.json").read_text())
    asked = {"quant_method": "slidesparse", "scheme": name, "stored": True, "prune": True}
    assert config == {**CONFIG, "quantization_config": asked}


def prune(tensors: dict[str, torch.Tensor]) -> None:
    """Make the linear layers' weights 2:8 sparse."""
    from perf_kernels.sparse_weights import prune_weight

    tensors.update({key: prune_weight(value, 8) for key, value in tensors.items() if key.endswith("_proj.weight")})


def test_sparse_weights_need_no_pruning(source: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        rewrite(source, prune, number)
    scheme = schemes.find("int8-2_8")
    plain = convert(source, tmp_path / "plain", scheme)
    pruned = convert(source, tmp_path / "pruned", scheme, prune=True)
    for file in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert (plain / file).read_bytes() == (pruned / file).read_bytes()


def test_a_denser_weight_is_an_error(source: Path) -> None:
    """However small it is: a code of 0 would drop it."""
    for number in (1, 2):
        rewrite(source, prune, number)

    def fill(tensors: dict[str, torch.Tensor]) -> None:
        row = tensors[DOWN][3]
        row[row == 0] = 1e-5

    rewrite(source, fill)
    assert refused(source, prune=False) == (
        f"{DOWN}: check_sparse: row 3, group 0 (columns 0 to 7) has 8 non-zeros; 2:8 allows 6: prune the weights "
        "first\nhint: give --prune, or a checkpoint that was pruned"
    )


def test_a_row_that_is_not_finite(source: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[DOWN][3, 5] = torch.nan

    rewrite(source, spoil)
    assert refused(source) == f"{DOWN}: row 3 holds an infinity or a NaN"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.some.bias"])
def test_a_copied_tensor_that_is_not_finite(source: Path, tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    def spoil(tensors: dict[str, torch.Tensor], value: float) -> None:
        tensors[name] = tensors.get(name, torch.ones(16)).float()
        tensors[name].view(-1)[-1] = value
        tensors[name] = tensors[name].to(dtype)

    for value in (torch.nan, -torch.inf) if dtype is not torch.float8_e4m3fn else (torch.nan,):
        rewrite(source, lambda tensors, value=value: spoil(tensors, value), number=1)  # type: ignore[misc]
        with pytest.raises(CheckpointError) as caught:
            convert(source, tmp_path / "target", schemes.find("int8-dense"), layers_differ=True)
        assert str(caught.value) == f"{name} holds an infinity or a NaN\nhint: copy the checkpoint again"
        assert not (tmp_path / "target.partial").exists()


def test_a_target_that_is_there(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    assert refused(source) == (
        f"{tmp_path / 'target'}: there already\nhint: give a folder that does not exist, or remove it"
    )


@pytest.mark.parametrize("target", [".", "/", ".."])
def test_a_target_without_a_name(source: Path, target: str) -> None:
    with pytest.raises(CheckpointError, match="there already"):
        convert(source, Path(target), schemes.find("int8-dense"))


class Stopped(BaseException):
    """What stops a conversion from outside."""


def environment() -> dict[str, str]:
    """Give this process's variables, with what it imports from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def interrupt(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a conversion in its second file."""
    original = conversion._convert_layer

    def convert_layer(name: str, *arguments: object) -> object:
        if ".layers.1." in name:
            raise Stopped
        return original(name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_convert_layer", convert_layer)
        with pytest.raises(Stopped):
            convert(source, target, schemes.find("int8-2_6"), prune=True)


def test_goes_on_after_an_interruption(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, partial = tmp_path / "target", tmp_path / "target.partial"
    interrupt(source, target, monkeypatch)
    assert not target.exists()
    first = (partial / "model-00001-of-00002.safetensors").stat()
    (partial / "model-00002-of-00002.safetensors.unfinished").write_bytes(b"half")
    said: list[str] = []

    convert(source, target, schemes.find("int8-2_6"), prune=True, say=said.append)

    assert said == [
        f"going on with {partial}",
        "file 1 of 2: model-00001-of-00002.safetensors is done",
        "file 2 of 2: model-00002-of-00002.safetensors, 8 tensors",
        "14 layers as int8-2_6",
    ]
    assert (target / "model-00001-of-00002.safetensors").stat().st_mtime_ns == first.st_mtime_ns
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in source.iterdir())
    assert not partial.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 200, None], ids=["empty", "zeros", "truncated"])
def test_a_finished_file_that_was_damaged_since(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """The source is fine: it is converted anew."""
    target = tmp_path / "target"
    interrupt(source, target, monkeypatch)
    finished = tmp_path / "target.partial" / "model-00001-of-00002.safetensors"
    finished.write_bytes(finished.read_bytes()[:-1] if content is None else content)
    said: list[str] = []

    convert(source, target, schemes.find("int8-2_6"), prune=True, say=said.append)

    assert said[1] == f"file 1 of 2: {finished.name} was converted, and is damaged: converting it anew"
    fresh = convert(source, tmp_path / "fresh", schemes.find("int8-2_6"), prune=True)
    for path in fresh.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_a_file_that_is_damaged_as_it_is_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a disk that takes what it does not keep: nothing is said of the source."""
    partial, name = tmp_path / "target.partial", "model-00001-of-00002.safetensors"
    monkeypatch.setattr("safetensors.torch.save_file", lambda tensors, path, metadata: path.write_bytes(b"half"))
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "target", schemes.find("int8-dense"))
    assert str(caught.value) == (
        f"{partial}: cannot be written: {name}.unfinished does not hold what was written to it\n"
        f"hint: the same command goes on from here; remove {partial} to begin anew"
    )


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(file: Any, operation: int) -> None:
        raise OSError(number, "there are none")

    monkeypatch.setattr(conversion.fcntl, "flock", flock)
    lines: list[str] = []
    target = convert(source, tmp_path / "target", schemes.find("int8-dense"), say=lines.append)
    assert (target / "config.json").exists()
    partial = tmp_path / "target.partial"
    assert lines[0] == f"{partial} cannot be locked here: let no other process convert into it"


@pytest.mark.parametrize("left", [b"\0" * 8, b'{"\xff\x80"}', b'{"scheme": "int8'])
def test_a_damaged_record_of_what_was_begun(source: Path, tmp_path: Path, left: bytes) -> None:
    partial = tmp_path / "target.partial"
    partial.mkdir()
    (partial / "conversion.json").write_bytes(left)
    lines: list[str] = []
    convert(source, tmp_path / "target", schemes.find("int8-dense"), say=lines.append)
    assert lines[0] == f"{partial} was begun with another source or scheme: beginning anew"


def test_an_infinity_is_allowed_where_it_is_meant(source: Path, tmp_path: Path) -> None:
    """A limit that is none, a mask: no parameters."""
    names = {"model.vision.clip.input_max": torch.tensor(torch.inf), "model.mask": torch.tensor([0.0, -torch.inf])}
    rewrite(source, lambda tensors: tensors.update(names), number=1)
    target = convert(source, tmp_path / "target", schemes.find("int8-dense"), layers_differ=True)
    found = {
        name: value
        for file in target.glob("*.safetensors")
        for name, value in safetensors_torch.load_file(file).items()
    }
    for name, value in names.items():
        assert torch.equal(found[name], value)
    rewrite(source, lambda tensors: tensors.update({"model.mask": torch.tensor(torch.nan)}), number=1)
    with pytest.raises(CheckpointError, match=r"model\.mask holds a NaN"):
        convert(source, tmp_path / "other", schemes.find("int8-dense"), layers_differ=True)


def test_large_tensors_are_looked_at_in_parts(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_PART", 7)
    convert(source, tmp_path / "target", schemes.find("int8-dense"))

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.input_layernorm.weight"].view(-1)[-1] = torch.nan

    rewrite(source, spoil, number=2)
    with pytest.raises(CheckpointError, match="holds an infinity or a NaN"):
        convert(source, tmp_path / "other", schemes.find("int8-dense"))


@pytest.mark.parametrize("other", ["int8-2_6", "int8-2_8"])
def test_two_conversions_into_one_folder(source: Path, tmp_path: Path, other: str) -> None:
    """The second is refused, and takes nothing from the first."""
    target, refusals = tmp_path / "target", []

    def say(line: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            convert(source, target, schemes.find(other), prune=True)
        refusals.append(str(caught.value))

    convert(source, target, schemes.find("int8-2_6"), prune=True, say=say)

    held = (
        f"{tmp_path / 'target.partial'}: another process is converting into it\n"
        "hint: let it end, or give another folder"
    )
    done = f"{target}: there already\nhint: give a folder that does not exist, or remove it"
    assert refusals == [held, held, done]
    fresh = convert(source, tmp_path / "fresh", schemes.find("int8-2_6"), prune=True)
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in fresh.iterdir())
    for path in fresh.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("ended", ["done", "refused"])
def test_a_conversion_that_ends_as_the_next_one_begins(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    """What the second opened is then in the target, or nowhere: it holds nothing by that."""
    target, partial, flock = tmp_path / "target", tmp_path / "target.partial", conversion.fcntl.flock

    def lock(file: object, how: int) -> None:
        monkeypatch.setattr(conversion.fcntl, "flock", flock)
        if ended == "refused":
            shutil.rmtree(partial)
        else:
            convert(source, target, schemes.find("int8-dense"))
        flock(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion.fcntl, "flock", lock)
    if ended == "refused":
        convert(source, target, schemes.find("int8-dense"))
    else:
        with pytest.raises(CheckpointError, match="there already"):
            convert(source, target, schemes.find("int8-dense"))
    assert not partial.exists()
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in source.iterdir())


#: Converts as the command does, and is killed in the middle of the second file.
KILLED = """
import os, signal, sys
from perf_workloads.slidesparse import command, conversion
original = conversion._convert_layer
def convert_layer(name, *arguments):
    if name == "model.layers.1.self_attn.k_proj.weight":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(name, *arguments)
conversion._convert_layer = convert_layer
sys.exit(command.main(sys.argv[1:]))
"""


def test_goes_on_after_a_kill(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File by file: what was finished is kept, the file of the kill is converted anew."""
    target, partial = tmp_path / "target", tmp_path / "target.partial"
    arguments = ["convert", str(source), str(target), "--scheme", "2:8", "--prune"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment(), timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    first = partial / "model-00001-of-00002.safetensors"
    assert sorted(path.name for path in partial.iterdir()) == ["conversion.json", first.name]
    finished = first.stat()

    assert command.main(arguments) == 0

    assert "model-00001-of-00002.safetensors is done\n" in capsys.readouterr().err
    kept = (target / first.name).stat()
    assert (kept.st_ino, kept.st_mtime_ns) == (finished.st_ino, finished.st_mtime_ns)
    fresh = convert(source, tmp_path / "fresh", schemes.find("int8-2_8"), prune=True)
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in fresh.iterdir())
    for path in fresh.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()
    assert not partial.exists()


def test_help_says_what_an_interruption_costs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["convert", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "goes on with what lies in DST.partial, file by file" in shown
    assert "the one that was being converted is converted anew" in shown


def test_a_part_of_another_conversion_is_not_taken_over(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    interrupt(source, target, monkeypatch)
    said: list[str] = []

    convert(source, target, schemes.find("int8-2_8"), prune=True, say=said.append)

    assert said[0] == f"{tmp_path / 'target.partial'} was begun with another source or scheme: beginning anew"
    fresh = convert(source, tmp_path / "fresh", schemes.find("int8-2_8"), prune=True)
    for path in fresh.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "target", schemes.find("int8-dense"))
    partial = tmp_path / "target.partial"
    assert str(caught.value) == (
        f"{partial}: cannot be written: No space left on device\n"
        f"hint: the same command goes on from here; remove {partial} to begin anew"
    )
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_too_little_memory(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """It names the tensor, and keeps what is done: the same command goes on, maybe elsewhere."""
    original = conversion._convert_layer

    def convert_layer(name: str, *arguments: object) -> object:
        if name == DOWN:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the documentation")
        return original(name, *arguments)

    target = tmp_path / "target"
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_convert_layer", convert_layer)
        patch.setattr(conversion, "_check_device", lambda device: None)
        if device == "cuda":
            opening = safetensors.safe_open
            patch.setattr("safetensors.safe_open", lambda path, **how: opening(path, **{**how, "device": "cpu"}))
        with pytest.raises(CheckpointError) as caught:
            convert(source, target, schemes.find("int8-dense"), device=device)
    elsewhere = "free memory first" if device == "cpu" else "give --device cpu, or free the device's memory first"
    assert str(caught.value) == (
        f"{DOWN}: cannot be converted: CUDA out of memory. Tried to allocate 2 GiB. (--device {device})\n"
        f"hint: {elsewhere}: the same command goes on from here"
    )
    assert (tmp_path / "target.partial" / "model-00001-of-00002.safetensors").exists()
    convert(source, target, schemes.find("int8-dense"))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(source: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "target", schemes.find("int8-dense"), device=device)
    assert str(caught.value).startswith(f"--device {device}: cannot convert anything: ")
    assert str(caught.value).endswith("\nhint: give --device cpu")
    assert list(tmp_path.iterdir()) == [source]


def test_a_target_that_cannot_be_made(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "file" / "target", schemes.find("int8-dense"))
    partial = tmp_path / "file" / "target.partial"
    assert str(caught.value) == (
        f"{partial}: cannot be written: Not a directory\n"
        f"hint: the same command goes on from here; remove {partial} to begin anew"
    )


def test_a_partial_folder_that_is_none(source: Path, tmp_path: Path) -> None:
    partial = tmp_path / "target.partial"
    partial.write_text("")
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "target", schemes.find("int8-dense"))
    assert str(caught.value).startswith(f"{partial}: cannot be written: File exists\n")


def test_a_target_that_appears_meanwhile(source: Path, tmp_path: Path) -> None:
    target, partial = tmp_path / "target", tmp_path / "target.partial"

    def say(line: str) -> None:
        target.mkdir(exist_ok=True)
        (target / "of somebody else").write_text("")

    with pytest.raises(CheckpointError) as caught:
        convert(source, target, schemes.find("int8-dense"), say=say)
    assert str(caught.value) == (
        f"{target}: all is converted, but {partial} cannot get this name: Directory not empty\n"
        "hint: make room for it, then run the same command: it finds each file done"
    )
    assert (partial / "config.json").exists()
    (target / "of somebody else").unlink()
    target.rmdir()
    lines: list[str] = []
    convert(source, target, schemes.find("int8-dense"), say=lines.append)
    assert [line for line in lines if line.endswith("is done")] == lines[1:3]
    assert not partial.exists()


def test_no_quantisation_as_null(source: Path, tmp_path: Path) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": None}))
    target = convert(source, tmp_path / "target", schemes.find("int8-dense"))
    assert json.loads((target / "config.json").read_text())["quantization_config"]["scheme"] == "int8-dense"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--scheme", "2:8", "--prune"], "int8-2_8"),
        (["--scheme", "2:4", "--codes", "fp8", "--prune"], "fp8-2_4"),
        (["--scheme", "dense"], "int8-dense"),
        (["--scheme", "fp8-2_10", "--prune"], "fp8-2_10"),
    ],
)
def test_command(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], name: str
) -> None:
    target = tmp_path / "target"
    assert command.main(["convert", str(source), str(target), *arguments]) == 0
    assert json.loads((target / "config.json").read_text())["quantization_config"]["scheme"] == name
    shown = capsys.readouterr()
    assert shown.out == f"{target}\n"
    assert shown.err.endswith(f"14 layers as {name}\n")


def test_command_that_fails(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(source)
    assert command.main(["convert", str(source), str(tmp_path / "target"), "--scheme", "2:8"]) == 1
    assert capsys.readouterr().err == (
        f"perfgate-slidesparse: {source}: not a folder\nhint: give the one that holds config.json\n"
    )


@pytest.mark.parametrize(
    ("scheme", "why"),
    [
        ("3:8", "unknown scheme '3:8'"),
        # Both forms share a checkpoint.
        ("int8-2:8-bf16", "convert weights of int8-2:8-bf16 as int8-2_8"),
    ],
)
def test_command_with_a_scheme_that_is_none_of_weights(
    capsys: pytest.CaptureFixture[str], scheme: str, why: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["convert", "a", "b", "--scheme", scheme])
    assert caught.value.code == 4
    assert capsys.readouterr().err == (
        f"perfgate-slidesparse convert: argument --scheme: {why}\nhint: perfgate-slidesparse convert --help\n"
    )
