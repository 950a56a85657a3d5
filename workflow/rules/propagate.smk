# Fan-out: property × batch of members, one live LAMMPS a job.


rule propagate_members:
    input:
        members=rules.draw_members.output[0],
        models=rules.compute_baseline.output.models,
        values=rules.compute_baseline.output.values,
        code=lambda wildcards: property_files(wildcards.property),
    output:
        f"{OUT}/members/{{property}}/{{batch}}.parquet",
    log:
        f"{OUT}/logs/propagate_members/{{property}}/{{batch}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        runtime=lambda wildcards, attempt: attempt * (10 + STUDY.propagate.batch_size),
    params:
        settings=lambda wildcards: member_settings(wildcards.property) | {"batch_size": STUDY.propagate.batch_size},
    message:
        "Propagating batch {wildcards.batch} of the members through {wildcards.property}"
    script:
        "../scripts/propagate_members.py"
