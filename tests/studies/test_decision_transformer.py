import json

import numpy as np
import pytest
import yaml

from ttlib import records
from ttlib.paths import ROOT
from ttlib.records import Record
from ttlib.studies import decision_transformer as study
from ttlib.studies import jobs, returns
from ttlib.trajectories import Trajectories

CONFIG = yaml.safe_load((ROOT / "studies/decision_transformer.yaml").read_text())["decision_transformer"]
QUICK = {"updates": 4, "batch": 8, "warmup": 2, "layers": 1, "width": 16, "log_every": 2, "save_every": 2}
SETTINGS = {name: QUICK for name in ("paths", "dt", "bc", "bc10", "pixels")} | {
    "td": {"updates": 4, "batch": 8, "log_every": 2, "save_every": 2},
    "sweep": {"updates": 4, "batch": 4, "warmup": 2, "log_every": 2, "save_every": 2},
    "tt": {
        "tokens": 700,
        "batch": 2,
        "microbatch": 0,
        "bf16": False,
        "planner": {"horizon": 1, "beam_width": 1, "expand": 1},
    },
}


def hopping(name):
    """A data set as small as one can be, in Hopper's dimensions."""
    rng = np.random.default_rng(0)
    lengths = [30, 40, 30]
    return Trajectories(
        rng.normal(size=(100, 11)),
        rng.uniform(-1, 1, size=(100, 3)),
        rng.uniform(0, 1, size=100),
        np.isin(np.arange(100), np.cumsum(lengths) - 1),
        np.zeros(100, dtype=bool),
        name=name,
        env_id="Hopper-v5",
    )


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The study with each of its jobs, tiny, in a folder of its own."""
    monkeypatch.setattr(returns, "load", hopping)
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(records, "ROOT", tmp_path)
    evaluation = {"seed": 0, "episodes": 3, "walks": 200, "asked": 2, "beyond": 1, "rollouts": 2}
    methods = {method: [names[0].replace("000", "0")] for method, names in CONFIG["only"].items()}
    return CONFIG | {
        "datasets": sorted({name for names in methods.values() for name in names}),
        "only": methods,
        "seeds_of": {"paths": [0]},
        "evaluation": evaluation,
        "settings": SETTINGS,
    }


def test_all_jobs_run_and_a_record_needs_them_all(small, tmp_path, capsys):
    listed = jobs.listed(small, study.METHODS)
    assert len(listed) == len(study.METHODS)
    names = list(listed)
    assert study.main(["run", json.dumps(listed[names[0]])]) is None
    assert "train on the CPU, not on cuda" in study.main(["run", json.dumps(listed[names[1]] | {"device": "cuda"})])
    assert "is missing; run `make study NAME=decision_transformer`" in study.main(["gather", json.dumps(small)])
    assert study.main(["partial", json.dumps(small)]) is None
    assert not (tmp_path / "figures").exists()
    for name in names[1:]:
        assert study.main(["run", json.dumps(listed[name])]) is None, capsys.readouterr().err
    record = json.loads(study.gather(small).read_text())
    assert (tmp_path / "figures/studies/decision_transformer.json").is_file()
    rows = {(row["dataset"], row["method"]): row for row in record["rows"]}
    assert len(rows) == len(listed)
    graph = rows["graph-10", "paths"]
    assert 0 <= graph["optimal"] <= graph["solvable"]
    assert all(path[0] >= 0 for path in graph["paths"])
    assert len(rows["key-to-door-100", "bc"]["jump"]) == 2
    swept = rows["local:hopper-medium", "sweep"]
    assert len(swept["asked"]) == len(swept["achieved"]) == 3
    assert swept["asked"][1] == pytest.approx(hopping("").returns.max())


def rows_of(study_rows):
    record = Record("decision_transformer", "studies", rows=study_rows)
    study.claim(record)
    return {claim.id: claim for claim in record.claims}


def test_claims_pool_graphs_and_take_the_worse_sweep():
    graphs = [{"dataset": "graph-1000", "method": "paths", "optimal": n, "solvable": 20} for n in (20, 17)]
    few = {"dataset": "graph-100", "method": "paths", "shorter_than_walks": 2, "could_be_shorter": 5}
    doors = [
        {"dataset": f"key-to-door-{n}", "method": method, "success": value}
        for n, method, value in [(10000, "dt", 0.93), (1000, "dt", 0.6), (10000, "bc", 0.1)]
    ]
    sweeps = [{"dataset": name, "method": "sweep", "spearman": value} for name, value in [("a", 0.97), ("b", 0.91)]]
    claims = rows_of([*graphs, few, *doors, *sweeps])
    assert claims["graph_optimal_share"].value == pytest.approx(37 / 40)
    assert not claims["graph_optimal_share"].passed
    assert claims["graph_stitched_share"].value == pytest.approx(0.4)
    assert claims["key_to_door_10k"].passed
    assert not claims["key_to_door_1k"].passed
    assert claims["return_sweep_spearman"].value == 0.91
    assert set(rows_of(doors[:1])) == {"key_to_door_10k"}


def test_rank_correlation():
    first = np.array([1.0, 5.0, 2.0, 9.0])
    assert returns.spearman(first, np.exp(first)) == pytest.approx(1)
    assert returns.spearman(first, -first) == pytest.approx(-1)
    assert returns.spearman(first, np.array([1.0, 5.0, 9.0, 2.0])) == pytest.approx(1 - 6 * (4 + 1 + 1) / 60, abs=0.3)
