"""Every committed notebook is fit to be committed, and the check finds what is not."""

import copy
import json
import re

import pytest

from tests.chapter import CELLS, notebook
from ttlib import notebooks
from ttlib.paths import ROOT

COMMITTED = sorted((ROOT / "notebooks").rglob("*.ipynb"))
COMMITTED = [path for path in COMMITTED if ".ipynb_checkpoints" not in path.parts]


def test_every_committed_notebook_is_fit_to_be_committed():
    assert [f"{path.name}: {problem}" for path in COMMITTED for problem in notebooks.problems(path)] == []


def test_every_notebook_is_a_chapter():
    assert [path.name for path in COMMITTED if path.parent.name != "notebooks" or not path.name[:2].isdigit()] == []


def executed():
    """The tiny chapter as a kernel would leave it, with what belongs to one run."""
    made = notebook()
    for count, cell in enumerate(made["cells"][1:], start=1):
        cell["execution_count"] = count
        cell["metadata"] |= {"execution": {"iopub.execute_input": "2021-06-03T00:00:00Z"}, "papermill": {"duration": 1}}
    made["cells"][2]["outputs"] = [
        {"output_type": "execute_result", "execution_count": 2, "metadata": {"x": 1}, "data": {"text/plain": "0.0"}},
        {"output_type": "stream", "name": "stderr", "text": "a: 1%\r"},
        {"output_type": "stream", "name": "stdout", "text": ["first\n", "sec"]},
        {"output_type": "stream", "name": "stderr", "text": "\r      \r"},
        {"output_type": "stream", "name": "stdout", "text": "ond in /somewhere/project/figures/x.png\n"},
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"image/png": "aGk=", "text/plain": "<A at 0x7f00aa11>"},
        },
    ]
    made["cells"][4]["outputs"] = stream("stdout", "seed 0\n")
    for number in (6, 8):
        made["cells"][number]["outputs"] = stream("stdout", "Solved.\n")
    injected = {"cell_type": "code", "execution_count": 9, "id": "x", "outputs": [], "source": "seed = 1"}
    made["cells"].insert(2, injected | {"metadata": {"tags": ["injected-parameters"]}})
    made["metadata"] = {"papermill": {"output_path": "/tmp/x"}, "kernelspec": {"name": "my-env"}, "widgets": {}}
    return made


@pytest.fixture
def fit():
    return notebooks.clean(executed(), root="/somewhere/project")


def problems(folder, made):
    path = folder / "05_tiny.ipynb"
    notebooks.write(path, made)
    return notebooks.problems(path)


def test_links_between_chapters_lead_somewhere():
    for path in COMMITTED:
        text = "".join("".join(c["source"]) for c in notebooks.read(path)["cells"] if c["cell_type"] == "markdown")
        for target in re.findall(r"\]\(([^):#]+\.ipynb)", text):
            assert (path.parent / target).is_file(), f"{path.name} links to {target}, which is not there"


def test_cleaning_takes_out_what_belongs_to_one_run_and_nothing_else(tmp_path, fit):
    assert problems(tmp_path, fit) == []
    assert [notebooks.text(cell["source"]) for cell in fit["cells"][1:]] == [source for _, source in CELLS]
    value, printed, picture = fit["cells"][2]["outputs"]
    assert value["data"] == {"text/plain": ["0.0"]} and value["metadata"] == {}
    assert printed["text"] == ["first\n", "second in figures/x.png\n"]
    assert picture["data"] == {"image/png": "aGk=", "text/plain": ["<A>"]}
    assert fit["cells"][8]["metadata"]["tags"] == ["solution", "nbval-check-output"]
    assert fit["cells"][8]["metadata"]["jupyter"] == {"source_hidden": True}
    assert "papermill" not in json.dumps(fit) and "2021" not in json.dumps(fit)
    assert fit["metadata"]["kernelspec"]["name"] == "python3"


def test_cleaning_twice_changes_nothing(fit):
    assert notebooks.clean(copy.deepcopy(fit)) == fit


def test_the_file_is_stable_and_a_notebook(tmp_path, fit):
    import nbformat

    notebooks.write(tmp_path / "a.ipynb", fit)
    assert notebooks.read(tmp_path / "a.ipynb") == fit
    nbformat.validate(nbformat.read(tmp_path / "a.ipynb", as_version=4))
    assert [path.name for path in tmp_path.iterdir()] == ["a.ipynb"]


