"""The prediction study: all of its jobs, tiny; its curves, gaps and claims by hand."""

import json

import numpy as np
import pytest
import torch
import yaml

from ttlib import records
from ttlib.datasets.policies import Behaviour
from ttlib.model import load_model
from ttlib.paths import ROOT
from ttlib.records import Record
from ttlib.studies import jobs, prediction_curves, prediction_task
from ttlib.studies import prediction as study
from ttlib.trajectories import Trajectories

CONFIG = yaml.safe_load((ROOT / "studies/prediction.yaml").read_text())["prediction"]
TINY = {"tokens": 800, "batch": 4, "microbatch": 0, "bf16": False, "layers": 1, "heads": 2, "width": 16}
PETS = {"grid": [{"members": 2, "hidden": [8]}, {"members": 3, "hidden": [4]}]}
PETS |= {"grid_updates": 3, "updates": 4, "clone_updates": 3}
SETTINGS = {name: {"hopper": TINY | {"transitions": 3}} for name in ("tt", "tt-half")}
for transformer in SETTINGS.values():  # far enough for the past to count
    transformer["hopper"] |= {"ordered": True, "optimizer": "muon"}
SETTINGS |= {name: {"hopper": TINY} for name in ("markov", "markov-half")} | {"pets": PETS, "pets-half": PETS}
EVALUATION = {"seed": 1, "starts": 2, "validation_seed": 2, "validation_starts": 2, "horizon": 3, "context": 2}
SMALL = CONFIG | {
    "datasets": ["local:hopper-expert"],
    "settings": SETTINGS | {"simulator": {"hopper": {"words": [100, 200]}}},
    "evaluation": EVALUATION | {"samples": 13, "hopper": {"bins": "quantile"}},
}


def hopping(name):
    """A data set as small as one can be, in Hopper's dimensions."""
    rng = np.random.default_rng(0)
    return Trajectories(
        rng.normal(size=(100, 11)),
        rng.uniform(-1, 1, size=(100, 3)),
        rng.uniform(0, 1, size=100),
        np.isin(np.arange(100), [29, 69, 99]),
        np.zeros(100, dtype=bool),
        name=name,
        env_id="Hopper-v5",
    )


