"""Imitation: the return of the likeliest plans, over that of the experts who were recorded (section 4.2).

`make study NAME=imitation` does every job of `studies/imitation.yaml` and writes
`figures/studies/imitation.json` from what they found.
"""

import sys

from ttlib.studies import rollouts

STUDY = "imitation"
# Percent of the expert's return, in the text of section 4.2.
PUBLISHED = {"hopper": 104.0, "walker2d": 109.0}
NAMES = {
    "tt-likelihood": "TT, plans",
    "tt-one-action": "TT, one action",
    "tt-algorithm-1": "TT, Algorithm 1",
    "bc": "BC",
}


def shares(rows):
    """{(body, method): (mean return, standard error)}, both in percent of the recorded episodes' mean return.

    Args:
        rows: of the record, one data set, method and seed each.

    Raises:
        ValueError: two rows for one body and method; the study has one seed of each.
    """
    found = {}
    for row in rows:
        cell = row["dataset"].partition(":")[2].partition("-")[0], row["method"]
        if cell in found:
            raise ValueError(f"there are two rows of {cell[1]} for {cell[0]}; give the study one seed.")
        percent = 100 / row["data_return"]
        found[cell] = percent * row["raw_return"], percent * (row["raw_standard_error"] or 0.0)
    return found


def claim(record):
    """State `imitation_hopper` and `imitation_walker2d` in a `Record` that has rows for them."""
    found = shares(record.rows)
    for body, published in PUBLISHED.items():
        if (body, "tt-likelihood") in found:
            mean, error = found[body, "tt-likelihood"]
            note = f"of the mean return of the local expert data; standard error {error:.1f}"
            record.claim(f"imitation_{body}", mean, "percent", (100, None), published, note)


def table(rows):
    """Returns and shares in Markdown."""
    found = shares(rows)
    lines = ["| data set | method | return | recorded | percent |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        mean, error = found[row["dataset"].partition(":")[2].partition("-")[0], row["method"]]
        returned = f"{row['raw_return']:,.0f} ± {row['raw_standard_error'] or 0:,.0f}"
        name = NAMES.get(row["method"], row["method"])
        lines.append(
            f"| {row['dataset']} | {name} | {returned} | {row['data_return']:,.0f} | {mean:.1f} ± {error:.1f} |"
        )
    return "\n".join(lines)


def gather(config):
    """Write the record from the results of all jobs; gives its path, and the table.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    record = rollouts.record(STUDY, config)
    claim(record)
    return record.write(), table(record.rows)


def main(arguments=None):
    return rollouts.main(STUDY, gather, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
