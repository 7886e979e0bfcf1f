# The studies that are lists of jobs: one job a data set, method and seed, each with one thread, and a record of them all.
#
# `studies/<study>.yaml` says which jobs there are, `ttlib/studies/<study>.py` does one and gathers all.
# A job that has ended is in build/studies/<study>/ and is not done again; one that was killed
# goes on from what it had kept there. Delete that folder to begin anew.

import json

from ttlib.studies import decision_transformer, jobs, methods, prediction

# Where the methods of each study are said, and the models that a job needs, if any.
MODULES = {
    "antmaze": methods,
    "decision_transformer": decision_transformer,
    "imitation": methods,
    "offline_rl": methods,
    "prediction": prediction,
    "real_time": methods,
}
for study in MODULES:

    configfile: f"studies/{study}.yaml"


JOBS = {study: jobs.listed(config[study], module.METHODS) for study, module in MODULES.items()}


def models(wildcards):
    """The shipped models of a job: one that is trained anew is measured anew."""
    needed = getattr(MODULES[wildcards.study], "needed", None)
    return needed(JOBS[wildcards.study][wildcards.job], ".") if needed else []


rule job:
    input:
        models,
    output:
        "build/studies/{study}/{job}.json",
    params:
        python=sys.executable,
        job=lambda wildcards: json.dumps(JOBS[wildcards.study][wildcards.job]),
    wildcard_constraints:
        study="|".join(MODULES),
        job="[^/]+",
    threads: 1
    # Through a pipe, so that jobs side by side write lines and no progress bars over each other.
    shell:
        "{params.python} -m ttlib.studies.{wildcards.study} run {params.job:q} 2>&1 | cat >&2"


# A study has no output, so it runs whenever it is asked for, and no record is deleted before it does.
for study in MODULES:

    rule:
        name:
            study
        input:
            expand("build/studies/{study}/{job}.json", study=study, job=JOBS[study]),
        params:
            python=sys.executable,
            study=study,
            config=json.dumps(config[study]),
        shell:
            "{params.python} -m ttlib.studies.{params.study} gather {params.config:q}"