def behaviours(body, kind):
    weights = [(torch.randn(3, 11, generator=torch.Generator().manual_seed(0)) * 0.1, torch.zeros(3))]
    return [Behaviour(weights, torch.zeros(11), torch.ones(11), torch.full((3,), -1.0))]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The study in a folder of its own."""
    monkeypatch.setattr(prediction_task, "load", hopping)
    monkeypatch.setattr(prediction_task, "acting", behaviours)
    for module in (jobs, study, records):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    threads = torch.get_num_threads()
    yield SMALL
    torch.set_num_threads(threads)


def test_all_jobs_run_and_a_record_needs_them_all(small, tmp_path, capsys):
    listed = jobs.listed(small, study.METHODS)
    assert len(listed) == len(study.METHODS) == 7
    for name, job in listed.items():
        if name == "hopper-expert-markov-half-0":
            assert "is missing; run `make study NAME=prediction`" in study.main(["gather", json.dumps(small)])
        assert study.main(["run", json.dumps(job)]) is None, capsys.readouterr().err
        model = tmp_path / "build/studies/prediction" / name / "model.safetensors"
        assert model.is_file() == ("simulator" not in name)
    assert study.main(["gather", json.dumps(small)]) is None
    assert "| local:hopper-expert | PETS | half | recorded |" in capsys.readouterr().out
    record = json.loads((tmp_path / "figures/studies/prediction.json").read_text())
    names = {"tt_minus_pets_hopper", "pets_falls_more_hopper", "hiding_costs_markov_hopper", "pets_r2"}
    assert {claim["id"] for claim in record["claims"]} == names
    rows = record["rows"]
    curves = [row for row in rows if row["what"] == "curve"]
    assert len(curves) == 2 + 2 + 3 + 2 + 2 + 1 + 3
    (best,) = prediction_curves.find(rows, "oracle", "local:hopper-expert")
    for curve in curves:
        assert len(curve["mean"]) == len(curve["standard_error"]) == len(curve["mean_other"]) == 3
        assert (np.array(curve["mean"]) <= best["mean"]).all()
    futures = prediction_curves.find(rows, "future", "local:hopper-expert")
    assert [(row["method"], row["actions"]) for row in futures] == [("pets", "policy"), ("tt", "own")]
    assert futures[0]["came"] == futures[1]["came"] and futures[0]["drawn"] != futures[1]["drawn"]
    assert all(np.shape(row[part]) == (3, 11) for row in futures for part in ("came", "drawn"))
    gaps = prediction_curves.find(rows, "gap", "local:hopper-expert")
    assert len(gaps) == len(prediction_curves.PAIRS) - 1  # there are no 400 words
    (trained,) = prediction_curves.find(rows, "training", "local:hopper-expert", method="pets")
    assert len(trained["grid"]) == 2 and len(trained["r2"]["state"]) == len(trained["r2"]["change"]) == 11
    assert trained["training"]["settings"]["updates"] == 4


def test_what_a_record_says_of_other_jobs_stays_in_it(small, tmp_path):
    path = tmp_path / "figures/studies/prediction.json"

    def gathered(config):
        assert study.main(["gather", json.dumps(config)]) is None
        return json.loads(path.read_text())

    def rows_about(record, method):
        return [row for row in record["rows"] if row.get("method") == method]

    def gap(record):
        return prediction_curves.find(record["rows"], "gap", "local:hopper-expert", second=["pets", "policy"])[0]

    three = small | {"methods": ["pets", "tt", "simulator"]}
    for job in jobs.listed(three, study.METHODS).values():
        assert study.main(["run", json.dumps(job)]) is None
    whole = gathered(three)
    one = gathered(three | {"methods": ["tt"]})
    assert all(rows_about(one, name) == rows_about(whole, name) for name in three["methods"])
    assert len(one["rows"]) == len(whole["rows"])
    assert gap(one)["mean"] == pytest.approx(gap(whole)["mean"], abs=2e-3)
    assert "paired" not in gap(whole) and not gap(one)["paired"] and len(gap(one)["standard_error"]) == 3
    asked = one["provenance"]["parameters"]
    assert set(asked["methods"]) == set(three["methods"]) and asked["only"]["pets"] == ["local:hopper-expert"]
    assert gathered(three | {"methods": ["tt"]})["rows"] == one["rows"]  # once more: nothing doubles
    assert gathered(three)["rows"] == whole["rows"]

    path.write_text(path.read_text().replace("local:hopper-expert", "local:humanoid-expert"))
    both = gathered(small | {"methods": ["simulator"]})
    kept = [row for row in both["rows"] if row["dataset"] == "local:humanoid-expert"]
    assert [row | {"dataset": "local:hopper-expert"} for row in kept] == whole["rows"]
    claims = ({claim["id"]: claim["value"] for claim in record["claims"]} for record in (both, whole))
    assert next(claims)["tt_minus_pets_humanoid"] == next(claims)["tt_minus_pets_hopper"]
    changed = small | {"methods": ["simulator"], "settings": small["settings"] | {"tt": {"humanoid": {"words": 200}}}}
    assert "tt on local:humanoid-expert was measured with other" in study.main(["gather", json.dumps(changed)])

    elsewhere = json.dumps(whole).replace(
        json.dumps(rows_about(whole, "pets")[-2]["came"]), json.dumps([[0.0] * 11] * 3)
    )
    path.write_text(elsewhere)
    assert "predicted other starts than pets" in study.main(["gather", json.dumps(three | {"methods": ["tt"]})])


def test_words_can_be_finer_than_the_histogram(small, tmp_path):
    job = jobs.listed(small, study.METHODS)["hopper-expert-tt-half-0"]
    finer = {"hopper": job["settings"]["hopper"] | {"words": 150, "dropout": 0.0}}
    assert study.main(["run", json.dumps(job | {"settings": finer})]) is None
    assert study.main(["run", json.dumps(jobs.listed(small, study.METHODS)["hopper-expert-simulator-0"])]) is None
    folder = tmp_path / "build/studies/prediction"
    model, tokenizer, _ = load_model(folder / "hopper-expert-tt-half-0/model.safetensors")
    assert (model.vocabulary, tokenizer.bins.size) == (151, 150)  # one more is for what is hidden
    words, world = (
        json.loads((folder / f"hopper-expert-{name}-0.json").read_text()) for name in ("tt-half", "simulator")
    )
    assert words["row"]["starts"][0]["own"]["oracle"] == world["row"]["starts"][0]["policy"]["oracle"]


@pytest.mark.parametrize("method", ["tt-half", "pets", "simulator"])
def test_a_killed_job_goes_on_from_the_starts_it_has_done(small, tmp_path, method):
    job = jobs.listed(small, study.METHODS)[f"hopper-expert-{method}-0"]
    assert study.main(["run", json.dumps(job)]) is None
    folder = tmp_path / "build/studies/prediction" / jobs.name_of(job)
    whole, done = (json.loads((folder / name).read_text()) for name in ("result.json", "starts.json"))
    (folder / "result.json").unlink()
    (folder / "starts.json").write_text(json.dumps(done | {"starts": done["starts"][:1]}))
    assert study.main(["run", json.dumps(job)]) is None
    again = json.loads((folder / "result.json").read_text())
    assert again["row"]["starts"] == whole["row"]["starts"] and len(whole["row"]["starts"]) == 2
    assert again["row"]["future"] == whole["row"]["future"]


@pytest.mark.parametrize("half", ["", "-half"])
def test_the_markovian_twin_of_a_shipped_model_is_not_trained(small, tmp_path, half):
    trained = jobs.listed(small, study.METHODS)[f"hopper-expert-tt{half}-0"]
    assert study.main(["run", json.dumps(trained)]) is None
    shipped = tmp_path / "data/checkpoints/shipped.safetensors"
    shipped.parent.mkdir(parents=True)
    (tmp_path / f"build/studies/prediction/hopper-expert-tt{half}-0/model.safetensors").rename(shipped)
    settings = {"hopper": {"checkpoint": "shipped", "actions": ["own"]}}
    rows = {}
    for method in (f"tt{half}", f"markov{half}"):
        job = trained | {"method": method, "settings": settings}
        assert study.main(["run", json.dumps(job)]) is None
        folder = tmp_path / "build/studies/prediction" / jobs.name_of(job)
        rows[method] = json.loads((folder / "result.json").read_text())["row"]
        assert not (folder / "model.safetensors").exists()
    whole, twin = rows.values()
    assert [row["training"]["model"]["transitions"] for row in (whole, twin)] == [3, 2]
    assert whole["training"]["tokens"] == twin["training"]["tokens"] > 0
    assert whole["starts"] != twin["starts"]
    other = trained | {"method": "tt" if half else "tt-half", "settings": settings}
    assert "shipped.safetensors is no model of local:hopper-expert" in study.main(["run", json.dumps(other)])


def test_another_bodys_settings_do_not_change_a_job(small):
    job = jobs.listed(small, study.METHODS)["hopper-expert-tt-0"]
    other = job | {"settings": job["settings"] | {"humanoid": {"tokens": 5}}}
    assert study.complete(job) == study.complete(other) != study.complete(job | {"settings": {}})
    assert study.complete(study.complete(job)) == study.complete(job)
    missing = job | {"settings": {"checkpoint": "fish"}}
    assert "fish.safetensors is missing; restore it" in study.main(["run", json.dumps(missing)])


def test_data_of_several_policies_are_refused(small, monkeypatch):
    monkeypatch.setattr(prediction_task, "acting", lambda body, kind: 2 * behaviours(body, kind))
    job = jobs.listed(small, study.METHODS)["hopper-expert-pets-0"]
    assert "2 policies made local:hopper-expert" in study.main(["run", json.dumps(job)])


def start(**shares):
    """One start's measurements over three steps; the oracle is 10."""
    return {mode: {"1.0": values, "0.1": values, "oracle": [10.0] * 3} for mode, values in shares.items()}


