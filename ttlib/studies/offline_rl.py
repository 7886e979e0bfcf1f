"""Offline RL: planning with a Trajectory Transformer beside baselines on the same data, starts and rollouts.

`make study NAME=offline_rl` does every job of `studies/offline_rl.yaml` and writes
`figures/studies/offline_rl.json` from what they found.
"""

import sys

from ttlib.studies import rollouts, scores

STUDY = "offline_rl"


def gather(config):
    """Write the record, and its bar chart, from the results of all jobs; gives its path, and Table 1.

    Raises:
        FileNotFoundError, ValueError: a job is not done, or was done with other settings.
    """
    record = rollouts.record(STUDY, config)
    scores.claim(record)
    path, written = record.write(), record.as_dict()
    scores.draw(written)
    return path, scores.table(written)


def main(arguments=None):
    return rollouts.main(STUDY, gather, __doc__.splitlines()[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
