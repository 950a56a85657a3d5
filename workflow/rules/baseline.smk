# The MLE's own structures, Hessians and values: where every member starts.


rule compute_baseline:
    input:
        members=rules.draw_members.output[0],
    output:
        starts=f"{OUT}/baseline/{{property}}.npz",
        values=f"{OUT}/baseline/{{property}}.parquet",
    log:
        f"{OUT}/logs/compute_baseline/{{property}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        runtime=60,
    params:
        settings=lambda wildcards: property_settings(wildcards.property),
    message:
        "Relaxing the structures of {wildcards.property} under the MLE"
    script:
        "../scripts/compute_baseline.py"
