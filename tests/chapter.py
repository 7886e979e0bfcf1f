"""A tiny project with one chapter, for the tests of the batch and of the notebook checks."""

import json
import shutil

from ttlib.paths import ROOT

NAME = "05_tiny"
CELLS = [
    ("parameters", 'preset = "quick"\nseed = 0\nrate = 0.5\nstop_at = ""\nnames = ["a", "b"]'),
    ("", 'import pathlib, time\npathlib.Path("../ran").open("a").write(f"{preset} {seed}\\n")\nseed * rate'),
    ("", 'if stop_at == "error":\n    raise ValueError("a bin is empty")\nif stop_at == "long":\n    time.sleep(60)'),
    ("nbval-check-output", 'print("seed", seed)'),
    ("exercise", 'print("Not solved yet.")'),
    ("solution", 'print("Solved.")'),
    ("exercise", 'print("Not solved yet.")'),
    ("solution", 'print("Solved.")'),
]


def notebook(cells=CELLS):
    made = [{"cell_type": "markdown", "id": "text", "metadata": {}, "source": "# Tiny\n\nA line of text."}]
    for number, (tag, source) in enumerate(cells):
        cell = {"cell_type": "code", "id": f"code-{number}", "execution_count": None, "outputs": [], "source": source}
        made.append(cell | {"metadata": {"tags": [tag] if tag else []}})
    return {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def project(folder, **parameters):
    """Write the project; `parameters` are those of a preset named `other`. Gives the folder."""
    (folder / "notebooks" / "other").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "data").mkdir()
    (folder / "notebooks" / f"{NAME}.ipynb").write_text(json.dumps(notebook()))
    lines = "".join(f"{key}: {value}\n" for key, value in parameters.items())
    (folder / "notebooks" / "other" / f"{NAME}.yaml").write_text(lines)
    for file in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / file, folder)
    (folder / "ttlib").mkdir()  # marks the root; the installed package is what runs
    return folder
