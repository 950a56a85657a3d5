# The MLE's own structures and values, and the models of them that make members cheap.


rule compute_baseline:
    input:
        members=rules.draw_members.output[0],
        code=lambda wildcards: property_files(wildcards.property),
    output:
        models=f"{OUT}/baseline/{{property}}.npz",
        structures=f"{OUT}/baseline/structures/{{property}}.npz",
        values=f"{OUT}/baseline/values/{{property}}.parquet",
        description=f"{OUT}/baseline/models/{{property}}.parquet",
    log:
        f"{OUT}/logs/compute_baseline/{{property}}.log",
    conda:
        MODEL_ENV
    resources:
        gpu=MODEL_GPUS,
        mem_mb=growing(2500, 5),
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=lambda wildcards: member_settings(wildcards.property),
    message:
        "Relaxing the structures of {wildcards.property} under the MLE, and modelling them"
    script:
        "../scripts/compute_baseline.py"
