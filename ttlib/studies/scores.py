"""Scores: Table 1 and Figure 5 of the paper, from the record of the offline-RL study alone."""

import numpy as np

METHODS = {
    "bc": "BC",
    "bc10": "10%-BC",
    "iql": "IQL",
    "dt": "DT",
    "tt-uniform": "TT (uniform)",
    "tt-quantile": "TT (quantile)",
}
BODIES = ("halfcheetah", "hopper", "walker2d")
KINDS = ("medium-expert", "medium", "medium-replay")
SETS = [f"{body}-{kind}" for kind in KINDS for body in BODIES]

# Table 1 of the paper, on D4RL's v2 sets of the same names and in the order of SETS, as the authors' repository
# gives it (github jannerm/trajectory-transformer, plotting/scores.py at 58e53e0). They took BC, MBOP, BRAC, CQL and
# DT from others' papers. TT is their quantile model; that file does not have the uniform one.
PUBLISHED = {
    "BC": [59.9, 79.6, 36.6, 43.1, 63.9, 77.3, 4.3, 27.6, 36.9],
    "MBOP": [105.9, 55.1, 70.2, 44.6, 48.8, 41.0, 42.3, 12.4, 9.7],
    "BRAC": [41.9, 0.9, 81.6, 46.3, 31.3, 81.1, 47.7, 0.6, 0.9],
    "CQL": [91.6, 105.4, 108.8, 44.0, 58.5, 72.5, 45.5, 95.0, 77.2],
    "DT": [86.8, 107.6, 108.1, 42.6, 67.6, 74.0, 36.6, 82.7, 66.6],
    "TT (quantile)": [95.0, 110.0, 101.9, 46.9, 61.1, 79.0, 41.9, 91.5, 82.6],
}


def cells(record):
    """{(data set, method): (score, standard error or None)} over all seeds of a record (`records.read`).

    The error is that of the seeds' means where there are several, else of the one seed's rollouts.
    """
    by_cell = {}
    for row in record["rows"]:
        by_cell.setdefault((row["dataset"], row["method"]), []).append(row)
    found = {}
    for cell, rows in by_cell.items():
        scores = [row["score"] for row in rows]
        error = rows[0]["standard_error"] if len(rows) == 1 else float(np.std(scores, ddof=1) / np.sqrt(len(rows)))
        found[cell] = float(np.mean(scores)), error
    return found


def mean_of(found, method, datasets):
    """(mean score, standard error) of a method over `datasets`; None unless it was measured on all of them."""
    if not datasets or any((dataset, method) not in found for dataset in datasets):
        return None
    scores, errors = zip(*(found[dataset, method] for dataset in datasets), strict=True)
    error = None if None in errors else float(np.sqrt(np.sum(np.square(errors)))) / len(datasets)
    return float(np.mean(scores)), error


def table(record):
    """Table 1 in Markdown: what was measured, with standard errors, then what the paper quotes for D4RL's sets."""
    found = cells(record)
    datasets = list(dict.fromkeys(row["dataset"] for row in record["rows"]))
    methods = [method for method in METHODS if any((dataset, method) in found for dataset in datasets)]
    heads = ["data set", *(METHODS[method] for method in methods), *(f"{name}, paper" for name in PUBLISHED)]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for dataset in datasets:
        place = _place(dataset)
        quoted = [f"{scores[place]:.1f}" if place is not None else "-" for scores in PUBLISHED.values()]
        measured = [_text(found.get((dataset, method))) for method in methods]
        lines.append("| " + " | ".join([dataset, *measured, *quoted]) + " |")
    every = {_place(dataset) for dataset in datasets} == set(range(len(SETS)))
    quoted = [f"{np.mean(scores):.1f}" if every else "-" for scores in PUBLISHED.values()]
    measured = [_text(mean_of(found, method, datasets)) for method in methods]
    return "\n".join([*lines, "| " + " | ".join(["mean", *measured, *quoted]) + " |"])


def bars(ax, record):
    """Figure 5: the mean score of each method that was measured on all data sets of the record."""
    found = cells(record)
    datasets = list(dict.fromkeys(row["dataset"] for row in record["rows"]))
    means = {name: mean_of(found, method, datasets) for method, name in METHODS.items()}
    means = {name: mean for name, mean in means.items() if mean}
    if means:
        scores, errors = zip(*means.values(), strict=True)
        _bars(ax, list(means), scores, None if None in errors else errors)
    count = f"{len(datasets)} data set" + "s" * (len(datasets) > 1)
    ax.set(ylabel="normalised score (0 random, 100 expert)", title=f"Measured here, mean over {count}")


