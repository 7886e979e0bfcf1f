"""Parts: a study that is measured a job at a time, perhaps on several machines and over weeks.

What is gathered replaces the record's rows of the jobs that were asked for. Rows of other jobs stay, if the study still
asks of them what it asked when they were measured.
"""

from ttlib.studies.jobs import for_set


def others(record, measured, asked, config, body_of):
    """What a record has that `config` does not ask for, and all that it has with what is asked for.

    Args:
        record: see `ttlib.records.read`.
        measured, asked: the (data set, method) pairs of its rows, and those of the jobs that `config` lists.
        config: a study's configuration, see `jobs.listed`.
        body_of: function of a data set's name that gives the body whose settings are its own.

    Returns:
        The set of those pairs that `config` does not ask for, and `config` with them.

    Raises:
        ValueError: one of them was measured with other settings than `config` has, as far as the record says.
    """
    then = record["provenance"]["parameters"]
    kept = measured - asked
    for name, method in sorted(kept):
        if method in then["methods"] and _asked(then, name, method, body_of) != _asked(config, name, method, body_of):
            raise ValueError(
                f"{method} on {name} was measured with other settings than the study has; measure that again, too."
            )
    names = list(dict.fromkeys([*then["datasets"], *config["datasets"]]))
    methods = list(dict.fromkeys([*config["methods"], *(method for _, method in sorted(kept))]))
    only = {method: [name for name in names if (name, method) in kept | asked] for method in methods}
    return kept, config | {"datasets": names, "methods": methods, "only": only}


def _asked(config, dataset, method, body_of):
    """What is asked of a method on a data set."""
    values = config["evaluation"], (config.get("settings") or {}).get(method) or {}
    return [for_set(value, body_of(dataset)) for value in values]
