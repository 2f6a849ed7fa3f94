"""How is a checkpoint turned into one with a scheme's codes? File by file, so that it can go on after an interruption.

What is done lies in ``DST.partial`` and gets its name when all of it is there. A checkpoint that cannot be converted
leaves nothing; an interruption, a full disk or too little memory leaves finished files, and the same command takes them
over. A file that was being converted is converted anew, and so is one that was damaged since. One process at a time
converts into a folder.

Imports torch and safetensors when it converts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from perf_workloads.slidesparse.checkpoint import Checkpoint, inspect
from perf_workloads.slidesparse.headers import AGAIN, CONFIG, INDEX, CheckpointError, read_header
from perf_workloads.slidesparse.schemes import Scheme
from perf_workloads.slidesparse.serving.models import quantization_config

#: What a partial conversion was made of. It is locked by the process that converts, and there until all has its name.
_ORIGIN = "conversion.json"
_UNFINISHED = ".unfinished"
_BETWEEN_LINES_S = 2.0
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
#: Values that are looked at together, so that a large tensor needs little more room than it takes itself.
_PART = 1 << 24
#: Parameters; other tensors may hold an infinity on purpose, such as a mask or a limit that is none.
_PARAMETERS = (".weight", ".bias")
#: Of a source, beside weights and configuration: what a tokenizer and generation need.
_COPIED = ("*.json", "*.txt", "*.model", "*.jinja", "LICENSE*")


def convert(
    source: Path,
    target: Path,
    scheme: Scheme,
    *,
    prune: bool = False,
    layers_differ: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Convert the linear layers of a checkpoint; all else is copied.

    A weight ``….weight`` [N, K] becomes codes [N, K'] of the same name, slid for a sparse scheme and not compressed,
    and ``….weight_scale`` [N] fp32.

    Args:
        source: folder with ``config.json`` and ``*.safetensors``.
        target: folder that is made.
        scheme: how to keep weights.
        prune: zero the 2 smallest of each L weights; otherwise a denser group is an error.
        layers_differ: whether layers may have other tensors than their neighbours; if not, that is an error.
        device: where weights are converted.
        say: shows a line of progress.

    Returns:
        ``target``.

    Raises:
        CheckpointError: the source cannot be converted, the target is there already, is being written by another
            process or cannot be written, or the device cannot convert it.
    """
    partial = target.parent / f"{target.name}.partial"
    try:
        _check_target(target)
        checkpoint = inspect(source, layers_differ=layers_differ)
        _check_device(device)
        with _held(partial, target, say):
            _begin(partial, _origin(checkpoint, scheme, prune), say)
            _convert_files(checkpoint, partial, scheme, prune, device, say)
            _give_name(partial, target)
    except OSError as error:
        raise CheckpointError(
            f"{_place(error, source, partial)}: {error.strerror or error}",
            hint=f"the same command goes on from here; remove {partial} to begin anew",
        ) from None
    except (RuntimeError, MemoryError) as error:
        elsewhere = "free memory first" if device == "cpu" else "give --device cpu, or free the device's memory first"
        raise CheckpointError(
            f"{_first_line(error)} (--device {device})", hint=f"{elsewhere}: the same command goes on from here"
        ) from None
    left = f"; {checkpoint.mamba1} projections of Mamba 1 blocks stay floats" if checkpoint.mamba1 else ""
    say(f"{checkpoint.layers} layers as {scheme.name}{left}")
    return target


def _check_target(target: Path) -> None:
    if target.exists():
        raise CheckpointError(f"{target}: there already", hint="give a folder that does not exist, or remove it")