def test_gaps_are_taken_start_by_start_and_claims_from_the_smallest(monkeypatch):
    about = {
        "dataset": "local:hopper-expert",
        "seed": 0,
        "fingerprint": "f",
        "minutes": 1.0,
        "training": {"minutes": 2.0},
    }
    tt = [start(own=[-1, -2.0, -3]), start(own=[-2, -4.0, -4])]
    pets = [start(policy=[-1, -3.0, -9]), start(policy=[-1, -5.0, -8])]
    widths = {"settings": {"members": 5, "hidden": [8, 8]}}
    grid = [
        widths | {"r2": {"state": [0.99, 0.3, 0.91]}, "log_likelihood": -3.0, "minutes": 0.1},
        widths | {"r2": {"state": [0.5, 0.8, 0.2]}, "log_likelihood": -2.0, "minutes": 0.2},
    ]
    r2 = {"r2": {"state": [0.98, 0.1, 0.93]}, "grid": grid}
    rows = [about | {"method": "tt", "starts": tt}, about | {"method": "pets", "starts": pets} | r2]
    rows += [about | {"method": "markov", "starts": [start(own=[-1, -2.5, -4]), start(own=[-2, -4.0, -6])]}]
    rows += [about | {"method": "tt-half", "starts": 2 * [start(own=[-5, -5.0, -5])]}]
    rows += [about | {"method": "markov-half", "starts": [start(own=[-6, -8.0, -8]), start(own=[-6, -8.0, -9])]}]
    monkeypatch.setattr(prediction_curves, "FIRST", 2)
    rows = prediction_curves.curves(rows)
    gap, *twins = [row for row in rows if row["what"] == "gap"]
    assert gap["mean"] == [-0.5, 1.0, 5.0] and gap["standard_error"] == pytest.approx([0.5, 0.0, 1.0])
    (curve,) = prediction_curves.find(rows, "curve", "local:hopper-expert", method="tt")
    assert curve["mean"] == [8.5, 7.0, 6.5]
    record = Record("prediction", "studies", rows=rows)
    prediction_curves.claim(record)
    claims = {claim.id: claim for claim in record.claims}
    assert claims["tt_minus_pets_hopper"].value == 1.0 and "at step 2" in claims["tt_minus_pets_hopper"].note
    assert claims["pets_falls_more_hopper"].value == 7.5 - 2.0
    assert [twin["overall"]["mean"] for twin in twins] == [0.875, 3.25]
    assert twins[0]["overall"]["standard_error"] == pytest.approx(0.125)
    assert claims["hiding_costs_markov_hopper"].value == 2.375
    assert "loses 0.88 ± 0.12 nats with all" in claims["hiding_costs_markov_hopper"].note
    assert claims["pets_r2"].value == 0.93 and not claims["pets_r2"].passed
    assert "1 of its 3 left out" in claims["pets_r2"].note
    assert "| local:hopper-expert | TT | all | own | 8.5 ± 0.5 | - | - | - |" in prediction_curves.table(rows)
    assert "| local:hopper-expert | discrete oracle | all | - | 10.0 ± 0.0 |" in prediction_curves.table(rows)
    tuned = prediction_curves.grid_table(rows).splitlines()[2:]
    assert tuned[0] == "| local:hopper-expert | all | 5 | 8 x 8 | -3.00 | 0.300 | 0.733 | 0.1 |  |"
    assert tuned[1].endswith("| -2.00 | 0.200 | 0.500 | 0.2 | * |")
    grid[0]["r2"]["state"] = grid[1]["r2"]["state"] = [0.1, 0.1, 0.1]
    empty = Record("prediction", "studies", rows=prediction_curves.find(rows, "training", "local:hopper-expert"))
    prediction_curves.claim(empty)
    assert [(claim.id, claim.passed) for claim in empty.claims] == [("pets_r2", False)]
