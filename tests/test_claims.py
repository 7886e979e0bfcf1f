"""The ledger names only what exists, and every claim that was measured stands in it."""

import importlib

import pytest
import yaml

from ttlib.paths import ROOT
from ttlib.records import read_all

LEDGER = yaml.safe_load((ROOT / "figures" / "claims.yaml").read_text(encoding="utf-8"))
ITEMS = [(paper, item) for paper, items in LEDGER["papers"].items() for item in items]
STATUSES = {"reproduced", "scaled down", "not attempted", "planned"}


def resolve(dotted):
    """The object behind `package.module.Class.method`; fails where a part does not exist."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            thing = getattr(thing, part)
        return thing
    raise ModuleNotFoundError(dotted)


def test_resolve_finds_methods_and_fails_on_what_is_not_there():
    assert resolve("ttlib.records.Record.claim").__name__ == "claim"
    for wrong in ("ttlib.records.Record.clam", "ttlib.recorder.Record", "nowhere.at_all"):
        with pytest.raises((AttributeError, ModuleNotFoundError)):
            resolve(wrong)


def test_all_eleven_chapters_are_listed_and_marked_as_built_where_they_are():
    assert [name[:2] for name in LEDGER["chapters"]] == [f"{number:02d}" for number in range(11)]
    built = {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert {name for name, chapter in LEDGER["chapters"].items() if chapter["built"]} == built


@pytest.mark.parametrize(("paper", "item"), ITEMS, ids=[f"{paper}: {item['item']}" for paper, item in ITEMS])
def test_an_item_leads_somewhere(paper, item):
    assert item["status"] in STATUSES
    assert item["chapter"] in LEDGER["chapters"]
    for dotted in item["functions"]:
        assert callable(resolve(dotted))
    if item["status"] in ("reproduced", "scaled down"):
        assert LEDGER["chapters"][item["chapter"]]["built"], "its chapter is not built"
        assert item["functions"], "it names no function"
    if item["status"] in ("scaled down", "not attempted"):
        assert item.get("how"), "it does not say how it is scaled down, or why it is not attempted"


def test_every_measured_claim_stands_in_the_ledger():
    presets = ["quick", *(path.name for path in (ROOT / "notebooks").glob("*") if path.is_dir()), "studies"]
    for preset in presets:
        for record in read_all(preset):
            listed = LEDGER["studies" if preset == "studies" else "chapters"][record["chapter"]]["claims"]
            assert {claim["id"] for claim in record["claims"]} <= set(listed), (preset, record["chapter"])


def test_every_listed_claim_of_a_built_chapter_is_measured():
    for name, chapter in LEDGER["chapters"].items():
        if chapter["built"]:
            record = next(record for record in read_all("quick") if record["chapter"] == name)
            assert set(chapter["claims"]) == {claim["id"] for claim in record["claims"]}, name
