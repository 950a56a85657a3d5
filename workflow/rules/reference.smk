# Reference values: from a table, computed by the members' own code, or both.


rule compute_reference:
    input:
        table=[STUDY.reference.table] if STUDY.reference.table is not None else [],
    output:
        values=f"{OUT}/reference/{{property}}.parquet",
        structures=f"{OUT}/reference/{{property}}.npz",
    log:
        f"{OUT}/logs/compute_reference/{{property}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        settings=lambda wildcards: property_settings(wildcards.property) | settings("reference"),
    message:
        "Reference values of {wildcards.property}"
    script:
        "../scripts/compute_reference.py"
