# What drives the uncertainty: each quantity's posterior variance by axis, and by the training data it comes from.


rule attribute_variance:
    input:
        matrices=rules.prepare_fit.input.matrices,
        rows=rules.prepare_fit.input.rows,
        scaling=rules.prepare_fit.output[0],
        ridge=rules.fit_ridge.output[0],
        posterior=rules.fit_posterior.output.posterior,
        corrections=rules.fit_posterior.output.rows,
        gradients=expand(rules.differentiate.output.gradients, property=PROPERTIES),
    output:
        f"{OUT}/tables/drivers.parquet",
    log:
        f"{OUT}/logs/attribute_variance.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(2000, 3),
        runtime=growing(60, 0.1),
    params:
        settings=settings("fit"),
    message:
        "What drives the uncertainty"
    script:
        "../scripts/attribute_variance.py"
