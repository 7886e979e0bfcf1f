# The AntMaze study: one job a data set, method and seed, each with one thread, and a record of them all.
#
# A job that has ended is in build/studies/antmaze/ and is not done again; one that was killed
# goes on from what it had kept there. Delete that folder to begin anew.

import json

from ttlib.studies import jobs, methods


configfile: "studies/antmaze.yaml"


ANTMAZE = jobs.listed(config["antmaze"], methods.METHODS)


rule antmaze_job:
    input:
        # A model that is trained anew is measured anew.
        lambda wildcards: methods.needed(ANTMAZE[wildcards.job], "."),
    output:
        "build/studies/antmaze/{job}.json",
    params:
        python=sys.executable,
        job=lambda wildcards: json.dumps(ANTMAZE[wildcards.job]),
    wildcard_constraints:
        job="[^/]+",
    threads: 1
    # Through a pipe, so that jobs side by side write lines and no progress bars over each other.
    shell:
        "{params.python} -m ttlib.studies.antmaze run {params.job:q} 2>&1 | cat >&2"


# It has no output, so it runs whenever it is asked for, and no record is deleted before it does.
rule antmaze:
    input:
        expand("build/studies/antmaze/{job}.json", job=ANTMAZE),
    params:
        python=sys.executable,
        config=json.dumps(config["antmaze"]),
    shell:
        "{params.python} -m ttlib.studies.antmaze gather {params.config:q}"
