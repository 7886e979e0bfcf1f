"""Planning in real time: the score of the return planner at each size of its search, and of a policy without any.

`make study NAME=real_time` does every job of `studies/real_time.yaml` and writes
`figures/studies/real_time.json` from what they found. Milliseconds are no part of it: jobs run side by side, on
machines of all kinds.
"""

import math
import sys

from ttlib.studies import methods, rollouts

STUDY = "real_time"


def sizes(rows):
    """{(beam width, horizon): row} of the rows that planned, small searches first.

    Raises:
        ValueError: two rows of one method.
    """
    names = [row["method"] for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"there are two rows of {' and '.join(twice)}; give the study one data set and one seed.")
    found = {methods.SIZES[row["method"]]: row for row in rows if row["method"] in methods.SIZES}
    return dict(sorted(found.items(), key=lambda item: (item[0][0] * item[0][1], item[0])))


def claim(record):
    """State in a `Record` what search buys: the score of the smallest search and of the largest over that of BC."""
    planned, cloned = list(sizes(record.rows).items()), [row for row in record.rows if row["method"] == "bc"]
    if len(planned) < 2 or not cloned:
        return
    for word, ((beam_width, horizon), row) in (("smallest", planned[0]), ("largest", planned[-1])):
        gain = row["score"] - cloned[0]["score"]
        error = math.hypot(row["standard_error"] or 0.0, cloned[0]["standard_error"] or 0.0)
        note = f"beam {beam_width}, horizon {horizon}, less BC; standard error {error:.1f}"
        record.claim(f"gain_of_the_{word}_search", gain, "score", (0.0, None), note=note)


def table(rows):
    """Scores by size in Markdown, with standard errors."""
    lines = ["| beam width | horizon | score | mean length |", "| ---: | ---: | ---: | ---: |"]
    shown = [("-", "-", row) for row in rows if row["method"] == "bc"]
    shown += [(*size, row) for size, row in sizes(rows).items()]
    for beam_width, horizon, row in shown:
        score = f"{row['score']:.1f} ± {row['standard_error'] or 0.0:.1f}"
        lines.append(f"| {beam_width} | {horizon} | {score} | {row['mean_length']:.0f} |")
    return "\n".join(lines)


def gather(config):
    """Write the record from the results of all jobs; gives its path, and the scores by size.

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
