# Fan-out: way of propagation × property × batch of members, one live LAMMPS a job.


rule propagate_members:
    input:
        members=rules.draw_members.output[0],
        models=rules.compute_baseline.output.models,
        values=rules.compute_baseline.output.values,
        code=lambda wildcards: property_files(wildcards.property),
    output:
        f"{OUT}/{{fan}}/{{property}}/{{batch}}.parquet",
    log:
        f"{OUT}/logs/propagate_members/{{fan}}/{{property}}/{{batch}}.log",
    conda:
        MODEL_ENV
    resources:
        gpu=MODEL_GPUS,
        mem_mb=growing(1500, 6),
        runtime=lambda wildcards, attempt: attempt * (10 + STUDY.propagate.batch_size),
    params:
        settings=lambda wildcards: fan_settings(wildcards.fan, wildcards.property),
        method=lambda wildcards: next(method for method, fan in FANS.items() if fan == wildcards.fan),
    message:
        "Propagating batch {wildcards.batch} of the members through {wildcards.property}, {params.method}"
    script:
        "../scripts/propagate_members.py"
