"""Jobs: a study is a list of them, a data set x method x seed each, done once and kept.

A job is a dict of plain values that says all that is asked for. What it found is written in one
move to `build/studies/<study>/<name>.json`, together with the job itself, so that a result is
used for what it was made for and for nothing else. A second copy lies in the job's own folder,
`build/studies/<study>/<name>/`, beside its half-done work: Snakemake deletes an output
whose job it did not see ending, and a job that had ended is then not done again.
"""

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path

import yaml

from ttlib.checkpoints import written_atomically
from ttlib.datasets.behaviours import RECIPES
from ttlib.paths import ROOT
from ttlib.settings import keep_freed_memory

KEYS = {"datasets", "methods", "seeds", "seeds_of", "only", "environments", "evaluation", "settings", "device"}


def listed(config, methods):
    """The jobs of a study: {name: job}, in the order in which they are shown.

    Args:
        config: what `studies/<study>.yaml` says.
        methods: the names of the methods that there are.

    Raises:
        ValueError: a name in `config` means nothing.
    """
    unknown = [f"the setting {key!r}" for key in sorted(config.keys() - KEYS)]
    for key in ("methods", "seeds_of", "only", "settings"):
        unknown += [f"the method {name!r} in {key}" for name in config.get(key) or [] if name not in methods]
    for key in ("only", "environments"):
        values = config.get(key) or {}
        named = values if key == "environments" else sorted({name for some in values.values() for name in some})
        unknown += [f"the data set {name!r} in {key}" for name in named if name not in config["datasets"]]
    # Of settings the methods know their own names, so that only what looks like a set's is asked for here.
    known = RECIPES.keys() | {f"{body}-{kind}" for body, recipe in RECIPES.items() for kind in recipe.kinds}
    named = {"evaluation": [name for name, value in config["evaluation"].items() if isinstance(value, dict)]}
    for method, values in (config.get("settings") or {}).items():
        named[f"settings of {method}"] = [name for name in values or {} if name.split("-")[0] in RECIPES]
    unknown += [f"the body or set {name!r} in {place}" for place in named for name in named[place] if name not in known]
    if unknown:
        raise ValueError(
            f"the study does not know {', '.join(unknown)}; its data sets are {', '.join(config['datasets'])} (a file "
            f"that changes them must change `only`, too), its methods {', '.join(methods)}."
        )
    jobs = {}
    for dataset in config["datasets"]:
        for method in config["methods"]:
            if dataset not in (config.get("only") or {}).get(method, [dataset]):
                continue
            for seed in (config.get("seeds_of") or {}).get(method, config["seeds"]):
                job = {
                    "dataset": dataset,
                    "method": method,
                    "seed": seed,
                    "env_id": (config.get("environments") or {}).get(dataset),
                    "evaluation": config["evaluation"],
                    "settings": (config.get("settings") or {}).get(method) or {},
                    "device": config.get("device", "cpu"),
                }
                jobs[name_of(job)] = job
    return jobs


def slug(dataset):
    """A data set's name as a file name: without its family where that is `local:`."""
    return re.sub(r"[^\w.-]+", "_", dataset.removeprefix("local:"))


def name_of(job):
    """Such as "hopper-medium-iql-0"."""
    return f"{slug(job['dataset'])}-{job['method']}-{job['seed']}"


def for_set(values, *names):
    """A dict in which what stands under `names`, a body's and then one of its sets', is over what stands there for all.

    What stands under the names of other bodies and sets is left out.
    """
    own = {name: value for name, value in values.items() if name.split("-")[0] not in RECIPES}
    for name in names:
        own |= values.get(name, {})
    return own


def folder_of(study, root=None):
    """Where a study keeps its jobs; delete it to begin anew."""
    return Path(root or ROOT) / "build" / "studies" / study


def lacking(study, rows, root=None):
    """What `studies/<study>.yaml` asks for and a record's `rows` do not have: ["iql on hopper-medium", ...]."""
    config = yaml.safe_load((Path(root or ROOT) / "studies" / f"{study}.yaml").read_text())[study]
    measured = {(row["dataset"], row.get("method")) for row in rows}
    wanted = [(job["dataset"], job["method"]) for job in listed(config, config["methods"]).values()]
    return [
        f"{method} on {slug(dataset)}" for dataset, method in dict.fromkeys(wanted) if (dataset, method) not in measured
    ]


def do(study, job, work, root=None):
    """Do a job unless it is done, and write its result; gives the result.

    Args:
        study: its name.
        job: one of `listed`.
        work: function of the job and its folder that gives a dict of plain values. It finds there
            what an earlier call that was killed had kept.
    """
    folder, name = folder_of(study, root), name_of(job)
    own, output = folder / name, folder / f"{name}.json"
    if _read(own / "job.json") != _plain(job):
        shutil.rmtree(own, ignore_errors=True)  # half-done work of another job
        own.mkdir(parents=True)
        _write(own / "job.json", job)
    if _read(own / "result.json") is None:
        _write(own / "result.json", {"job": job} | work(job, own))
    result = _read(own / "result.json")
    _write(output, result)
    return result


def results(study, jobs, root=None):
    """What all jobs found, in their order.

    Raises:
        FileNotFoundError: a job is not done.
        ValueError: a result belongs to a job with other settings.
    """
    found = []
    for name, job in jobs.items():
        path = folder_of(study, root) / f"{name}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; run `make study NAME={study}`, which does what is left.")
        found.append(_read(path))
        if found[-1] is None or found[-1]["job"] != _plain(job):
            raise ValueError(f"{path} was made with other settings; delete it and run `make study NAME={study}`.")
    return found


def main(study, run, gather, description, arguments=None):
    """The command line of a study, `run JOB` or `gather CONFIG`; gives a sentence where something is wrong.

    Args:
        run: function that does a job.
        gather: function of the study's configuration that writes the record; gives its path, and a table.
    """
    parser = argparse.ArgumentParser(prog=f"python -m ttlib.studies.{study}", description=description)
    parser.add_argument("task", choices=["run", "gather"], help="do one job; write the record from all of them")
    parser.add_argument("what", help="the job, or the study's configuration, in JSON")
    options = parser.parse_args(arguments)
    try:
        asked = json.loads(options.what)
        if options.task == "run":
            keep_freed_memory()  # a fifth of the time of drawing futures, a tenth of a plan's
            run(asked)
        else:
            path, table = gather(asked)
            print(f"{table}\n{path.relative_to(ROOT)}")
    except (ValueError, OSError) as error:
        return f"error: {error}"


def _read(path):
    """What a JSON file holds; None where there is no whole one."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _write(path, values):
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    with written_atomically(path) as temporary:
        temporary.write_text(text)


def _plain(job):
    """A job as JSON gives it back."""
    return json.loads(json.dumps(job))


class Teller:
    """Says on stderr what a job is at: a line when it has something new and the last is 20 seconds old."""

    def __init__(self, job, every=20.0):
        self.name, self.every = name_of(job), every
        self.began, self.last = time.monotonic(), -every

    def __call__(self, text, now=False):
        at = time.monotonic() - self.began
        if now or at - self.last >= self.every:
            self.last = at
            print(f"{self.name}: {text} ({int(at) // 60}:{int(at) % 60:02d})", file=sys.stderr, flush=True)


def updates_told(tell, updates):
    """A function of a curve's row that tells how far a training of so many updates is."""
    return lambda row: tell(f"update {row['step']:,} of {updates:,}")
