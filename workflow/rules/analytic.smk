# Closed form: derivatives with respect to the parameters, and bounds over the whole posterior.


rule differentiate:
    input:
        posterior=rules.fit_posterior.output.posterior,
        models=rules.compute_baseline.output.models,
        values=rules.compute_baseline.output.values,
        code=lambda wildcards: property_files(wildcards.property),
    output:
        gradients=f"{OUT}/analytic/{{property}}.npz",
        bounds=f"{OUT}/analytic/{{property}}.parquet",
    log:
        f"{OUT}/logs/differentiate/{{property}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1500, 6),
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=lambda wildcards: member_settings(wildcards.property) | settings("ensemble"),
    message:
        "Derivatives of {wildcards.property} with respect to the parameters"
    script:
        "../scripts/differentiate.py"


# On demand: snakemake write_extremes
rule write_extremes:
    input:
        posterior=rules.fit_posterior.output.posterior,
        gradients=expand(rules.differentiate.output.gradients, property=PROPERTIES),
    output:
        directory(f"{OUT}/analytic/potentials"),
    log:
        f"{OUT}/logs/write_extremes.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=settings("ensemble"),
    message:
        "Writing the parameters at which each quantity is extreme as LAMMPS potentials"
    script:
        "../scripts/write_extremes.py"
