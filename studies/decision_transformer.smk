# The Decision Transformer study: one job a data set, method and seed, each with one thread, and a record of them all.
#
# A job that has ended is in build/studies/decision_transformer/ and is not done again; one that
# was killed goes on from what it had kept there. Delete that folder to begin anew.

import json

from ttlib.studies import decision_transformer, jobs


configfile: "studies/decision_transformer.yaml"


DECISION_TRANSFORMER = jobs.listed(config["decision_transformer"], decision_transformer.METHODS)


rule decision_transformer_job:
    output:
        "build/studies/decision_transformer/{job}.json",
    params:
        python=sys.executable,
        job=lambda wildcards: json.dumps(DECISION_TRANSFORMER[wildcards.job]),
    wildcard_constraints:
        job="[^/]+",
    threads: 1
    # Through a pipe, so that jobs side by side write lines and no progress bars over each other.
    shell:
        "{params.python} -m ttlib.studies.decision_transformer run {params.job:q} 2>&1 | cat >&2"


# It has no output, so it runs whenever it is asked for, and no record is deleted before it does.
rule decision_transformer:
    input:
        expand("build/studies/decision_transformer/{job}.json", job=DECISION_TRANSFORMER),
    params:
        python=sys.executable,
        config=json.dumps(config["decision_transformer"]),
    shell:
        "{params.python} -m ttlib.studies.decision_transformer gather {params.config:q}"
