# The imitation study: one job a data set, method and seed, each with one thread, and a record of them all.
#
# A job that has ended is in build/studies/imitation/ and is not done again; one that was killed
# goes on from what it had kept there. Delete that folder to begin anew.

import json

from ttlib.studies import jobs, methods


configfile: "studies/imitation.yaml"


IMITATION = jobs.listed(config["imitation"], methods.METHODS)


rule imitation_job:
    input:
        # A model that is trained anew is measured anew.
        lambda wildcards: methods.needed(IMITATION[wildcards.job], "."),
    output:
        "build/studies/imitation/{job}.json",
    params:
        python=sys.executable,
        job=lambda wildcards: json.dumps(IMITATION[wildcards.job]),
    wildcard_constraints:
        job="[^/]+",
    threads: 1
    # Through a pipe, so that jobs side by side write lines and no progress bars over each other.
    shell:
        "{params.python} -m ttlib.studies.imitation run {params.job:q} 2>&1 | cat >&2"


# It has no output, so it runs whenever it is asked for, and no record is deleted before it does.
rule imitation:
    input:
        expand("build/studies/imitation/{job}.json", job=IMITATION),
    params:
        python=sys.executable,
        config=json.dumps(config["imitation"]),
    shell:
        "{params.python} -m ttlib.studies.imitation gather {params.config:q}"