def change(made, number, **changes):
    made["cells"][number] |= changes


def error():
    return [{"output_type": "error", "ename": "ValueError", "evalue": "x", "traceback": []}]


def stream(name, text):
    return [{"output_type": "stream", "name": name, "text": text}]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda made: change(made, 2, source="seed + 1"), "code cell 2 was changed after its output was made"),
        (lambda made: change(made, 2, execution_count=3), "not run once from top to bottom"),
        (lambda made: change(made, 2, execution_count=None), "not run once from top to bottom"),
        (lambda made: made["cells"].pop(2), "not run once from top to bottom"),
        (lambda made: change(made, 3, outputs=error()), "code cell 3 ends in an error"),
        (
            lambda made: change(made, 4, outputs=stream("stderr", "beware")),
            "code cell 4 is checked, but prints a warning",
        ),
        (
            lambda made: change(made, 3, outputs=stream("stdout", "/home/someone/x")),
            "a path of one machine, /home/someone",
        ),
        (lambda made: made["cells"][2]["metadata"].update(execution={}), "code cell 2 holds metadata of one run"),
        (lambda made: made["cells"][2]["metadata"].update(tags=["parameters"]), "exactly one cell tagged parameters"),
        (
            lambda made: made["cells"][1]["metadata"].update(tags=[]),
            "exactly one cell tagged parameters, but here are 0",
        ),
        (
            lambda made: change(made, 1, source='preset = "quick"\nx = 2 * 3'),
            "x in the parameters cell is not a literal",
        ),
        (lambda made: change(made, 1, source="import os"), "holds only `name = literal`, but line 1 is not one"),
        (lambda made: change(made, 1, source='preset = "paper"'), 'does not set preset = "quick"'),
        (lambda made: change(made, 3, source=""), "code cell 3 is empty"),
        (lambda made: change(made, 3, source="x = 1\n" * 500), "lines of code, 450 are allowed"),
        (lambda made: change(made, 0, source="word " * 4001), "4001 words, 4000 are allowed"),
        (lambda made: change(made, 3, outputs=stream("stdout", "x" * 1_000_000)), "bytes, 1,000,000 are allowed"),
        (
            lambda made: [cell["metadata"].pop("tags", 0) for cell in made["cells"]],
            "no cell is tagged nbval-check-output",
        ),
        (lambda made: made["metadata"]["kernelspec"].update(name="mine"), "the kernel is 'mine', not python3"),
        (lambda made: made["metadata"].update(papermill={}), "metadata of one run"),
        (lambda made: made["cells"][2]["metadata"].update(tags=["exercise"]), "no code cell tagged solution after it"),
        (
            lambda made: made["cells"][3]["metadata"].update(tags=["solution"]),
            "is a solution, but does not print Solved.",
        ),
        (lambda made: made["cells"][3]["metadata"].update(tags=["solution"]), "the solution in cell 3 is not folded"),
        (lambda made: made["cells"][3].update(id="cell-001"), "a cell has no id of its own"),
    ],
)
def test_what_is_not_fit_is_named(tmp_path, fit, spoil, sentence):
    spoil(fit)
    found = problems(tmp_path, fit)
    assert any(sentence in problem for problem in found), found


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": [], "nbformat": 3}', '{"nbformat": 4}'])
def test_what_is_not_a_notebook_is_named(tmp_path, content):
    path = tmp_path / "05_tiny.ipynb"
    path.write_text(content)
    assert notebooks.problems(path) == [f"{path} is not a whole notebook in format 4; restore it from git."]
    assert "there is no notebook" in notebooks.problems(tmp_path / "none.ipynb")[0]


def test_words_are_counted_without_formulas_code_and_addresses():
    cells = [
        {"cell_type": "markdown", "source": "Two words [a link](x/y.md) $a_b c$ `code here` and $$\nmore\n$$ it's"}
    ]
    assert notebooks.count_words({"cells": cells}) == 6


def test_code_lines_leave_out_blanks_and_comments():
    cells = [{"cell_type": "code", "source": "x = 1\n\n# why\n  # also\ny = 2  # yes\n"}]
    assert notebooks.count_code({"cells": cells}) == 2
