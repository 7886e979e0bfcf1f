"""The AntMaze study: planning with a critic of the same data, resumed within a batch, and what the record says."""

import numpy as np
import pytest

from tests.models import random_model, random_tokenizer
from ttlib import plots
from ttlib.baselines import common, iql
from ttlib.model import save_model
from ttlib.records import Record
from ttlib.studies import antmaze, jobs, methods, rollouts
from ttlib.tokens import Layout
from ttlib.trajectories import Trajectories

DATASET = "local:pointmaze-umaze"
SMALL = {"horizon": 2, "beam_width": 2, "context": 2, "plan_every": 2}
TINY = {"updates": 4, "batch": 8, "log_every": 2, "save_every": 2}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Nonsense data, and an untrained model and agent of it."""
    rng = np.random.default_rng(0)
    data = Trajectories(
        rng.normal(size=(400, 4)),
        rng.uniform(-1, 1, size=(400, 2)),
        np.arange(400) % 40 == 39,
        np.arange(400) % 40 == 39,
        np.zeros(400, bool),
        env_id="PointMazeUMaze-v0",
    )
    monkeypatch.setattr(rollouts, "load", lambda name: data)
    monkeypatch.setattr(methods, "ROOT", tmp_path)
    folder, layout = tmp_path / "data" / "checkpoints", Layout(4, 2)
    save_model(folder / "pointmaze-umaze.safetensors", random_model(layout), random_tokenizer(layout), about())
    common.save_model(folder / "pointmaze-umaze-iql.safetensors", iql.IQL(4, 2, (8,), shift=-1.0), about())
    return tmp_path


def about(dataset=DATASET):
    return {"dataset": dataset, "fingerprint": "x", "minutes": 0.1, "tokens": 10, "settings": {}}


def job(method, **settings):
    evaluation = {"rollouts": 3, "together": 3, "seed": 500, "max_steps": 8}
    asked = {"dataset": DATASET, "method": method, "seed": 0, "env_id": None}
    return asked | {"evaluation": evaluation, "settings": settings, "device": "cpu"}


def done(asked, root):
    return jobs.do("antmaze", rollouts.complete(asked, root), rollouts.work, root)["row"]


@pytest.mark.parametrize("method", [*methods.BY_Q, "iql-policy"])
def test_a_critic_guides_and_its_policy_acts(root, method):
    row = done(job(method, **(SMALL if method in methods.BY_Q else {})), root)
    assert row["rollouts"] == 3 and row["score"] == 100 * row["raw_return"]
    assert len(row["settings"]["models"]) == (2 if method in methods.BY_Q else 1)
    assert row["provenance"]["critic_fingerprint"] == "x"


@pytest.mark.parametrize(("method", "settings"), [("dt", TINY | {"warmup": 1}), ("bc", TINY | {"hidden": [8]})])
def test_imitators_are_trained_in_the_job(root, method, settings):
    row = done(job(method, **settings), root)
    assert row["rollouts"] == 3 and 0 <= row["score"] <= 100


def test_the_same_planner_with_another_score_of_plans():
    plans = {name: methods.METHODS[name][0](DATASET) for name in (*methods.BY_Q, "tt-quantile")}
    for name, (value, to_go) in {
        "tt-q": ("q", 0.0),
        "tt-q-search": ("q", 0.0),
        "tt-v": ("v", 0.0),
        "tt-last-q": ("last q", 0.0),
        "tt-q-and-to-go": ("q", 1.0),
    }.items():
        assert plans[name] == plans["tt-quantile"] | {"value": value, "to_go": to_go}


def test_a_missing_model_or_agent_is_named_with_the_command_that_makes_it(root):
    folder = root / "data" / "checkpoints"
    (folder / "pointmaze-umaze-iql.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match="umaze-iql.safetensors is missing; .*ttlib.baselines.iql --dataset loc"
    ):
        rollouts.complete(job("tt-q", **SMALL), root)
    (folder / "pointmaze-umaze.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="pointmaze-umaze.safetensors is missing") as caught:
        rollouts.complete(job("tt-quantile", **SMALL), root)
    assert "-100" not in str(caught.value)


def test_an_agent_of_other_data_is_refused(root):
    path = root / "data" / "checkpoints" / "pointmaze-umaze-iql.safetensors"
    common.save_model(path, iql.IQL(4, 2, (8,)), about("local:antmaze-umaze"))
    with pytest.raises(ValueError, match="was trained on local:antmaze-umaze, but an agent of local:pointmaze-umaze"):
        done(job("tt-q", **SMALL), root)
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        done(job("iql-policy"), root)


def test_a_planner_that_is_killed_goes_on_within_its_batch(root, monkeypatch):
    whole = jobs.do("antmaze", rollouts.complete(job("tt-q", **SMALL), root), rollouts.work, root / "whole")["row"]
    resumed, steps = rollouts.Resumed, []
    monkeypatch.setattr(rollouts, "Resumed", lambda *arguments: resumed(*arguments, every=0.0))
    tell = rollouts._Told.act

    def interrupted(self, observations):
        steps.append(self.step)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return tell(self, observations)

    monkeypatch.setattr(rollouts._Told, "act", interrupted)
    with pytest.raises(KeyboardInterrupt):
        done(job("tt-q", **SMALL), root)
    half_done = list(root.rglob("half-done-0.safetensors"))
    assert len(half_done) == 1
    row = done(job("tt-q", **SMALL), root)
    assert row["returns"] == whole["returns"] and row["mean_length"] == whole["mean_length"]
    assert not half_done[0].exists()


def row(dataset, method, score):
    return {"dataset": dataset, "method": method, "seed": 0, "score": score, "standard_error": 3.0}


ROWS = [
    row("local:antmaze-umaze", "tt-q", 98.0),
    row("local:antmaze-umaze", "iql-policy", 90.0),
    row("local:antmaze-umaze", "tt-quantile", 40.0),
    row("local:antmaze-umaze", "tt-v", 80.0),
    row("local:antmaze-large-play", "tt-q", 50.0),
    row("local:antmaze-large-play", "iql-policy", 60.0),
    row("d4rl:antmaze-medium-play-v2", "bc", 1.0),
]


def test_planning_by_q_is_held_against_the_better_of_its_two_parts():
    record = Record("antmaze", "studies", rows=ROWS)
    antmaze.claim(record)
    claims = {claim.id: claim for claim in record.claims}
    assert set(claims) == {"tt_q_umaze", "iql_umaze", "tt_umaze", "tt_q_large_play", "iql_large_play"}
    assert claims["tt_q_umaze"].band == (90.0, None) and claims["tt_q_umaze"].passed
    assert claims["tt_q_umaze"].paper == 100.0 and claims["iql_umaze"].paper == 87.5
    assert claims["tt_q_large_play"].band == (60.0, None) and not claims["tt_q_large_play"].passed
    assert claims["tt_umaze"].paper is None and claims["tt_umaze"].passed


def test_the_table_and_the_bars_show_what_was_measured():
    lines = antmaze.table({"rows": ROWS}).splitlines()
    assert len(lines) == 2 + 3 and "search by V" in lines[0]
    assert "98.0 ± 3.0" in lines[2] and lines[2].endswith("| 87.5 | 100.0 |")
    assert lines[4].startswith("| d4rl:antmaze-medium-play-v2 | 1.0 ± 3.0 |") and lines[4].endswith("| 71.2 | 93.3 |")
    assert antmaze.maze_of("local:pointmaze-umaze") == "local:pointmaze-umaze"

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    plots.use_style()
    antmaze.bars(ax, {"rows": ROWS})
    heights = sorted(bar.get_height() for bar in ax.patches)
    assert heights == [1.0, 40.0, 50.0, 60.0, 90.0, 98.0]
    plt.close(fig)
