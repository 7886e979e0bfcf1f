"""Parts: a study of several data sets that is measured one at a time, perhaps on several machines.

What is gathered replaces the record's rows of the data sets that were asked for. Rows of others stay, if the study
still asks of them what it asked when they were measured.
"""

from ttlib import records
from ttlib.studies.jobs import for_set


def rest_of(path, config, body_of):
    """What the record at `path` says of data sets that `config` does not name.

    Args:
        config: a study's configuration, see `jobs.listed`.
        body_of: function of a data set's name that gives the body whose settings are its own.

    Returns:
        rows, fingerprints by data set, and `config` with these data sets, too; where there is no such record or it has
        no others, no rows, no fingerprints and `config`.

    Raises:
        ValueError: they were measured with other settings than `config` has, or the file is not a record.
    """
    if not path.is_file():
        return [], {}, config
    record = records.read(path)
    then, names = record["provenance"]["parameters"], list(record["provenance"]["datasets"])
    names = [name for name in names if name not in config["datasets"]]
    for name in names:
        for method in _methods(then, name):
            if _asked(then, name, method, body_of) != _asked(config, name, method, body_of):
                raise ValueError(
                    f"{method} on {name} was measured with other settings than the study has; measure that again, too."
                )
    if not names:
        return [], {}, config
    rows = [row for row in record.get("rows", []) if row["dataset"] in names]
    prints = {name: record["provenance"]["datasets"][name] for name in names}
    only = {
        method: [name for name in names if method in _methods(then, name)]
        + [name for name in config["datasets"] if method in _methods(config, name)]
        for method in dict.fromkeys([*then["methods"], *config["methods"]])
    }
    joined = {"datasets": [*names, *config["datasets"]], "methods": list(only), "only": only}
    return rows, prints, config | joined


def _methods(config, dataset):
    """The methods that are asked for on a data set."""
    return [method for method in config["methods"] if dataset in (config.get("only") or {}).get(method, [dataset])]


def _asked(config, dataset, method, body_of):
    """What is asked of a method on a data set."""
    values = config["evaluation"], (config.get("settings") or {}).get(method) or {}
    return [for_set(value, body_of(dataset)) for value in values]
