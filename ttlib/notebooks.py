"""Notebooks as files: what a committed chapter must look like, and how it is made so.

`clean` takes what belongs to one run out of an executed notebook; `problems` names
everything that a committed notebook must not have. Both work on the plain JSON of the
file, so nothing is executed here and a whole folder is checked in a moment.
"""

import ast
import hashlib
import json
import re
import sys
from pathlib import Path

LARGEST_FILE = 1_000_000  # bytes, outputs included
CODE_LINES = 450  # a chapter's code without blank lines and comments
WORDS = 4_000  # a chapter's text
EXERCISES = 2  # at least
CHECKED = "nbval-check-output"
KEPT_TAGS = {"parameters", "exercise", "solution", CHECKED, "nbval-skip", "nbval-raises-exception", "hide-input"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# A folder of somebody's machine: a POSIX home, temporary or system folder, or a Windows drive.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|Users|root|tmp|var|private|mnt|opt|usr|work|workspace|content)/[\w.\-/]+|\b[A-Z]:\\\w"
)


def read(path):
    """A notebook as a dict.

    Raises:
        FileNotFoundError: there is no such notebook.
        ValueError: the file is not a notebook in format 4.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no notebook {path}.")
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        whole = notebook["nbformat"] == 4 and isinstance(notebook["cells"], list)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is not a whole notebook in format 4; restore it from git.")
    return notebook


def write(path, notebook):
    """Write a notebook as JupyterLab does (indent 1, keys sorted), by way of a temporary name."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(
            json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def text(value):
    """The text of a cell or output: the format stores a string or a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def tags(cell):
    return cell.get("metadata", {}).get("tags", [])


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def parameters(notebook):
    """The defaults of the cell tagged `parameters`: a dict from name to literal value.

    Raises:
        ValueError: there is not exactly one such cell, or it holds something else than
            `name = literal` lines.
    """
    cells = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"a chapter has exactly one cell tagged parameters, but here are {len(cells)}.")
    found = {}
    for node in ast.parse(text(cells[0]["source"])).body:
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(target, ast.Name):
            raise ValueError(f"the parameters cell holds only `name = literal`, but line {node.lineno} is not one.")
        try:
            found[target.id] = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(
                f"{target.id} in the parameters cell is not a literal; derive it in the next cell."
            ) from None
    return found


def source_hash(source):
    return hashlib.sha256(text(source).strip().encode()).hexdigest()[:16]


# Making a notebook fit to be committed.


def clean(notebook, root=None):
    """An executed notebook without what belongs to one run; the given one is not changed.

    Taken out: papermill's metadata, injected cells and error markers, execution times,
    widget state, memory addresses, the paths of this machine, empty and overwritten lines
    of output. Set: the kernel `python3`, a cell id made from the position, and beside each
    code cell's output the hash of the source that produced it.

    Args:
        root: the project's root, taken out of every path in an output.
    """
    marks = {"injected-parameters", "papermill-error-cell-tag"}
    notebook = json.loads(json.dumps(notebook))
    cells = [cell for cell in notebook["cells"] if not marks & set(tags(cell))]
    for number, cell in enumerate(cells):
        metadata = cell.get("metadata", {})
        kept = {"tags": [tag for tag in tags(cell) if tag in KEPT_TAGS]}
        folds = {key: True for key in ("source_hidden", "outputs_hidden") if metadata.get("jupyter", {}).get(key)}
        if "solution" in kept["tags"]:  # folded, and compared, so that it is tested
            folds["source_hidden"] = True
            kept["tags"] = ["solution", *(tag for tag in kept["tags"] if tag not in ("solution", CHECKED)), CHECKED]
        kept["jupyter"] = folds
        cell["metadata"] = {key: value for key, value in kept.items() if value}
        cell["id"] = f"cell-{number:03d}"
        cell["source"] = _lines(text(cell["source"]).strip("\n"))
        if cell["cell_type"] == "code":
            cell["metadata"]["source_hash"] = source_hash(cell["source"])
            cell["outputs"] = _clean_outputs(cell["outputs"], root)
        else:
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
    return {
        "cells": cells,
        "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _clean_outputs(outputs, root):
    kept, streams = [], {}
    for output in outputs:
        if output["output_type"] != "stream":
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            for kind in data:
                if not kind.startswith("image/") or kind == "image/svg+xml":
                    data[kind] = (
                        _lines(_anonymous(text(data[kind]), root)) if kind != "application/json" else data[kind]
                    )
            if data or output["output_type"] == "error":
                output["metadata"] = {} if "metadata" in output else output.get("metadata", {})
                kept.append(output)
        elif output["name"] in streams:  # as a reader sees it: one block of text a stream
            streams[output["name"]]["text"] += text(output["text"])
        else:
            streams[output["name"]] = {**output, "text": text(output["text"])}
            kept.append(streams[output["name"]])
    for output in streams.values():
        lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in output["text"].split("\n")]
        output["text"] = _lines(_anonymous("\n".join(lines), root))
    return [output for output in kept if output["output_type"] != "stream" or text(output["text"]).strip()]


def _anonymous(value, root):
    if root:
        value = value.replace(f"{root}/", "")
    value = value.replace(f"{Path(sys.prefix)}/", "").replace(f"{Path.home()}/", "~/")
    return re.sub(r" at 0x[0-9a-f]{6,}", "", value)


def _lines(value):
    return value.splitlines(keepends=True)


# Checking a notebook that is to be committed.


def problems(path):
    """Everything that keeps a notebook from being committed: sentences, [] where there is nothing."""
    path = Path(path)
    try:
        notebook = read(path)
    except (OSError, ValueError) as error:
        return [str(error)]
    found = [*_problems_of_file(path, notebook), *_problems_of_outputs(notebook)]
    try:
        defaults = parameters(notebook)
        if defaults.get("preset") != "quick":
            found.append('the parameters cell does not set preset = "quick".')
    except (ValueError, SyntaxError) as error:
        found.append(str(error))
    return found


def _problems_of_file(path, notebook):
    found = []
    if (size := path.stat().st_size) >= LARGEST_FILE:
        found.append(f"the file has {size:,} bytes, {LARGEST_FILE:,} are allowed; save smaller pictures.")
    if (lines := count_code(notebook)) > CODE_LINES:
        found.append(f"{lines} lines of code, {CODE_LINES} are allowed; move definitions to ttlib.")
    if (words := count_words(notebook)) > WORDS:
        found.append(f"{words} words, {WORDS} are allowed.")
    kernel = notebook["metadata"].get("kernelspec", {}).get("name")
    if kernel != "python3":
        found.append(f"the kernel is {kernel!r}, not python3.")
    if "papermill" in notebook["metadata"] or "widgets" in notebook["metadata"]:
        found.append("metadata of one run (papermill or widgets) is left.")
    if not any(CHECKED in tags(cell) for cell in notebook["cells"]):
        found.append(f"no cell is tagged {CHECKED}, so its outputs are never compared.")
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        found.append("a cell has no id of its own.")
    cells = notebook["cells"]
    if (exercises := sum("exercise" in tags(cell) for cell in cells)) < EXERCISES:
        found.append(f"{exercises} cells are tagged exercise, a chapter has at least {EXERCISES}.")
    for number, cell in enumerate(cells):
        following = next((later for later in cells[number + 1 :] if later["cell_type"] == "code"), None)
        if "exercise" in tags(cell) and (following is None or "solution" not in tags(following)):
            found.append(f"the exercise in cell {number} has no code cell tagged solution after it.")
        if "solution" in tags(cell) and not cell["metadata"].get("jupyter", {}).get("source_hidden"):
            found.append(f"the solution in cell {number} is not folded (jupyter.source_hidden).")
        if "solution" in tags(cell) and CHECKED not in tags(cell):
            found.append(f"the solution in cell {number} is not compared (tag {CHECKED}).")
    return found


def _problems_of_outputs(notebook):
    found = []
    cells = code_cells(notebook)
    if [cell.get("execution_count") for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("it was not run once from top to bottom: the execution counts are not 1, 2, 3 ...")
    for number, cell in enumerate(cells, start=1):
        where = f"code cell {number}"
        if not text(cell["source"]).strip():
            found.append(f"{where} is empty.")
        if cell["metadata"].get("source_hash") != source_hash(cell["source"]):
            found.append(f"{where} was changed after its output was made.")
        if {"execution", "papermill", "ExecuteTime"} & set(cell["metadata"]) or "injected-parameters" in tags(cell):
            found.append(f"{where} holds metadata of one run.")
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            found.append(f"{where} ends in an error.")
        if CHECKED in tags(cell) and any(output.get("name") == "stderr" for output in cell["outputs"]):
            found.append(f"{where} is checked, but prints a warning.")
        if "solution" in tags(cell) and "Solved." not in json.dumps(cell["outputs"]):
            found.append(f"{where} is a solution, but does not print Solved.")
        for line in _printed(cell):
            if path := MACHINE_PATH.search(line):
                found.append(f"{where} shows a path of one machine, {path.group()}.")
    return found


def _printed(cell):
    yield text(cell["source"])
    for output in cell["outputs"]:
        yield text(output.get("text", ""))
        yield "\n".join(map(text, output.get("traceback", [])))
        for kind, data in output.get("data", {}).items():
            if isinstance(data, str | list) and not kind.startswith("image/"):
                yield text(data)


def count_code(notebook):
    """Lines of code in all cells: neither blank nor a comment."""
    lines = (line.strip() for cell in code_cells(notebook) for line in text(cell["source"]).splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def count_words(notebook):
    """Words in the text cells, without formulas, code and the addresses of links."""
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            prose = re.sub(
                r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|<[^>]+>|\]\([^)]*\)", " ", text(cell["source"]), flags=re.S
            )
            count += len(re.findall(r"[^\W\d_][\w'’-]*", prose))
    return count


def main(paths):
    """Print the problems of each notebook; 1 where there is one."""
    found = [f"{path}: {problem}" for path in paths for problem in problems(path)]
    print("\n".join(found) or f"{len(paths)} notebooks are fit to be committed.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or sorted(Path("notebooks").glob("*.ipynb"))))
