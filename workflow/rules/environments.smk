# Which atomic environments the training set holds, beside other sets, and which structures lie outside.


rule compare_environments:
    input:
        table=rules.build_dataset.output.table,
        frames=rules.build_dataset.output.structures,
        members=rules.draw_members.output[0],
        models=expand(rules.compute_baseline.output.models, property=PROPERTIES),
    output:
        environments=f"{OUT}/tables/environments.parquet",
        entropy=f"{OUT}/tables/entropy.parquet",
        descriptor_space=f"{OUT}/tables/descriptor_space.parquet",
    log:
        f"{OUT}/logs/compare_environments.log",
    # One long job: early, beside the members, it costs no time of its own.
    priority: 1
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        settings=settings("seed", "material"),
    message:
        "Comparing the training set with the properties' structures and with other sets"
    script:
        "../scripts/compare_environments.py"
