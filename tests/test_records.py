"""Records: bands, verdicts, what is written, and what is refused."""

import json
import math

import numpy as np
import pytest

from ttlib import records
from ttlib.records import Record


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = Record("05_four_rooms", parameters={"seed": 3}, seeds=[3, np.int64(4)], datasets={"local:x": "ab12"})
    record.claim("reach_rate", np.float32(0.5), "fraction", (0.25, 1), paper=None)
    record.claim("ratio", 1.5, "ratio", (1.0, 1.25), paper="about 1", note="another map")
    path = record.write(tmp_path)
    assert path == tmp_path / "05_four_rooms.json"
    found = records.read(path)
    assert found["claims"] == [
        {"id": "reach_rate", "value": 0.5, "unit": "fraction", "band": [0.25, 1.0], "paper": None, "passed": True},
        {
            "id": "ratio",
            "value": 1.5,
            "unit": "ratio",
            "band": [1.0, 1.25],
            "paper": "about 1",
            "passed": False,
            "note": "another map",
        },
    ]
    provenance = found["provenance"]
    keys = "commit lock seeds datasets device torch minutes peak_mib parameters"
    assert set(provenance) == set(keys.split())
    assert provenance["seeds"] == [3, 4] and provenance["datasets"] == {"local:x": "ab12"}
    assert provenance["peak_mib"] > 10 and len(provenance["lock"]) == 12


@pytest.mark.parametrize(
    ("value", "band", "passed"),
    [
        (0.99, (0.99, 1.0), True),
        (1.0, (0.99, 1.0), True),
        (np.nextafter(0.99, 0), (0.99, 1.0), False),
        (np.nextafter(1.0, 2), (0.99, 1.0), False),
        (-1e9, (None, 3), True),
        (1e9, (3, None), True),
        (2, (3, None), False),
        (math.nan, (None, None), False),
        (math.inf, (0, None), False),
    ],
)
def test_a_claim_passes_where_its_value_lies_in_the_band(value, band, passed):
    claim = Record("x").claim("id", value, "unit", band)
    assert claim.passed is passed
    assert (claim.value is None) == (not math.isfinite(value))


def test_the_verdict_prints_no_measured_value(capsys):
    record = Record("x")
    record.claim("reach_rate", 0.9931, "fraction", (0.99, 1.0))
    record.claim("score", 12.5, "points", (100, None))
    record.claim("error", 2e-5, "nats", (0, 1e-4))
    record.verdict()
    assert capsys.readouterr().out == (
        "reach_rate in [0.99, 1.00]: PASS\nscore in [100, ∞): FAIL\nerror in [0.00, 0.0001]: PASS\n"
    )


def test_a_claim_without_any_band_is_not_said_to_pass(capsys):
    record = Record("x")
    record.claim("reach_rate", 0.5, "fraction", (None, None))
    record.claim("score", math.nan, "points", (None, None))
    record.verdict()
    assert capsys.readouterr().out == "reach_rate in (-∞, ∞): not judged\nscore in (-∞, ∞): FAIL\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9942, "0.994"), (3120.4, "3,120"), (4.2e-5, "4.2e-05"), (0, "0.00"), (12, "12.0"), (None, "not finite")],
)
def test_a_value_is_printed_in_three_digits(value, text):
    assert records.number_text(value) == text


def test_a_claim_twice_and_an_upside_down_band_are_refused():
    record = Record("05_four_rooms")
    record.claim("reach_rate", 1, "fraction", (0, 1))
    with pytest.raises(ValueError, match="reach_rate is stated twice in 05_four_rooms"):
        record.claim("reach_rate", 1, "fraction", (0, 1))
    with pytest.raises(ValueError, match=r"band of other must be low <= high, but it is \[2.0, 1.0\]"):
        record.claim("other", 1, "fraction", (2, 1))


def test_what_json_cannot_hold_is_refused_before_the_old_record_is_lost(tmp_path):
    path = Record("x").write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="a record cannot hold"):
        Record("x", parameters={"model": object()}).write(tmp_path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"chapter": "x", "claims": [{"id": "a"}], "provenance": {}}'])
def test_what_is_not_a_record_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is not a .*run the chapter or study"):
        records.read(tmp_path / "x.json")


def test_a_record_under_another_chapters_name_is_refused(tmp_path):
    path = Record("x").write(tmp_path)
    path.rename(tmp_path / "y.json")
    with pytest.raises(ValueError, match=r"y\.json is not a whole record of y"):
        records.read(tmp_path / "y.json")
    with pytest.raises(FileNotFoundError, match="there is no record"):
        records.read(path)


def test_a_study_has_rows(tmp_path):
    path = Record("offline_rl", preset="studies", rows=[{"method": "TT", "score": np.float64(3.5)}]).write(tmp_path)
    assert json.loads(path.read_text())["rows"] == [{"method": "TT", "score": 3.5}]
