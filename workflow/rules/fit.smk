# The loss-minimising potential and its POPS posterior, in three passes over the shards, and what the ensemble says
# of the test data.


rule prepare_fit:
    input:
        matrices=expand(rules.compute_descriptors.output.matrix, shard=SHARDS),
        rows=expand(rules.compute_descriptors.output.rows, shard=SHARDS),
        structures=[] if SNAP else rules.build_dataset.output.structures,
    output:
        f"{OUT}/fit/scaling.npz",
    log:
        f"{OUT}/logs/prepare_fit.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 1),
    params:
        settings=settings("descriptors") | {"energy_rows": STUDY.fit.energy_rows},
    message:
        "Scaling the rows"
    script:
        "../scripts/prepare_fit.py"


rule accumulate_moments:
    input:
        matrix=rules.compute_descriptors.output.matrix,
        rows=rules.compute_descriptors.output.rows,
        scaling=rules.prepare_fit.output[0],
    output:
        temp(f"{OUT}/fit/moments/{{shard}}.npz"),
    log:
        f"{OUT}/logs/accumulate_moments/{{shard}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 3),
        runtime=growing(30, 0.1),
    message:
        "Pass 1: moments of shard {wildcards.shard}"
    script:
        "../scripts/accumulate_moments.py"


rule fit_ridge:
    input:
        expand(rules.accumulate_moments.output[0], shard=SHARDS),
    output:
        f"{OUT}/fit/ridge.npz",
    log:
        f"{OUT}/logs/fit_ridge.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 3),
    params:
        settings=settings("descriptors")
        | {"regularisation": STUDY.fit.regularisation, "components": STUDY.fit.components},
    message:
        "Fitting the potential"
    script:
        "../scripts/fit_ridge.py"


rule accumulate_corrections:
    input:
        matrix=rules.compute_descriptors.output.matrix,
        rows=rules.compute_descriptors.output.rows,
        scaling=rules.prepare_fit.output[0],
        ridge=rules.fit_ridge.output[0],
    output:
        temp(f"{OUT}/fit/corrections/{{shard}}.npz"),
    log:
        f"{OUT}/logs/accumulate_corrections/{{shard}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 3),
        runtime=growing(30, 0.1),
    params:
        settings=settings("fit"),
    message:
        "Pass 2: corrections of shard {wildcards.shard}"
    script:
        "../scripts/accumulate_corrections.py"


rule prepare_posterior:
    input:
        ridge=rules.fit_ridge.output[0],
        corrections=expand(rules.accumulate_corrections.output[0], shard=SHARDS),
    output:
        temp(f"{OUT}/fit/prepared.npz"),
    log:
        f"{OUT}/logs/prepare_posterior.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 3),
    params:
        settings=settings("seed", "fit", "ensemble"),
    message:
        "Shape of the posterior"
    script:
        "../scripts/prepare_posterior.py"


rule measure_posterior:
    input:
        matrix=rules.compute_descriptors.output.matrix,
        rows=rules.compute_descriptors.output.rows,
        scaling=rules.prepare_fit.output[0],
        corrections=rules.accumulate_corrections.output[0],
        prepared=rules.prepare_posterior.output[0],
    output:
        temp(f"{OUT}/fit/measured/{{shard}}.npz"),
    log:
        f"{OUT}/logs/measure_posterior/{{shard}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 3),
        runtime=growing(30, 0.1),
    params:
        settings=settings("seed", "fit", "ensemble"),
    message:
        "Pass 3: extent of the posterior in shard {wildcards.shard}"
    script:
        "../scripts/measure_posterior.py"


rule fit_posterior:
    input:
        matrices=rules.prepare_fit.input.matrices,
        rows=rules.prepare_fit.input.rows,
        scaling=rules.prepare_fit.output[0],
        ridge=rules.fit_ridge.output[0],
        corrections=rules.prepare_posterior.input.corrections,
        prepared=rules.prepare_posterior.output[0],
        measured=expand(rules.measure_posterior.output[0], shard=SHARDS),
    output:
        posterior=f"{OUT}/fit/posterior.npz",
        rows=f"{OUT}/fit/rows.npz",
        summary=f"{OUT}/fit/summary.json",
        coefficients=f"{OUT}/tables/coefficients.parquet",
    log:
        f"{OUT}/logs/fit_posterior.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 3),
        runtime=growing(30, 0.1),
    params:
        settings=settings("seed", "fit", "ensemble"),
    message:
        "POPS posterior"
    script:
        "../scripts/fit_posterior.py"


rule predict_test:
    input:
        matrices=rules.prepare_fit.input.matrices,
        rows=rules.prepare_fit.input.rows,
        posterior=rules.fit_posterior.output.posterior,
        members=f"{OUT}/ensemble/members.npz",
    output:
        pointwise=f"{OUT}/tables/pointwise.parquet",
        calibration=f"{OUT}/tables/calibration.parquet",
        deviations=f"{OUT}/tables/deviations.parquet",
        coverage=f"{OUT}/tables/coverage.parquet",
    log:
        f"{OUT}/logs/predict_test.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(2000, 3),
        runtime=growing(30, 0.1),
    params:
        settings=settings("fit", "ensemble"),
    message:
        "Predicting the test data with all members"
    script:
        "../scripts/predict_test.py"
