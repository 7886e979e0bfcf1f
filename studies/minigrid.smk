# The MiniGrid study: the shipped model in maps that it has never seen, in minutes.


# It has no output, so it runs whenever it is asked for, and no record is deleted before it does.
rule minigrid:
    input:
        "data/checkpoints/minigrid.safetensors",
    params:
        python=sys.executable,
    threads: workflow.cores
    shell:
        "{params.python} -m ttlib.studies.minigrid"
