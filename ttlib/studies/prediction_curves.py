"""Curves of the prediction study: log-likelihood over the horizon, gaps between methods, and the claims."""

import numpy as np

from ttlib.records import Record

FIRST = 10  # the claims are about the horizons from here on
# (method, actions) of both sides; the first two are the study's main comparison.
PAIRS = [
    ("tt", "own", "pets", "policy"),
    ("tt", "recorded", "pets", "recorded"),
    ("tt", "own", "markov", "own"),
    ("tt", "recorded", "markov", "recorded"),
    ("pets", "policy", "pets", "cloned"),
    ("tt", "own", "simulator", "policy"),
    ("pets", "policy", "simulator", "policy"),
    *(("simulator", f"policy, {words} words", "simulator", "policy") for words in (100, 200, 400)),
    ("tt-half", "recorded", "pets-half", "recorded"),
    ("tt-half", "own", "pets-half", "recorded"),
    ("tt-half", "own", "markov-half", "own"),
    ("tt-half", "recorded", "markov-half", "recorded"),
]
NAMES = {"tt": "TT", "markov": "TT, one transition", "pets": "PETS", "simulator": "the simulator"}


def log_likelihoods(row, actions, pseudocount="1.0"):
    """(starts, H) nats: the log-likelihood of every start of a job's row."""
    return np.array([np.add(start[actions][pseudocount], start[actions]["oracle"]) for start in row["starts"]])


