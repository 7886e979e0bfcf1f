# The prediction study: one job a data set, method and seed, each with one thread, and a record of them all.
#
# A job that has ended is in build/studies/prediction/ and is not done again; one that was killed
# goes on from what it had kept there. Delete that folder to begin anew. Each job leaves its
# trained model in <job>/model.safetensors.

import json

from ttlib.studies import jobs, prediction


configfile: "studies/prediction.yaml"


PREDICTION = jobs.listed(config["prediction"], prediction.METHODS)


rule prediction_job:
    output:
        "build/studies/prediction/{job}.json",
    params:
        python=sys.executable,
        job=lambda wildcards: json.dumps(PREDICTION[wildcards.job]),
    wildcard_constraints:
        job="[^/]+",
    threads: 1
    # Through a pipe, so that jobs side by side write lines and no progress bars over each other.
    shell:
        "{params.python} -m ttlib.studies.prediction run {params.job:q} 2>&1 | cat >&2"


# It has no output, so it runs whenever it is asked for, and no record is deleted before it does.
rule prediction:
    input:
        expand("build/studies/prediction/{job}.json", job=PREDICTION),
    params:
        python=sys.executable,
        config=json.dumps(config["prediction"]),
    shell:
        "{params.python} -m ttlib.studies.prediction gather {params.config:q}"
