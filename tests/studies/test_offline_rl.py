"""The offline-RL study: the same starts for every method, nothing lost or counted twice when it is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.models import random_model, random_tokenizer
from ttlib.evaluation import Rollouts
from ttlib.model import save_model
from ttlib.paths import ROOT
from ttlib.studies import jobs, methods, rollouts
from ttlib.tokens import Layout
from ttlib.trajectories import Trajectories

TINY = {"updates": 4, "batch": 8, "log_every": 2, "save_every": 2}
SMALL = TINY | {"hidden": [8]}


def recorded(steps=400):
    """Nonsense with Hopper's dimensions."""
    rng = np.random.default_rng(0)
    timeouts = np.arange(1, steps + 1) % 40 == 0
    return {
        "observations": rng.normal(size=(steps, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(steps, 3)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminals": np.zeros(steps, bool),
        "timeouts": timeouts,
    }


@pytest.fixture
def data(monkeypatch):
    data = Trajectories(**recorded(), env_id="Hopper-v4")
    monkeypatch.setattr(rollouts, "load", lambda name: data)
    return data


def job(method, seed=0, **settings):
    evaluation = {"rollouts": 3, "together": 2, "seed": 500, "max_steps": 6}
    about = {"dataset": "d4rl:hopper-medium-v2", "method": method, "seed": seed, "env_id": None}
    return about | {"evaluation": evaluation, "settings": settings, "device": "cpu"}


def done(asked, tmp_path):
    return jobs.do("offline_rl", rollouts.complete(asked, tmp_path), rollouts.work, tmp_path)["row"]


@pytest.mark.parametrize(
    ("method", "settings"), [("bc", SMALL), ("bc10", SMALL), ("iql", SMALL | {"expectile": 0.8}), ("dt", TINY)]
)
def test_a_baseline_is_trained_and_scored_in_the_environment_of_its_data(tmp_path, data, method, settings):
    row = done(job(method, **settings), tmp_path)
    assert row["rollouts"] == len(row["returns"]) == 3 and row["provenance"]["env_id"] == "Hopper-v4"
    assert row["raw_return"] == pytest.approx(np.mean(row["returns"]), abs=0.01)
    assert row["score"] == pytest.approx(100 * (row["raw_return"] + 20.272305) / (3234.3 + 20.272305))
    assert row["raw_standard_error"] == pytest.approx(np.std(row["returns"], ddof=1) / np.sqrt(3), abs=0.01)
    assert row["standard_error"] == pytest.approx(100 * row["raw_standard_error"] / (3234.3 + 20.272305))
    assert row["settings"]["updates"] == 4 and row["provenance"]["fingerprint"] == data.fingerprint()
    assert row["provenance"]["final_action" if method == "dt" else "final_policy"] is not None


def test_a_set_can_have_more_rollouts_than_the_others(tmp_path, data):
    asked = job("bc", **SMALL)
    asked["evaluation"] |= {"together": 3, "hopper-medium": {"rollouts": 5}, "hopper-medium-replay": {"rollouts": 7}}
    assert done(asked, tmp_path)["rollouts"] == 5
    assert done(asked | {"dataset": "d4rl:hopper-medium-replay-v2"}, tmp_path)["rollouts"] == 7
    assert done(asked | {"dataset": "d4rl:hopper-expert-v2"}, tmp_path)["rollouts"] == 3


def test_all_methods_begin_their_episodes_alike_and_no_two_alike(tmp_path, data, monkeypatch):
    begun = []

    def evaluate(env_id, controller, episodes, seed, max_steps):
        begun.extend(range(seed, seed + episodes))
        return Rollouts(np.arange(episodes) * 1.0, np.ones(episodes), np.ones(episodes, dtype=bool), [])

    monkeypatch.setattr(rollouts, "evaluate", evaluate)
    for asked in (job("bc", **SMALL), job("iql", **SMALL), job("bc", seed=1, **SMALL)):
        done(asked, tmp_path)
    assert begun == [500, 501, 502, 500, 501, 502, 1500, 1501, 1502]


def test_rollouts_that_were_finished_are_kept(tmp_path, data, monkeypatch):
    whole = done(job("bc", **SMALL), tmp_path / "whole")
    evaluate, seeds = rollouts.evaluate, []

    def interrupted(*arguments):
        seeds.append(arguments[3])
        if len(seeds) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(rollouts, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        done(job("bc", **SMALL), tmp_path)
    assert done(job("bc", **SMALL), tmp_path)["returns"] == whole["returns"] and seeds == [500, 502, 502]


def shipped(root, data, name="hopper-medium-v2"):
    layout = Layout(11, 3)
    path = root / "data" / "checkpoints" / f"{name}.safetensors"
    about = {"dataset": "d4rl:hopper-medium-v2", "fingerprint": data.fingerprint(), "tokens": 10, "minutes": 0.1}
    save_model(path, random_model(layout), random_tokenizer(layout), about)
    return path


def test_a_shipped_model_plans_and_a_new_one_is_measured_anew(tmp_path, data, monkeypatch):
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    asked = job("tt-quantile", horizon=3, beam_width=2, context=2, plan_every=2)
    with pytest.raises(FileNotFoundError, match="hopper-medium-v2.safetensors is missing; train it with `python -m"):
        rollouts.complete(asked, tmp_path)
    path = shipped(tmp_path, data)
    row = done(asked, tmp_path)
    assert row["settings"]["plan_every"] == 2 and row["settings"]["drop_mass"] == 0.6 and row["rollouts"] == 3
    assert done(asked, tmp_path) == row
    save_model(
        path, random_model(Layout(11, 3), seed=1), random_tokenizer(Layout(11, 3)), {"dataset": "local:hopper-expert"}
    )
    assert rollouts.complete(asked, tmp_path)["models"] != row["settings"]["models"]
    with pytest.raises(ValueError, match="was trained on local:hopper-expert with quantile bins, but a model of d4rl:"):
        done(asked, tmp_path)


def test_an_imitator_needs_no_rewards(tmp_path, data, monkeypatch):
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    asked = job("tt-likelihood", horizon=2, beam_width=2, context=2)
    with pytest.raises(FileNotFoundError, match="--method quantile --no-values --seed 0"):
        rollouts.complete(asked, tmp_path)
    layout = Layout(11, 3, values=False)
    path = tmp_path / "data" / "checkpoints" / "hopper-medium-v2.safetensors"
    save_model(path, random_model(layout), random_tokenizer(layout), {"dataset": "d4rl:hopper-medium-v2"})
    row = done(asked, tmp_path)
    assert row["rollouts"] == 3 and row["data_return"] == pytest.approx(data.returns.mean())


def test_a_model_of_other_data_or_bins_is_refused(tmp_path, data, monkeypatch):
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    shipped(tmp_path, data, "hopper-medium-v2-uniform")
    with pytest.raises(ValueError, match="with quantile bins, but a model of d4rl:hopper-medium-v2 with uniform bins"):
        done(job("tt-uniform", horizon=2, beam_width=2, context=2), tmp_path)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("local:hopper-medium-replay", (15, 128, None, 0.6)),
        ("d4rl:halfcheetah-medium-v2", (5, 32, None, 0.6)),
        ("local:halfcheetah-medium-expert", (15, 32, None, 0.6)),
        ("d4rl:walker2d-medium-expert-v2", (5, 128, None, 0.6)),
        ("local:walker2d-medium-replay", (20, 32, 40, None)),
        ("local:walker2d-medium", (15, 128, None, 0.6)),
        ("d4rl:ant-medium-v2", (5, 128, None, 0.6)),
    ],
)
def test_the_planner_has_the_reference_codes_settings(dataset, expected):
    found = methods.planner(dataset)
    assert (found["horizon"], found["beam_width"], found["top_k"], found["drop_mass"]) == expected


def test_what_stands_under_a_bodys_or_a_sets_name_is_for_these_only():
    settings = {"drop_mass": 0.4, "horizon": 5, "walker2d": {"drop_mass": 0.8}, "walker2d-expert": {"drop_mass": 0.9}}
    asked = {
        name: job("tt-quantile", **settings) | {"dataset": name}
        for name in (
            "local:walker2d-medium",
            "d4rl:walker2d-expert-v2",
            "local:walker2d-medium-expert",
            "local:hopper-expert",
            "file:mine.hdf5",
        )
    }
    found = {name: methods.settings_of(one) for name, one in asked.items()}
    assert [one["drop_mass"] for one in found.values()] == [0.8, 0.9, 0.8, 0.4, 0.4]
    assert all(one["horizon"] == 5 and not {"walker2d", "walker2d-expert"} & one.keys() for one in found.values())
    with pytest.raises(ValueError, match="tt-quantile has no setting walker;"):
        methods.settings_of(job("tt-quantile", walker={"drop_mass": 0.8}))


def test_what_cannot_be_scored_is_refused_before_any_work(tmp_path, data, monkeypatch):
    with pytest.raises(ValueError, match="bc has no setting updaets; it has updates, batch"):
        done(job("bc", updaets=3), tmp_path)
    with pytest.raises(ValueError, match="no reference returns for 'Nowhere-v5'"):
        done(job("bc", **SMALL) | {"env_id": "Nowhere-v5"}, tmp_path)
    monkeypatch.setattr(rollouts, "load", lambda name: Trajectories(**recorded()))
    with pytest.raises(ValueError, match="names no environment; give it one under `environments`"):
        done(job("bc", **SMALL), tmp_path)
    assert not list(tmp_path.rglob("training.safetensors"))


def test_a_killed_study_goes_on_without_losing_or_repeating_a_job(tmp_path):
    (tmp_path / "ttlib").mkdir()  # marks the root; the installed package is what runs
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    for file in ("pyproject.toml", "Snakefile"):
        shutil.copy(ROOT / file, tmp_path / file)
    np.savez(tmp_path / "mine.npz", **recorded())
    config = {
        "datasets": ["file:mine.npz"],
        "methods": ["bc"],
        "seeds": [0, 1],
        "only": {"tt-uniform": []},
        "environments": {"file:mine.npz": "Hopper-v5"},
        "evaluation": {"rollouts": 2, "together": 2, "seed": 7, "max_steps": 5},
        "settings": {"bc": SMALL | {"updates": 400, "save_every": 10, "log_every": 10}},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps({"offline_rl": config}))
    command = "-m snakemake --cores 1 --nolock --rerun-incomplete --quiet all --configfile mine.yaml -- offline_rl"
    folder = tmp_path / "build" / "studies" / "offline_rl"
    names = [f"file_mine.npz-bc-{seed}" for seed in (0, 1)]

    def start():
        return subprocess.Popen([sys.executable, *command.split()], cwd=tmp_path, start_new_session=True)

    with start() as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if all((folder / name / "training.safetensors").exists() for name in names):
                break  # one job is done, and the other has begun
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    first = next(name for name in names if (folder / name / "result.json").exists())
    before = (folder / first / "result.json").stat().st_mtime_ns
    assert not (tmp_path / "figures").exists()

    with start() as process:
        assert process.wait() == 0
    assert (folder / first / "result.json").stat().st_mtime_ns == before
    record = json.loads((tmp_path / "figures" / "studies" / "offline_rl.json").read_text())
    assert [(row["dataset"], row["method"], row["seed"]) for row in record["rows"]] == [
        ("file:mine.npz", "bc", 0),
        ("file:mine.npz", "bc", 1),
    ]
    assert record["rows"][1] == json.loads((folder / f"{names[1]}.json").read_text())["row"]
    assert record["provenance"]["seeds"] == [0, 1, 7] and record["provenance"]["minutes"] > 0
    assert (tmp_path / "figures" / "studies" / "offline_rl-scores.png").stat().st_size > 1000


@pytest.mark.parametrize(("env_id", "words"), [("Walker2d-v4", "have shapes"), ("AntMaze_Nowhere-v0", "cannot be ev")])
def test_an_environment_of_another_size_is_refused_before_any_work(tmp_path, data, monkeypatch, env_id, words):
    monkeypatch.setattr(rollouts, "normalized_score", lambda env_id, returns: returns)
    monkeypatch.setitem(rollouts.METHODS, "bc", (methods.METHODS["bc"][0], lambda *args: pytest.fail("it began")))
    with pytest.raises(ValueError, match=words):
        done(job("bc", **SMALL) | {"env_id": env_id}, tmp_path)