def mean_curve(values):
    """{"mean", "standard_error"} over the starts (starts, H), as lists."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full(values.shape[1], np.nan)
    return {"mean": _plain(values.mean(axis=0)), "standard_error": _plain(error)}


def curves(rows, kept=()):
    """The record's rows from those of the jobs: {"what": "curve", "oracle", "gap", "future" or "training", ...} each.

    A curve is the mean over the starts; `mean_other` is the same with the other pseudocount. A gap is a mean of
    differences start by start, `first` less `second`; `overall` is that of each start's mean from step FIRST on. Where
    one side was measured before, and only its curve is left, the gap is that of the two means, not `paired`, with
    the standard error that it would have if both had had starts of their own.

    Args:
        kept: what the record has of other jobs, see `rows_of`. They come first.

    Raises:
        ValueError: these jobs predicted other starts than those that are kept.
    """
    found, by_method = [*kept], {(row["dataset"], row["seed"], row["method"]): row for row in rows}
    for row in rows:
        about = {key: row[key] for key in ("dataset", "method", "seed")}
        for before in find(kept, "future", row["dataset"], seed=row["seed"]):
            if "future" in row and before["came"] != row["future"]["came"]:
                raise ValueError(
                    f"{row['method']} on {row['dataset']} predicted other starts than {before['method']} in the record "
                    "did, as on another processor; measure all methods on this data set anew."
                )
        for actions in row["starts"][0]:
            values = log_likelihoods(row, actions)
            other = _plain(log_likelihoods(row, actions, "0.1").mean(axis=0))
            found.append({"what": "curve"} | about | {"actions": actions} | mean_curve(values) | {"mean_other": other})
        if "future" in row and row["method"] in ("tt", "pets"):  # those that are drawn as bodies
            found.append({"what": "future"} | about | row["future"])
        rest = {key: value for key, value in row.items() if key not in ("starts", "future", *about)}
        found.append({"what": "training"} | about | rest | {"starts": len(row["starts"])})
    for dataset, seed in dict.fromkeys((row["dataset"], row["seed"]) for row in rows):
        one = next(row for row in rows if (row["dataset"], row["seed"]) == (dataset, seed))
        values = np.array([next(iter(start.values()))["oracle"] for start in one["starts"]])
        if not find(kept, "oracle", dataset, seed=seed):
            found.append({"what": "oracle", "dataset": dataset, "seed": seed} | mean_curve(values))
        for first, own, second, other in PAIRS:
            about = {"what": "gap", "dataset": dataset, "seed": seed, "first": [first, own], "second": [second, other]}
            sides = [by_method.get((dataset, seed, method)) for method in (first, second)]
            if None not in sides and own in sides[0]["starts"][0] and other in sides[1]["starts"][0]:
                found.append(about | _gap_of_starts(*map(log_likelihoods, sides, (own, other))))
            elif sides != [None, None]:
                one = find(found, "curve", dataset, seed=seed, method=first, actions=own)
                two = find(found, "curve", dataset, seed=seed, method=second, actions=other)
                if one and two:
                    found.append(about | _gap_of_means(*one, *two))
    return found


def _gap_of_starts(first, second):
    """The gap between log-likelihoods (starts, H) of the same starts."""
    gap = first - second
    overall = mean_curve(gap[:, min(FIRST, gap.shape[1]) - 1 :].mean(axis=1, keepdims=True))
    return mean_curve(gap) | {"overall": {name: values[0] for name, values in overall.items()}}


def _gap_of_means(first, second):
    """The gap between two curves of which one is all that is left."""
    gap = np.subtract(first["mean"], second["mean"])
    errors = [np.array([error or 0.0 for error in curve["standard_error"]]) for curve in (first, second)]
    overall = {"mean": float(gap[min(FIRST, len(gap)) - 1 :].mean().round(3)), "standard_error": None}
    found = {"mean": _plain(gap), "standard_error": _plain(np.hypot(*errors)), "overall": overall}
    return found | {"paired": False}


def pairs(rows):
    """The (data set, method) pairs that the rows of a record are about."""
    return {(row["dataset"], row["method"]) for row in rows if row["what"] == "training"}


def rows_of(rows, wanted):
    """The rows of a record that are about the (data set, method) pairs in `wanted` and nothing else."""
    kept, datasets = [], {dataset for dataset, _ in pairs(rows) - set(wanted)}
    for row in rows:
        about = [row["method"]] if "method" in row else [row[side][0] for side in ("first", "second") if side in row]
        whole = about or row["dataset"] not in datasets  # an oracle's row is anybody's
        if whole and all((row["dataset"], method) in wanted for method in about):
            kept.append(row)
    return kept


def find(rows, what, dataset, **keys):
    """The rows of a record of this kind; `keys` narrow them down."""
    wanted = {"what": what, "dataset": dataset} | keys
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def predictable(row):
    """(N,) bool: the dimensions of which some candidate explains 0.9 one step ahead, on validation episodes."""
    return np.max([tried["r2"]["state"] for tried in row["grid"]], axis=0) >= 0.9


def claim(record):
    """State what a `Record` with the rows of `curves` shows; leave out what its rows do not tell."""
    explained = []
    for dataset in dict.fromkeys(row["dataset"] for row in record.rows):
        body = dataset.partition(":")[2].partition("-")[0]
        gaps = find(record.rows, "gap", dataset, first=["tt", "own"], second=["pets", "policy"])
        if gaps:
            first = min(FIRST, len(gaps[0]["mean"])) - 1
            worst = min(gaps, key=lambda gap: min(gap["mean"][first:]))
            at = first + int(np.argmin(worst["mean"][first:]))
            error = worst["standard_error"][at]
            error = "one start" if error is None else f"standard error {error:.2f}"
            error += "" if worst.get("paired", True) else ", as if each method had had starts of its own"
            note = f"log-likelihood of the whole state, at step {at + 1}; {error}"
            record.claim(f"tt_minus_pets_{body}", worst["mean"][at], "nats", (0.0, None), note=note)
            falls = [
                curve["mean"][0] - curve["mean"][-1]
                for method, actions in (("tt", "own"), ("pets", "policy"))
                for curve in find(record.rows, "curve", dataset, method=method, actions=actions, seed=worst["seed"])
            ]
            note = f"TT falls by {falls[0]:.1f} nats, PETS by {falls[1]:.1f}"
            record.claim(f"pets_falls_more_{body}", falls[1] - falls[0], "nats", (0.0, None), note=note)
        twins = [
            find(record.rows, "gap", dataset, first=["tt" + half, "own"], second=["markov" + half, "own"])
            for half in ("", "-half")
        ]
        if all(twins):
            all_seen, half_seen = (found[0]["overall"] for found in twins)
            note = "one transition in view loses " + " and ".join(
                f"{gap['mean']:.2f} ± {gap['standard_error'] or 0:.2f} nats with {seen} seen"
                for gap, seen in ((all_seen, "all"), (half_seen, "half"))
            )
            record.claim(
                f"hiding_costs_markov_{body}", half_seen["mean"] - all_seen["mean"], "nats", (0.0, None), note=note
            )
        for row in find(record.rows, "training", dataset, method="pets"):
            kept = predictable(row)
            least = min(np.array(row["r2"]["state"])[kept].tolist(), default=0.0)
            explained.append((least, body, kept))
    if explained:
        least, body, kept = min(explained, key=lambda one: one[0])
        note = f"the least of all dimensions and bodies, {body}'s; {int((~kept).sum())} of its {len(kept)} left out"
        record.claim("pets_r2", least, "fraction", (0.95, 1.0), note=note)


def record(study, config, rows, kept=(), prints=None):
    """The `Record`, not yet written, from the rows of all jobs.

    Args:
        config: what was asked for, of the jobs that are kept, too.
        kept: rows that the record has of other jobs, see `rows_of`.
        prints: fingerprints of the record's data sets.
    """
    found = curves(rows, kept)
    prints = (prints or {}) | {row["dataset"]: row["fingerprint"] for row in rows}
    seeds = sorted({row["seed"] for row in found})
    asked = [config["evaluation"][key] for key in ("seed", "validation_seed")]
    made = Record(study, "studies", config, [*seeds, *asked], prints, found)
    took = [row["training"]["minutes"] + row["minutes"] for row in found if row["what"] == "training"]
    made.started -= 60 * sum(took)  # what the jobs took
    claim(made)
    return made


def table(rows):
    """Log-likelihoods at a few horizons in Markdown, nats for the whole state, and standard errors."""
    shown = [1, 10, 50, 100]
    lines = [
        "| data set | method | seen | actions | " + " | ".join(f"step {step}" for step in shown) + " |",
        "| --- | --- | --- | --- |" + " ---: |" * len(shown),
    ]
    for row in rows:
        if row["what"] not in ("curve", "oracle"):
            continue
        method = row.get("method", "")
        half, name = method.endswith("-half"), NAMES.get(method.removesuffix("-half"), "discrete oracle")
        errors = [error or 0.0 for error in row["standard_error"]]
        cells = [f"{row['mean'][step - 1]:.1f} ± {errors[step - 1]:.1f}" for step in shown if step <= len(errors)]
        cells += ["-"] * (len(shown) - len(cells))
        about = [row["dataset"], name, "half" if half else "all", row.get("actions", "-")]
        lines.append("| " + " | ".join([*about, *cells]) + " |")
    return "\n".join(lines)


def grid_table(rows):
    """How the ensembles were tuned, in Markdown: each candidate on validation episodes, the chosen one marked."""
    lines = [
        "| data set | seen | networks | hidden layers | log-likelihood | R², least | R², mean | minutes | chosen |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        best = max((tried["log_likelihood"] for tried in row.get("grid", [])), default=None)
        for tried in row.get("grid", []):
            half = "half" if row["method"].endswith("-half") else "all"
            widths = " x ".join(str(width) for width in tried["settings"]["hidden"])
            explained = tried["r2"]["state"]
            cells = [row["dataset"], half, str(tried["settings"]["members"]), widths, f"{tried['log_likelihood']:.2f}"]
            cells += [f"{min(explained):.3f}", f"{np.mean(explained):.3f}", f"{tried['minutes']:.1f}"]
            lines.append("| " + " | ".join([*cells, "*" if tried["log_likelihood"] == best else ""]) + " |")
    return "\n".join(lines)


def _plain(values):
    """A list of numbers with three decimals; None for what is not finite."""
    return [round(float(value), 3) if np.isfinite(value) else None for value in values]
