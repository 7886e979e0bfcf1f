"""Checkpoints: what is written is read back, damage is noticed, a failed write leaves no trace."""

import errno
import json
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import save_file

from ttlib import checkpoints


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(20, 30, generator=generator),
        "half": torch.randn(7, generator=generator).to(torch.bfloat16),
        "count": torch.tensor(3),
        "flags": torch.tensor([True, False]),
        "turned": torch.randn(4, 6, generator=generator).T,
    }


def test_round_trip(tmp_path, tensors):
    description = {"steps": 3, "nested": {"list": [1, 2.5, None, "é"]}}
    checkpoints.save(tmp_path / "deep" / "a.safetensors", tensors, description)
    read, about = checkpoints.load(tmp_path / "deep" / "a.safetensors")
    assert about == description and set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.safetensors"]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint .*a.safetensors"):
        checkpoints.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, tensors, keep):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, tensors, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        checkpoints.load(path)


def test_a_flipped_bit_is_noticed(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, tensors, {})
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        checkpoints.load(path)


def test_foreign_files_are_refused(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    save_file({"weight": tensors["weight"]}, path)
    with pytest.raises(ValueError, match="ttlib did not write it"):
        checkpoints.load(path)
    path.write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        checkpoints.load(path)
    torch.save(tensors, path)  # a pickle
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        checkpoints.load(path)


@pytest.mark.parametrize("header", ["not JSON", json.dumps([1]), json.dumps({"description": {}})])
def test_a_header_of_another_make_is_refused(tmp_path, tensors, header):
    path = tmp_path / "a.safetensors"
    save_file({"weight": tensors["weight"]}, path, metadata={checkpoints.KEY: header})
    with pytest.raises(ValueError, match="a.safetensors"):
        checkpoints.load(path)


def test_a_description_that_is_not_json_writes_nothing(tmp_path, tensors):
    with pytest.raises(TypeError):
        checkpoints.save(tmp_path / "a.safetensors", tensors, {"x": object()})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path, tensors):
    """A process whose files may not grow past 1 KiB, as a disk that is full."""
    path = tmp_path / "a.safetensors"
    checkpoints.save(path, {"old": torch.ones(3)}, {"old": True})
    script = f"""
        import resource, signal, torch
        from ttlib import checkpoints
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        try:
            checkpoints.save({str(path)!r}, {{"new": torch.zeros(10_000)}}, {{}})
        except OSError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert "could not write" in done.stdout and "untouched" in done.stdout, done.stderr
    assert checkpoints.load(path)[1] == {"old": True}
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"], "no temporary file is left"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), KeyError()])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), checkpoints.written_atomically(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        checkpoints.save(tmp_path / "file" / "a.safetensors", {"a": torch.ones(1)}, {})
