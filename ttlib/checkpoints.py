"""Checkpoints: named tensors and a JSON description in one safetensors file.

A file is written under a temporary name and moved into place, so that a reader
never meets half of one, and carries a checksum of its tensors, so that damage is
noticed when it is read. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

KEY = "ttlib"


@contextmanager
def written_atomically(path):
    """Yield a temporary path beside `path`; move it into place if the block succeeds.

    Whatever goes wrong (a full disk, an interruption), `path` is left as it was and
    the temporary file is removed.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        yield Path(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"could not write {path}: {error.strerror or error}; free some space or choose another "
            "folder, then run the same command again. What was there before is untouched."
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def save(path, tensors, description):
    """Write named tensors and their description.

    Args:
        path: file to write, `*.safetensors`.
        tensors: dict from name to tensor, any shapes and types.
        description: whatever JSON can hold; `load` gives it back.

    Raises:
        OSError: the file could not be written; an older file of that name is untouched.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = json.dumps({"description": description, "checksum": _checksum(tensors)})
    with written_atomically(path) as temporary:
        temporary.write_bytes(to_bytes(tensors, metadata={KEY: header}))


def load(path):
    """Read what `save` wrote: `(tensors, description)`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, damaged, or was not written by `save`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); restore it, or delete it and make it again."
        ) from error
    if KEY not in metadata:
        raise ValueError(f"{path} is a safetensors file, but ttlib did not write it.")
    try:
        header = json.loads(metadata[KEY])
        description, checksum = header["description"], header["checksum"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its description cannot be read; restore it or make it again.") from error
    if checksum != _checksum(tensors):
        raise ValueError(f"{path} is damaged: its tensors do not match its checksum; restore it or make it again.")
    return tensors, description


def run_tensors(model, optimizer):
    """What a run needs to go on, as named tensors: the model's weights and the optimizer's moments."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{name}": torch.as_tensor(tensor) for name, tensor in moments.items()}
    return tensors


def restore_run(tensors, model, optimizer):
    """Put what `run_tensors` gave back into a model and an optimizer of the same kind."""
    state = optimizer.state_dict()
    for name, tensor in part(tensors, "adam/").items():
        index, moment = name.split("/")
        state["state"].setdefault(int(index), {})[moment] = tensor
    model.load_state_dict(part(tensors, "model/"))
    optimizer.load_state_dict(state)


def resume(path, run, model, optimizer):
    """Put the run that `path` holds back into a model and an optimizer, if it is there.

    Args:
        path: what a training loop saved (`run_tensors`, described by `run`, `step` and `curve`), or None.
        run: plain values that say which run this is; those of the file must be the same.

    Returns:
        How many updates it has behind it, and its curve; 0 and [] where there is no file.

    Raises:
        ValueError: the file holds another run, or is damaged.
    """
    if path is None or not Path(path).exists():
        return 0, []
    tensors, description = load(path)
    changed = [key for key in run if description.get(key) != run[key]]
    if changed:
        raise ValueError(
            f"{path} holds a run with other {' and '.join(changed)}; choose another folder, or delete that one."
        )
    restore_run(tensors, model, optimizer)
    return description["step"], description["curve"]


def fingerprint(*tensors):
    """Short hash of tensors' types, shapes and values."""
    return _checksum({str(number): tensor.detach().cpu() for number, tensor in enumerate(tensors)})[:16]


def part(tensors, prefix):
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _checksum(tensors):
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