@contextlib.contextmanager
def _held(partial: Path, target: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a partial conversion, new or not, against other processes: they would remove what this one writes.

    Where the file system has no locks, as some of networks have none, the user is told instead.

    Raises:
        CheckpointError: another process holds it, or held it and is done.
    """
    path = partial / _ORIGIN
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CheckpointError(
                    f"{partial}: another process is converting into it", hint="let it end, or give another folder"
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                say(f"{partial} cannot be locked here: let no other process convert into it")
            # Whoever held it before may have ended since it was opened: with another name, or with nothing.
            if not _is_at(path, file.fileno()):
                continue
            if target.exists() and not path.stat().st_size:
                shutil.rmtree(partial, ignore_errors=True)
            _check_target(target)
            yield
            break
    # Networks' file systems keep a name for a file that is open, and so the folder of what was refused.
    with contextlib.suppress(OSError):
        partial.rmdir()


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still has a name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _give_name(partial: Path, target: Path) -> None:
    """Give a whole conversion its name; it is held until then."""
    try:
        os.rename(partial, target)
    except OSError as error:
        raise CheckpointError(
            f"{target}: all is converted, but {partial} cannot get this name: {error.strerror or error}",
            hint="make room for it, then run the same command: it finds each file done",
        ) from None
    (target / _ORIGIN).unlink()


def _convert_files(
    checkpoint: Checkpoint, partial: Path, scheme: Scheme, prune: bool, device: str, say: Callable[[str], None]
) -> None:
    """Convert what is not done yet. A checkpoint that turns out not to be convertible leaves nothing."""
    try:
        for number, file in enumerate(checkpoint.files, start=1):
            at = f"file {number} of {len(checkpoint.files)}: "
            if (partial / file).exists():
                if _is_whole(partial / file):
                    say(f"{at}{file} is done")
                    continue
                say(f"{at}{file} was converted, and is damaged: converting it anew")
            _convert_file(checkpoint, file, partial, scheme, prune, device, lambda line, at=at: say(at + line))  # type: ignore[misc]
        _finish(checkpoint, partial, scheme, prune)
    except CheckpointError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _is_whole(path: Path) -> bool:
    """Whether a file of ours is what its header tells of."""
    try:
        read_header(path)
    except CheckpointError:
        return False
    return True


def _check_device(device: str) -> None:
    """Refuse a device that is none, or is not there, before anything is written."""
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(
            f"--device {device}: cannot convert anything: {_first_line(error)}", hint="give --device cpu"
        ) from None


def _place(error: OSError, source: Path, partial: Path) -> str:
    """Say which path an error is about, and what could not be done with it."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else partial
    return f"{path}: cannot be {'read' if path.is_relative_to(source) else 'written'}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _origin(checkpoint: Checkpoint, scheme: Scheme, prune: bool) -> dict[str, Any]:
    """Tell apart what was converted, and how."""
    stats = {file: (checkpoint.folder / file).stat() for file in checkpoint.files}
    return {
        "scheme": scheme.name,
        "prune": prune,
        "files": {file: [stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()},
    }


def _begin(partial: Path, origin: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Take over what the folder holds if it is a part of the same conversion, else empty it."""
    begun, wanted = (partial / _ORIGIN).read_bytes(), json.dumps(origin).encode()
    if begun == wanted:
        say(f"going on with {partial}")
        return
    others = [path for path in partial.iterdir() if path.name != _ORIGIN]
    if begun or others:
        say(f"{partial} was begun with another source or scheme: beginning anew")
    for path in others:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (partial / _ORIGIN).write_bytes(wanted)


def _convert_file(
    checkpoint: Checkpoint,
    file: str,
    partial: Path,
    scheme: Scheme,
    prune: bool,
    device: str,
    say: Callable[[str], None],
) -> None:
    """Convert one file; it has its name only once it is whole."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    tensors = checkpoint.files[file]
    converted: dict[str, Any] = {}
    said_s = time.monotonic()
    try:
        with safe_open(checkpoint.folder / file, framework="pt", device=device) as opened:
            for number, tensor in enumerate(tensors, start=1):
                try:
                    value = opened.get_tensor(tensor.name)
                    if tensor.is_layer:
                        converted.update(_convert_layer(tensor.name, value, scheme, prune))
                    else:
                        _check_finite(tensor.name, value)
                        converted[tensor.name] = value.cpu()
                except (RuntimeError, MemoryError) as error:
                    raise RuntimeError(f"{tensor.name}: cannot be converted: {_first_line(error)}") from None
                if time.monotonic() - said_s > _BETWEEN_LINES_S:
                    said_s = time.monotonic()
                    say(f"{number} of {len(tensors)} tensors")
    except SafetensorError as error:
        raise CheckpointError(f"{checkpoint.folder / file}: cannot be read: {error}", hint=AGAIN) from None
    unfinished = partial / (file + _UNFINISHED)
    try:
        save_file(converted, unfinished, metadata={"format": "pt"})
        if not _is_whole(unfinished):
            raise OSError(f"{unfinished.name} does not hold what was written to it")
        written = {tensor.name: tensor.shape for tensor in read_header(unfinished)}
        assert written == {name: tuple(value.shape) for name, value in converted.items()}
        with unfinished.open("rb") as handle:
            os.fsync(handle.fileno())
    except SafetensorError as error:
        unfinished.unlink(missing_ok=True)
        raise OSError(str(error)) from None
    os.rename(unfinished, partial / file)
    say(f"{file}, {len(tensors)} tensors")


def _convert_layer(name: str, weight: Any, scheme: Scheme, prune: bool) -> dict[str, Any]:
    """Give the codes and scales of one layer, checked."""
    from perf_kernels.sparse_weights import check_two_in_four
    from perf_workloads.slidesparse.linear import quantize_weight

    try:
        codes, scale = quantize_weight(weight, scheme, prune=prune)
        if scheme.group is not None:
            check_two_in_four(codes)
    except ValueError as error:
        hint = "" if prune else "give --prune, or a checkpoint that was pruned"
        raise CheckpointError(f"{name}: {error}", hint=hint) from None
    if not scale.isfinite().all():
        row = int(scale.isfinite().logical_not().nonzero()[0])
        raise CheckpointError(f"{name}: row {row} holds an infinity or a NaN")
    return {name: codes.cpu().contiguous(), f"{name}_scale": scale.cpu()}


def _check_finite(name: str, value: Any) -> None:
    """Refuse a tensor that is copied and holds what no model computes with: an engine would serve it as it is."""
    import torch

    one_byte = (torch.float8_e4m3fn, torch.float8_e5m2)
    if not value.is_floating_point() or (value.element_size() == 1 and value.dtype not in one_byte):
        return
    parameter = name.endswith(_PARAMETERS)
    for part in value.reshape(-1).split(_PART):
        # There is no such test of types of one byte.
        wide = part.float() if value.dtype in one_byte else part
        if not (wide.isfinite() if parameter else ~wide.isnan()).all():
            raise CheckpointError(f"{name} holds {'an infinity or ' if parameter else ''}a NaN", hint=AGAIN)


def _finish(checkpoint: Checkpoint, partial: Path, scheme: Scheme, prune: bool) -> None:
    """Write the configuration and the index, and copy what else a model needs."""
    for pattern in _COPIED:
        for path in checkpoint.folder.glob(pattern):
            if path.is_file() and path.name not in (CONFIG, INDEX):
                shutil.copyfile(path, partial / path.name)
    config = {**checkpoint.config, "quantization_config": quantization_config(scheme.name, stored=True, prune=prune)}
    (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if len(checkpoint.files) > 1:
        where = {tensor.name: file for file in checkpoint.files for tensor in read_header(partial / file)}
        size = sum((partial / file).stat().st_size for file in checkpoint.files)
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
