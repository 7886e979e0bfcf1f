"""The batch: names are checked first, a failure leaves nothing half-written, a second run does nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.chapter import NAME, notebook, project
from ttlib import batch
from ttlib.paths import ROOT

RUN = [sys.executable, "-m", "ttlib.batch", "run", NAME, "--preset"]


def ran(root):
    path = root / "ran"
    return path.read_text().split("\n")[:-1] if path.is_file() else []


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"sed": 1}, "notebooks/other/05_tiny.yaml sets 'sed', which 05_tiny does not have; it has preset, seed, rate"),
        ({"rate": "1e-3"}, "sets rate to '1e-3', but it is a number; write 1.0e-3, since YAML reads 1e-3 as text"),
        ({"names": "c"}, "sets names to 'c', but it is a list"),
        ({"preset": "quick"}, "sets preset to 'quick'; leave it out"),
        ({"seed": "[1"}, "notebooks/other/05_tiny.yaml is not valid YAML"),
    ],
)
def test_a_wrong_parameter_is_named_before_anything_starts(tmp_path, parameters, sentence):
    root = project(tmp_path, **parameters)
    with pytest.raises(ValueError) as error:
        batch.run(NAME, "other", root)
    assert sentence in str(error.value)
    assert not ran(root) and not (root / "build").exists()


def test_a_wrong_preset_or_chapter_is_named(tmp_path):
    root = project(tmp_path)
    with pytest.raises(ValueError, match="no preset 'papre'; choose quick or other"):
        batch.run(NAME, "papre", root)
    with pytest.raises(ValueError, match="no chapter '06_tiny'; choose one of 05_tiny"):
        batch.run("06_tiny", "quick", root)
    (root / "notebooks/other/05_tiny.yaml").rename(root / "notebooks/other/06_tiny.yaml")
    with pytest.raises(FileNotFoundError, match="05_tiny has no preset other: write its parameters to notebooks/other"):
        batch.run(NAME, "other", root)
    assert batch.chapters("other", root=root) == [] and batch.chapters(root=root) == [NAME]
    assert not (root / "build").exists()


def test_the_committed_parameters_fit_their_chapters():
    listed = yaml.safe_load((ROOT / "figures" / "claims.yaml").read_text())["chapters"]
    for preset in batch.presets():
        assert {path.stem for path in (ROOT / "notebooks" / preset).glob("*")} <= set(listed)
        for chapter in batch.chapters(preset):
            assert batch.injected(chapter, preset) or preset == "quick"


def test_a_failing_cell_is_named_and_leaves_neither_output(tmp_path):
    root = project(tmp_path, stop_at="error")
    for output in batch.outputs(NAME, "other", root):
        output.parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(batch.ChapterFailed) as error:
        batch.run(NAME, "other", root)
    # Cell 2 is the one with the injected parameters.
    sentence = "05_tiny stopped in code cell 4 of 9 (ValueError: a bin is empty); see build/other/05_tiny.failed.ipynb."
    assert str(error.value) == sentence
    assert [path.name for path in (root / "build/other").iterdir()] == ["05_tiny.failed.ipynb"]
    assert json.loads((root / "notebooks/05_tiny.ipynb").read_text()) == notebook()


def test_a_chapter_that_is_killed_leaves_nothing_half_written_and_runs_again(tmp_path):
    root = project(tmp_path, stop_at="long", seed=7)
    with subprocess.Popen([*RUN, "other"], cwd=root, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 300
        while not ran(root) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert ran(root) == ["other 7"]
    assert not any(output.exists() for output in batch.outputs(NAME, "other", root))
    (root / "notebooks/other/05_tiny.yaml").write_text("seed: 8\n")
    result = batch.run(NAME, "other", root)
    assert ran(root) == ["other 7", "other 8"]
    assert sorted(path.name for path in (root / "build/other").iterdir()) == ["05_tiny.ipynb", "05_tiny.json"]
    assert json.loads((root / "build/other/05_tiny.json").read_text()) == result
    assert result["minutes"] > 0 and result["peak_mib"] > 10 and result["record"] is False


def snakemake(root, *config):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--config", "preset=quick", *config]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_second_call_leaves_a_finished_chapter_alone_and_runs_an_edited_one(tmp_path):
    root = project(tmp_path)
    other = json.dumps(notebook()).replace("seed = 0", "seed = 5")
    (root / "notebooks/06_other.ipynb").write_text(other)
    snakemake(root)
    assert sorted(ran(root)) == ["quick 0", "quick 5"]
    (root / "notebooks/05_tiny.ipynb").touch()
    (root / "notebooks/06_other.ipynb").write_text(other.replace("seed = 5", "seed = 6"))
    snakemake(root)
    assert sorted(ran(root)) == ["quick 0", "quick 5", "quick 6"]


def test_a_chapter_that_is_kept_is_cleaned_and_not_run_again(tmp_path):
    root = project(tmp_path)
    assert batch.keep(NAME, root) == []
    kept = json.loads((root / "notebooks/05_tiny.ipynb").read_text())
    assert [cell.get("execution_count") for cell in kept["cells"]] == [None, *range(1, 9)]
    assert "papermill" not in json.dumps(kept) and str(root) not in json.dumps(kept)
    assert kept["cells"][4]["outputs"][0]["text"] == ["seed 0\n"]
    for output in batch.outputs(NAME, "quick", root):
        assert output.stat().st_mtime >= (root / "notebooks/05_tiny.ipynb").stat().st_mtime
