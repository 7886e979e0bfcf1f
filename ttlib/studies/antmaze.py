"""AntMaze: plans guided by a Q-function beside its own policy, plans by return, and imitation (Table 2).

`make study NAME=antmaze` does every job of `studies/antmaze.yaml` and writes
`figures/studies/antmaze.json` from what they found. All episodes of a maze are planned in one batch.
"""

import sys

import numpy as np

from ttlib.studies import rollouts, scores

STUDY = "antmaze"
MAZES = ("umaze", "medium-play", "medium-diverse", "large-play", "large-diverse")
METHODS = {
    "bc": "BC",
    "dt": "DT",
    "tt-quantile": "TT",
    "iql": "IQL, its authors' settings",
    "iql-policy": "IQL",
    "tt-q": "TT (+Q)",
    "tt-q-search": "search by Q",
    "tt-v": "search by V",
    "tt-last-q": "search by the last Q",
    "tt-q-and-to-go": "search by Q and R",
}
# A method's word in the names of claims; variants of IQL and of planning by Q have rows, but no claims.
WORDS = {"bc": "bc", "dt": "dt", "tt-quantile": "tt", "iql-policy": "iql", "tt-q": "tt_q"}
# Success in percent on D4RL's v0 sets, in the order of MAZES: Table 2 of the paper, and Kostrikov et al. (2022).
PUBLISHED = {
    "iql-policy": (87.5, 71.2, 70.0, 39.6, 47.5),
    "tt-q": (100.0, 93.3, 100.0, 66.7, 60.0),
}


def maze_of(dataset):
    """Which of MAZES a data set is, collected here or D4RL's; its own name if it is none of them."""
    name = dataset.partition(":")[2].removeprefix("antmaze-")
    name = name.rpartition("-v")[0] if dataset.startswith("d4rl:") else name
    return name if name in MAZES else dataset


def claim(record):
    """State the success of each method in each local ant maze in a `Record` that has rows for it.

    A plan that is guided by Q is expected to succeed at least as often as the policy that was learned with this Q, and
    as the same planner without it.
    """
    found = scores.cells({"rows": record.rows})
    for dataset in dict.fromkeys(row["dataset"] for row in record.rows):
        maze = maze_of(dataset)
        if maze not in MAZES or not dataset.startswith("local:"):
            continue
        for method, word in WORDS.items():
            if (dataset, method) not in found:
                continue
            success, error = found[dataset, method]
            others = [found[dataset, other][0] for other in ("iql-policy", "tt-quantile") if (dataset, other) in found]
            low = max(others) if method == "tt-q" and others else None
            paper = PUBLISHED.get(method)
            note = f"local data, standard error {error or 0:.1f}"
            record.claim(
                f"{word}_{maze.replace('-', '_')}",
                success,
                "percent",
                (low, None),
                None if paper is None else paper[MAZES.index(maze)],
                note,
            )


def table(record):
    """Table 2 in Markdown: success in percent with standard errors, and what was published for D4RL's v0 sets."""
    found = scores.cells(record)
    datasets = list(dict.fromkeys(row["dataset"] for row in record["rows"]))
    methods = [method for method in METHODS if any((dataset, method) in found for dataset in datasets)]
    heads = ["data set", *(METHODS[method] for method in methods)]
    heads += [f"{METHODS[method]}, published" for method in PUBLISHED]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for dataset in datasets:
        maze, cells = maze_of(dataset), [dataset]
        for method in methods:
            success, error = found.get((dataset, method), (None, None))
            cells.append(
                "-" if success is None else f"{success:.1f}" if error is None else f"{success:.1f} ± {error:.1f}"
            )
        cells += [f"{values[MAZES.index(maze)]:.1f}" if maze in MAZES else "-" for values in PUBLISHED.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bars(ax, record):
    """The success of each method with claims in each maze of the record, and the published one of TT (+Q) as lines."""
    from ttlib import plots

    found = scores.cells(record)
    datasets = list(dict.fromkeys(row["dataset"] for row in record["rows"]))
    methods = [method for method in METHODS if method in WORDS]
    methods = [method for method in methods if any((dataset, method) in found for dataset in datasets)]
    width = 0.8 / max(len(methods), 1)
    for number, method in enumerate(methods):
        places = [at for at, dataset in enumerate(datasets) if (dataset, method) in found]
        means, errors = zip(*(found[datasets[at], method] for at in places), strict=True)
        shifted = np.array(places) + (number - (len(methods) - 1) / 2) * width
        errors = [error or 0.0 for error in errors]
        color = plots.PALETTE[list(METHODS).index(method)]
        ax.bar(shifted, means, width, yerr=errors, color=color, ecolor="0.3", label=METHODS[method])
    label = "TT (+Q), published for D4RL's sets"
    for at, dataset in enumerate(datasets):
        if maze_of(dataset) in MAZES:
            height = PUBLISHED["tt-q"][MAZES.index(maze_of(dataset))]
            ax.plot([at - 0.42, at + 0.42], [height, height], color="0.3", linestyle="--", linewidth=1.2, label=label)
            label = None
    ax.set_xticks(range(len(datasets)), [maze_of(dataset) for dataset in datasets])
    ax.set(ylabel="episodes that reach the goal (%)", ylim=(0, 105))
    ax.legend(ncols=len(methods) + 1, loc="upper center", bbox_to_anchor=(0.5, -0.1))  # below, off all bars


def draw(record):
    """Write the bars to `figures/studies/`; gives their path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from ttlib import plots

    plots.use_style()
    fig, ax = plt.subplots(figsize=(11, 4))
    bars(ax, record)
    ax.set(title="Success in AntMaze on data collected here")
    path = plots.save(fig, record["chapter"], record["preset"], "success")
    plt.close(fig)
    return path


def gather(config):
    """Write the record, and its bar chart, from the results of all jobs; gives its path, and Table 2.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    record = rollouts.record(STUDY, config)
    claim(record)
    path, written = record.write(), record.as_dict()
    draw(written)
    return path, table(written)


def main(arguments=None):
    return rollouts.main(STUDY, gather, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
