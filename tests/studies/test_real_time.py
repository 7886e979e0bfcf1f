"""The study of planning in real time: searches of all sizes, ordered, and what is claimed of them."""

import pytest

from ttlib import records
from ttlib.records import Record
from ttlib.studies import jobs, methods, real_time


def row(method, score, error=3.0):
    return {"method": method, "seed": 0, "score": score, "standard_error": error, "mean_length": 900.0}


ROWS = [
    row("bc", 50.0, 4.0),
    row("tt-beam-16-horizon-5", 85.0),
    row("tt-beam-4-horizon-3", 70.0),
    row("tt-beam-16-horizon-1", 48.0),
    row("tt-beam-1-horizon-1", 45.0, None),
]


def test_a_size_is_the_planner_of_the_reference_code_but_for_its_size():
    settings = methods.METHODS["tt-beam-8-horizon-5"][0]("local:hopper-medium-expert")
    assert settings == methods.planner("local:hopper-medium-expert") | {"beam_width": 8, "horizon": 5}
    job = {"dataset": "local:hopper-medium-expert", "method": "tt-beam-8-horizon-5", "seed": 0}
    assert methods.checkpoint_of(job) == methods.checkpoint_of(job | {"method": "tt-quantile"})
    assert jobs.name_of(job) == "hopper-medium-expert-tt-beam-8-horizon-5-0"


def test_searches_are_ordered_by_what_they_write():
    assert list(real_time.sizes(ROWS)) == [(1, 1), (4, 3), (16, 1), (16, 5)]
    lines = real_time.table(ROWS).splitlines()[2:]
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| -", "-"],
        ["| 1", "1"],
        ["| 4", "3"],
        ["| 16", "1"],
        ["| 16", "5"],
    ]
    assert lines[0] == "| - | - | 50.0 ± 4.0 | 900 |"


def test_the_smallest_and_the_largest_search_are_held_against_no_search():
    record = Record("real_time", "studies", rows=ROWS)
    real_time.claim(record)
    small, large = record.claims
    assert (small.id, small.value, small.passed) == ("gain_of_the_smallest_search", -5.0, False)
    assert (large.id, large.value, large.passed) == ("gain_of_the_largest_search", 35.0, True)
    assert small.note == "beam 1, horizon 1, less BC; standard error 4.0" and "error 5.0" in large.note


@pytest.mark.parametrize("rows", [ROWS[:2], ROWS[1:], []])
def test_nothing_is_claimed_of_what_was_not_measured(rows):
    record = Record("real_time", "studies", rows=rows)
    real_time.claim(record)
    assert record.claims == []


def test_the_record_has_the_rows_and_the_claims(monkeypatch, tmp_path):
    monkeypatch.setattr(real_time.rollouts, "record", lambda study, config: Record(study, "studies", config, rows=ROWS))
    monkeypatch.setattr(records, "ROOT", tmp_path)
    path, table = real_time.gather({})
    written = records.read(path)
    assert path == tmp_path / "figures/studies/real_time.json" and len(written["rows"]) == len(ROWS)
    assert [claim["id"] for claim in written["claims"]] == ["gain_of_the_smallest_search", "gain_of_the_largest_search"]
    assert table == real_time.table(ROWS)


def test_a_second_row_of_a_method_is_refused():
    with pytest.raises(ValueError, match="two rows of bc"):
        real_time.sizes([*ROWS, ROWS[0] | {"seed": 1}])
