"""D4RL's normalised score: 0 is a random policy's mean return, 100 the expert's.

The reference returns are D4RL's own, for Hopper, Walker2d and the others in any
version of the environment; a test compares them with the table of the d4rl package.
In a maze a return is 1 or 0, so the score is the percentage of episodes that reach the goal.
"""

import numpy as np

# environment -> (return of the random policy, return of the expert)
REFERENCES = {
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "halfcheetah": (-280.178953, 12135.0),
    "ant": (-325.6, 3879.7),
}


def normalized_score(env_id, returns):
    """Score of `returns`, a number or an array, in `env_id` such as "Hopper-v5".

    Raises:
        ValueError: there are no reference returns for this environment.
    """
    body = env_id.rsplit("-v", 1)[0].lower()
    if body not in REFERENCES and "maze" not in body:
        raise ValueError(f"there are no reference returns for {env_id!r}; there are for {', '.join(REFERENCES)}.")
    low, high = REFERENCES.get(body, (0.0, 1.0))
    score = 100 * (np.asarray(returns, dtype=np.float64) - low) / (high - low)
    return float(score) if score.ndim == 0 else score
