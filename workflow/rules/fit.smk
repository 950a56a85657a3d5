# The loss-minimising potential, its POPS posterior, and what the ensemble says of the test data.


rule fit_posterior:
    input:
        matrices=expand(rules.compute_descriptors.output.matrix, shard=SHARDS),
        rows=expand(rules.compute_descriptors.output.rows, shard=SHARDS),
    output:
        posterior=f"{OUT}/fit/posterior.npz",
        summary=f"{OUT}/fit/summary.json",
    log:
        f"{OUT}/logs/fit_posterior.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        settings=settings("fit"),
    message:
        "Fitting the potential and its POPS posterior"
    script:
        "../scripts/fit_posterior.py"


rule predict_test:
    input:
        matrices=rules.fit_posterior.input.matrices,
        rows=rules.fit_posterior.input.rows,
        members=f"{OUT}/ensemble/members.npz",
    output:
        pointwise=f"{OUT}/tables/pointwise.parquet",
        calibration=f"{OUT}/tables/calibration.parquet",
    log:
        f"{OUT}/logs/predict_test.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=settings("fit", "ensemble"),
    message:
        "Predicting the test data with all members"
    script:
        "../scripts/predict_test.py"
