# Rows of the design matrix, in shards.


rule compute_descriptors:
    input:
        table=rules.build_dataset.output.table,
        structures=rules.build_dataset.output.structures,
    output:
        matrix=f"{OUT}/descriptors/{{shard}}.npy",
        rows=f"{OUT}/descriptors/{{shard}}.parquet",
    log:
        f"{OUT}/logs/compute_descriptors/{{shard}}.log",
    conda:
        MODEL_ENV
    resources:
        gpu=MODEL_GPUS,
        runtime=growing(60, 10),
    params:
        settings=settings("seed", "descriptors") | {"weights": STUDY.dataset.weights.model_dump()},
    message:
        "Computing descriptors, shard {wildcards.shard}"
    script:
        "../scripts/compute_descriptors.py"