def published_bars(ax):
    """Figure 5 as published: the mean over the nine sets."""
    _bars(ax, list(PUBLISHED), [np.mean(scores) for scores in PUBLISHED.values()])
    ax.set(ylabel="normalised score (0 random, 100 expert)", title="The paper, mean over D4RL's nine data sets")


def _bars(ax, names, means, errors=None):
    """Bars in which a method has the same colour wherever it stands."""
    from ttlib import plots

    plots.bars(ax, [name.replace(" (", "\n(") for name in names], means, errors)
    every = [*METHODS.values(), *(name for name in PUBLISHED if name not in METHODS.values())]
    for bar, name in zip(ax.patches, names, strict=True):
        bar.set_facecolor(plots.PALETTE[every.index(name)])


def draw(record):
    """Write Figure 5, measured beside published, to `figures/studies/`; gives its path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from ttlib import plots

    plots.use_style()
    fig, axes = plt.subplots(1, 2, figsize=(12, 4), sharey=True)
    bars(axes[0], record)
    published_bars(axes[1])
    axes[1].set_ylabel("")
    path = plots.save(fig, record["chapter"], record["preset"], "scores")
    plt.close(fig)
    return path


def claim(record):
    """State the study's claims in a `Record` that holds rows for all that they need; leave out the others."""
    found = cells({"rows": record.rows})
    local = [f"local:{name}" for name in SETS]

    def ratio(dataset):
        return found[dataset, "tt-quantile"][0] / found[dataset, "bc"][0]

    replay = [name for name in local if name.endswith("medium-replay")]
    if all((name, method) in found for name in replay for method in ("tt-quantile", "bc")):
        worst = min(ratio(name) for name in replay)
        note = "on local data; the smallest of three sets"
        paper = min(t / b for t, b in zip(PUBLISHED["TT (quantile)"][6:], PUBLISHED["BC"][6:], strict=True))
        record.claim("tt_over_bc_medium_replay", worst, "ratio", (1.3, None), round(paper, 2), note)
    means = {method: mean_of(found, method, local) for method in METHODS}
    planned = means["tt-quantile"]
    baselines = {method: mean for method, mean in means.items() if not method.startswith("tt-")}
    measured = {method: mean[0] for method, mean in baselines.items() if mean}
    best = max(measured, key=measured.get, default=None)
    # The best of some baselines may be a weaker one than the best of all: enough to say that plans are behind it, not
    # that they are ahead.
    if planned and best and (len(measured) == len(baselines) or measured[best] > planned[0]):
        note = f"{METHODS[best]}, nine local sets"
        if others := [METHODS[method] for method in baselines if method not in measured]:
            note += f"; {' and '.join(others)} not measured on all, so it may be higher"
        record.claim("best_baseline_mean", measured[best], "score", (None, None), note=note)
        paper = round(float(np.mean(PUBLISHED["TT (quantile)"])), 1)
        record.claim("tt_mean", planned[0], "score", (measured[best], None), paper, "nine local sets")
    mixed = [name for name in local if name.endswith("medium-expert")]
    quantile, uniform = (mean_of(found, method, mixed) for method in ("tt-quantile", "tt-uniform"))
    if quantile and uniform:
        error = float(np.hypot(quantile[1], uniform[1])) if quantile[1] and uniform[1] else None
        note = "three local medium-expert sets" + ("" if error is None else f", standard error {error:.1f}")
        record.claim("quantile_minus_uniform", quantile[0] - uniform[0], "score", (None, None), note=note)


def _place(dataset):
    """Which of SETS a data set is, in D4RL's version 2 or collected here; None if it is no such set."""
    name = dataset.removeprefix("local:")
    name = name.removeprefix("d4rl:").removesuffix("-v2") if dataset.startswith("d4rl:") else name
    return SETS.index(name) if name in SETS else None


def _text(cell):
    if cell is None:
        return "-"
    return f"{cell[0]:.1f}" if cell[1] is None else f"{cell[0]:.1f} ± {cell[1]:.1f}"
