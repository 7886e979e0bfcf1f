"""The README says what the records say, and the table that ends the batch does too."""

import json
import re
from pathlib import Path

import pytest

from tests.chapter import NAME, project
from ttlib import batch, report
from ttlib.paths import ROOT
from ttlib.records import Record


def test_the_readme_says_what_the_records_say():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == report.readme(), "run `make report`"
    assert len(report.TABLE.findall(text)) == text.count("<!-- table:") == text.count("<!-- end -->") > 0


def test_every_file_that_the_readme_links_to_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


@pytest.fixture
def root(tmp_path):
    """A project with one chapter that ran, and its record."""
    root = project(tmp_path)
    record = Record(NAME, seeds=[0])
    record.claim("reach_rate", 0.9941, "fraction", (0.99, 1.0), paper=0.5)
    record.claim("path_ratio", 1.25, "ratio", (1.0, 1.15))
    record.write(root / "figures" / "quick")
    notebook, measured = batch.outputs(NAME, "quick", root)
    notebook.parent.mkdir(parents=True)
    measured.write_text(json.dumps({"minutes": 1.5, "peak_mib": 900, "record": True}))
    return root


def test_a_table_is_written_between_its_markers_and_follows_the_records(root):
    around = (
        "before\n<!-- table:claims/quick -->\nold\n<!-- end -->\nbetween\n<!-- table:cost/quick -->\n<!-- end -->\n"
    )
    Path(root / "README.md").write_text(around)
    text = report.readme(root)
    assert text.startswith("before\n<!-- table:claims/quick -->\n| chapter |") and "old" not in text
    assert f"| {NAME} | `reach_rate` | 0.994 | fraction | [0.99, 1.00] | 0.500 | PASS |\n" in text
    assert f"| {NAME} | `path_ratio` | 1.25 | ratio | [1.00, 1.15] | - | FAIL |\n<!-- end -->\nbetween\n" in text
    Path(root / "README.md").write_text(text)
    assert report.readme(root) == text
    path = root / "figures" / "quick" / f"{NAME}.json"
    path.write_text(path.read_text().replace("0.9941", "0.9951"))
    assert report.readme(root) != text


def test_a_marker_for_no_table_is_named(root):
    Path(root / "README.md").write_text("<!-- table:clams/quick -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="README.md asks for a table 'clams/quick'"):
        report.readme(root)


def test_the_batch_ends_with_cost_and_claims_of_each_chapter(root):
    text, ran = report.batch_table("quick", root=root)
    first, second = text.splitlines()[2:]
    assert first.split() == [NAME, *"1.50 900 reach_rate 0.994 fraction [0.99, 1.00] 0.500 PASS".split()]
    assert second.split() == "path_ratio 1.25 ratio [1.00, 1.15] - FAIL".split()
    assert ran


def test_a_chapter_that_did_not_run_is_told_though_an_old_record_is_there(root):
    batch.outputs(NAME, "quick", root)[1].unlink()
    text, ran = report.batch_table("quick", root=root)
    assert "did not run to its end" in text and "reach_rate" not in text and not ran


def test_a_study_is_shown_by_its_rows(root):
    rows = [{"method": "TT", "score": 104.123}, {"method": "BC", "score": 52}]
    Record("imitation", preset="studies", rows=rows).write(root / "figures" / "studies")
    assert report.table("rows/imitation", root).splitlines()[2:] == ["| TT | 104 |", "| BC | 52 |"]
