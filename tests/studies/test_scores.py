"""Scores: tables, bars and claims follow from the rows of a record, and the quoted numbers from what was published."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ttlib import report
from ttlib.records import Record, read
from ttlib.studies import scores


def row(dataset, method, score, seed=0, error=1.0):
    return {"dataset": dataset, "method": method, "seed": seed, "score": score, "standard_error": error}


def full(tt=60.0, bc=40.0, uniform=30.0):
    rows = []
    for number, name in enumerate(f"local:{name}" for name in scores.SETS):
        rows += [row(name, "bc", bc + number), row(name, "iql", bc + 10), row(name, "tt-quantile", tt + number)]
        if "medium-expert" in name:
            rows.append(row(name, "tt-uniform", uniform + number))
    return rows


def others():
    """Rows of the baselines that `full` leaves out, worse than those in it."""
    return [row(f"local:{name}", method, 20.0) for name in scores.SETS for method in ("bc10", "dt")]


def test_the_quoted_columns_have_the_means_that_were_published():
    published = {"BC": 47.7, "MBOP": 47.8, "BRAC": 36.9, "CQL": 77.6, "DT": 74.7, "TT (quantile)": 78.9}
    assert {name: round(float(np.mean(values)), 1) for name, values in scores.PUBLISHED.items()} == published
    assert {len(values) for values in scores.PUBLISHED.values()} == {len(scores.SETS)} == {9}


def test_seeds_are_averaged_and_their_spread_is_the_error():
    record = {"rows": [row("a", "bc", 10.0, 0), row("a", "bc", 14.0, 1), row("b", "bc", 5.0, error=3.0)]}
    found = scores.cells(record)
    assert found["a", "bc"] == (12.0, pytest.approx(2.0)) and found["b", "bc"] == (5.0, 3.0)
    assert scores.mean_of(found, "bc", ["a", "b"]) == (8.5, pytest.approx(np.sqrt(4 + 9) / 2))
    assert scores.mean_of(found, "iql", ["a", "b"]) is None


def test_the_table_has_what_was_measured_beside_what_is_quoted(tmp_path):
    record = Record("offline_rl", "studies", rows=full())
    path = record.write(tmp_path / "figures" / "studies")
    lines = report.table("scores/offline_rl", tmp_path).splitlines()
    assert lines == scores.table(read(path)).splitlines()
    heads = [cell.strip() for cell in lines[0].strip("|").split("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert heads[:5] == ["data set", "BC", "IQL", "TT (uniform)", "TT (quantile)"] and len(cells) == 10
    hopper = dict(zip(heads, cells[1], strict=True))
    assert hopper["data set"] == "local:hopper-medium-expert" and hopper["TT (quantile)"] == "61.0 ± 1.0"
    assert hopper["TT (uniform)"] == "31.0 ± 1.0" and hopper["TT (quantile), paper"] == "110.0"
    mean = dict(zip(heads, cells[-1], strict=True))
    assert mean["BC"] == "44.0 ± 0.3" and mean["TT (uniform)"] == "-" and mean["CQL, paper"] == "77.6"


def test_d4rl_names_stand_in_the_same_place_and_others_are_not_quoted():
    record = {"rows": [row("d4rl:walker2d-medium-v2", "bc", 70.0), row("file:mine.npz", "bc", 1.0, error=None)]}
    lines = scores.table(record).splitlines()
    assert "| d4rl:walker2d-medium-v2 | 70.0 ± 1.0 | 77.3 |" in lines[2]
    assert lines[3].startswith("| file:mine.npz | 1.0 | - |") and lines[4].startswith("| mean | 35.5 | - |")


def test_the_claims_are_what_the_rows_say():
    record = Record("offline_rl", "studies", rows=full(tt=60, bc=40, uniform=30) + others())
    scores.claim(record)
    claims = {claim.id: claim for claim in record.claims}
    assert claims["tt_over_bc_medium_replay"].value == pytest.approx(68 / 48)
    assert claims["tt_over_bc_medium_replay"].passed and claims["tt_over_bc_medium_replay"].paper == 2.24
    assert claims["best_baseline_mean"].value == 50 and claims["tt_mean"].value == 64 and claims["tt_mean"].passed
    assert (
        claims["quantile_minus_uniform"].value == 30 and "standard error 0.8" in claims["quantile_minus_uniform"].note
    )

    short = Record("offline_rl", "studies", rows=full(tt=45) + others())
    scores.claim(short)
    failed = {claim.id for claim in short.claims if not claim.passed}
    assert failed == {"tt_over_bc_medium_replay", "tt_mean"}


def test_a_claim_without_its_rows_is_not_made():
    record = Record("offline_rl", "studies", rows=[r for r in full() if r["dataset"] != "local:hopper-medium-replay"])
    scores.claim(record)
    assert [claim.id for claim in record.claims] == ["quantile_minus_uniform"]


def test_before_all_baselines_have_been_measured_plans_can_be_behind_but_not_ahead():
    def claims_of(tt):
        rows = [r for r in full(tt=tt) + others() if (r["dataset"], r["method"]) != ("local:hopper-medium", "dt")]
        record = Record("offline_rl", "studies", rows=rows)
        scores.claim(record)
        return {claim.id: claim for claim in record.claims}

    assert not {"tt_mean", "best_baseline_mean"} & set(claims_of(tt=60))  # ahead of IQL's 50, but DT may have more
    behind = claims_of(tt=40)
    assert not behind["tt_mean"].passed and behind["tt_mean"].band == (50.0, None)
    assert behind["best_baseline_mean"].value == 50 and "DT not measured on all" in behind["best_baseline_mean"].note


def test_the_bars_are_the_means_of_the_methods_measured_everywhere():
    fig, axes = plt.subplots(1, 2)
    scores.bars(axes[0], {"rows": full()})
    scores.published_bars(axes[1])
    assert [bar.get_height() for bar in axes[0].patches] == pytest.approx([44.0, 50.0, 64.0])
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["BC", "IQL", "TT\n(quantile)"]
    assert axes[1].patches[-1].get_height() == pytest.approx(78.88, abs=0.01)
    plt.close(fig)
