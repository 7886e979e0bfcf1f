"""The batch: run one chapter headlessly, from names that are checked before anything starts.

Snakemake decides which chapters have to run (`Snakefile`); each is one call of `run`,
which executes the notebook with papermill under a temporary name, shows at which cell it
is, measures wall time and memory, and moves the result into place when all cells ran.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path

import yaml

from ttlib import notebooks
from ttlib.paths import ROOT
from ttlib.provenance import peak_mib

CELL_TIMEOUT = {"quick": 900}  # seconds that one cell may take
LONGEST_CELL = 7 * 24 * 3600  # ... in every other preset


class ChapterFailed(Exception):
    """A cell of a chapter raised, took too long, or lost its kernel."""


# Names: what may be run, and with which parameters.


def presets(root=ROOT):
    """The presets: quick, and every folder `notebooks/<preset>/` with parameter files."""
    return ["quick", *sorted({path.parent.name for path in (Path(root) / "notebooks").glob("*/*.yaml")})]


def chapters(preset="quick", only=None, root=ROOT):
    """The chapters to run, in order; all that have parameters for the preset, or the one named.

    Raises:
        ValueError: there is no such preset or chapter, or no parameters for the chapter.
    """
    if preset not in presets(root):
        raise ValueError(f"there is no preset {preset!r}; choose {' or '.join(presets(root))}.")
    names = sorted(path.stem for path in (Path(root) / "notebooks").glob("[0-9]*.ipynb"))
    if only:
        if only not in names:
            raise ValueError(f"there is no chapter {only!r}; choose one of {', '.join(names) or '(none yet)'}.")
        injected(only, preset, root)
        return [only]
    return [name for name in names if preset == "quick" or parameter_file(name, preset, root).is_file()]


def parameter_file(chapter, preset, root=ROOT):
    return Path(root) / "notebooks" / preset / f"{chapter}.yaml"


def injected(chapter, preset, root=ROOT):
    """The parameters that a preset changes in a chapter: {} for quick, which is the defaults.

    Raises:
        FileNotFoundError: no such notebook, or no parameter file for the preset.
        ValueError: a name that the chapter does not have, or a value of another kind.
    """
    defaults = notebooks.parameters(notebooks.read(Path(root) / "notebooks" / f"{chapter}.ipynb"))
    if preset == "quick":
        return {}
    path = parameter_file(chapter, preset, root)
    name = path.relative_to(root)
    if not path.is_file():
        raise FileNotFoundError(f"{chapter} has no preset {preset}: write its parameters to {name}, or choose another.")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{name} must hold `name: value` lines.")
    values = {"preset": preset, **values}
    for key, value in values.items():
        if key not in defaults:
            raise ValueError(f"{name} sets {key!r}, which {chapter} does not have; it has {', '.join(defaults)}.")
        if _kind(value) != _kind(defaults[key]) and None not in (value, defaults[key]):
            hint = "; write 1.0e-3, since YAML reads 1e-3 as text" if _kind(defaults[key]) == "a number" else ""
            raise ValueError(f"{name} sets {key} to {value!r}, but it is {_kind(defaults[key])}{hint}.")
    if values["preset"] != preset:
        raise ValueError(f"{name} sets preset to {values['preset']!r}; leave it out, the folder's name is the preset.")
    return values


def _kind(value):
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", tuple: "a list"}
    return kinds.get(type(value), type(value).__name__)


# Running one chapter.


def outputs(chapter, preset, root=ROOT):
    """What a finished run leaves: the executed notebook and what the run took."""
    folder = Path(root) / "build" / preset
    return folder / f"{chapter}.ipynb", folder / f"{chapter}.json"


def run(chapter, preset="quick", root=ROOT):
    """Execute a chapter; gives `{"chapter", "preset", "minutes", "peak_mib", "record"}`.

    The working directory of the kernel is `notebooks/`. Whatever goes wrong, neither output is
    half-written; a notebook that failed is kept beside them as `<chapter>.failed.ipynb`.

    Raises:
        ValueError, FileNotFoundError: a wrong chapter, preset or parameter; nothing was started.
        ChapterFailed: a cell failed; the message says which and where to look.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    root = Path(root).resolve()
    chapters(preset, chapter, root)
    parameters = injected(chapter, preset, root)
    notebook, measured = outputs(chapter, preset, root)
    notebook.parent.mkdir(parents=True, exist_ok=True)
    part = notebook.with_name(f".{chapter}.part.ipynb")
    failed = notebook.with_name(f"{chapter}.failed.ipynb")
    failed.unlink(missing_ok=True)
    record = root / "figures" / preset / f"{chapter}.json"
    before = record.stat().st_mtime_ns if record.is_file() else None
    _register_engine()
    start = time.monotonic()
    with Position(chapter) as position:
        try:
            papermill.execute_notebook(
                root / "notebooks" / f"{chapter}.ipynb",
                part,
                parameters=parameters or None,
                engine_name="ttlib",
                kernel_name="python3",
                language="python",
                cwd=root / "notebooks",
                progress_bar=False,
                start_timeout=300,
                execution_timeout=CELL_TIMEOUT.get(preset, LONGEST_CELL),
                on_cell=position.at,
                extra_arguments=["--log-level=CRITICAL"],  # what the kernel says about itself
            )
        except (PapermillExecutionError, CellTimeoutError, DeadKernelError) as error:
            part.replace(failed)
            raise ChapterFailed(_reason(chapter, position, error, failed.relative_to(root))) from None
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    after = record.stat().st_mtime_ns if record.is_file() else None
    result = {
        "chapter": chapter,
        "preset": preset,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "peak_mib": peak_mib(children=True),
        "record": after is not None and after != before,
    }
    part.replace(notebook)
    part.write_text(json.dumps(result, indent=2) + "\n")
    part.replace(measured)
    return result


