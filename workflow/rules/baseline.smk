# The MLE's own structures, Hessians and values: where every member starts.


rule compute_baseline:
    input:
        posterior=rules.fit_posterior.output.posterior,
    output:
        starts=f"{OUT}/baseline/{{property}}.npz",
        values=f"{OUT}/baseline/{{property}}.parquet",
    log:
        f"{OUT}/logs/compute_baseline/{{property}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=lambda wildcards: property_settings(wildcards.property),
    message:
        "Relaxing the structures of {wildcards.property} under the MLE"
    script:
        "../scripts/compute_baseline.py"
