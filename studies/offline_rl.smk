# The offline-RL study: one job a data set, method and seed, each with one thread, and a record of them all.
#
# A job that has ended is in build/studies/offline_rl/ and is not done again; one that was killed
# goes on from what it had kept there. Delete that folder to begin anew.

import json

from ttlib.studies import jobs, methods


configfile: "studies/offline_rl.yaml"


OFFLINE_RL = jobs.listed(config["offline_rl"], methods.METHODS)


rule offline_rl_job:
    input:
        # A model that is trained anew is measured anew.
        lambda wildcards: methods.needed(OFFLINE_RL[wildcards.job], "."),
    output:
        "build/studies/offline_rl/{job}.json",
    params:
        python=sys.executable,
        job=lambda wildcards: json.dumps(OFFLINE_RL[wildcards.job]),
    wildcard_constraints:
        job="[^/]+",
    threads: 1
    # Through a pipe, so that jobs side by side write lines and no progress bars over each other.
    shell:
        "{params.python} -m ttlib.studies.offline_rl run {params.job:q} 2>&1 | cat >&2"


# It has no output, so it runs whenever it is asked for, and no record is deleted before it does.
rule offline_rl:
    input:
        expand("build/studies/offline_rl/{job}.json", job=OFFLINE_RL),
    params:
        python=sys.executable,
        config=json.dumps(config["offline_rl"]),
    shell:
        "{params.python} -m ttlib.studies.offline_rl gather {params.config:q}"