def _reason(chapter, position, error, failed):
    if hasattr(error, "ename"):
        what = f"{error.ename}: {' '.join(str(error.evalue).split())}"
    else:
        what = "the cell took too long" if isinstance(error, TimeoutError) else "the kernel died, perhaps out of memory"
    return f"{chapter} stopped in code cell {position.cell} of {position.cells} ({what.rstrip('.')}); see {failed}."


class Position:
    """Shows on stderr at which cell a chapter is: one changing line in a terminal, and
    elsewhere a line every ten seconds."""

    def __init__(self, chapter, stream=None):
        self.chapter, self.stream = chapter, stream or sys.stderr
        self.cell = self.cells = 0
        self.start = time.monotonic()
        self.live = self.stream.isatty()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._show, daemon=True)

    def at(self, cell, cells):
        self.cell, self.cells = cell, cells

    def __enter__(self):
        print(f"{self.chapter} starts", file=self.stream, flush=True)
        self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.done.set()
        self.thread.join()
        how = "done" if kind is None else "stopped"
        print(f"{self._clear()}{self._line()}, {how}", file=self.stream, flush=True)

    def _show(self):
        while not self.done.wait(1 if self.live else 10):
            print(self._clear() + self._line(), end="" if self.live else "\n", file=self.stream, flush=True)

    def _line(self):
        minutes, seconds = divmod(round(time.monotonic() - self.start), 60)
        where = f"cell {self.cell} of {self.cells}" if self.cells else "starting the kernel"
        return f"{self.chapter}: {where}, {minutes}:{seconds:02d}"

    def _clear(self):
        return "\r\x1b[K" if self.live else ""


def _register_engine():
    """papermill's own engine, which also tells at which code cell it is."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, on_cell=None, **kwargs):
            code = [index for index, cell in enumerate(nb_man.nb.cells) if cell.cell_type == "code"]
            cell_start = nb_man.cell_start

            def tell_and_start(cell, cell_index=None, **more):
                if cell_index in code:
                    on_cell(code.index(cell_index) + 1, len(code))
                return cell_start(cell, cell_index, **more)

            nb_man.cell_start = tell_and_start
            super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("ttlib", Engine)


def keep(chapter, root=ROOT):
    """Execute a chapter's quick preset and write it back to `notebooks/`, fit to be committed;
    gives what is still wrong with it, a list of sentences."""
    run(chapter, "quick", root)
    path = Path(root) / "notebooks" / f"{chapter}.ipynb"
    results = outputs(chapter, "quick", root)
    notebooks.write(path, notebooks.clean(notebooks.read(results[0]), Path(root).resolve()))
    for result in results:  # newer than the notebook, which says the same: nothing has to run again
        result.touch()
    return notebooks.problems(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m ttlib.batch", description=__doc__.splitlines()[0])
    parser.add_argument(
        "task", choices=["check", "run", "keep"], help="check the names; run a chapter; run and commit it"
    )
    parser.add_argument("chapters", nargs="*", help="such as 05_four_rooms; default: all")
    parser.add_argument("--preset", default="quick")
    options = parser.parse_intermixed_args(arguments)
    try:
        every = [name for only in options.chapters or [None] for name in chapters(options.preset, only)]
        for chapter in every:
            injected(chapter, options.preset)
        left_out = sorted(set(chapters()) - set(every)) if not options.chapters else []
        if left_out:
            print(f"without parameters in notebooks/{options.preset}/, so left out: {', '.join(left_out)}")
        problems = []
        for chapter in every if options.task != "check" else []:
            if options.task == "keep":
                problems += [f"notebooks/{chapter}.ipynb: {problem}" for problem in keep(chapter)]
            else:
                run(chapter, options.preset)
    except (ValueError, OSError, ChapterFailed) as error:
        return f"error: {error}"
    return "\n".join(problems) or None


if __name__ == "__main__":
    sys.exit(main())
