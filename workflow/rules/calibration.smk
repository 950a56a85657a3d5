# On demand: snakemake calibration. Posteriors compared on held-out data, one job a split.

SPLITS = ["random", *STUDY.calibration.left_out]


rule compare_posteriors:
    input:
        matrices=rules.prepare_fit.input.matrices,
        rows=rules.prepare_fit.input.rows,
    output:
        table=f"{OUT}/calibration/{{split}}.parquet",
        seconds=f"{OUT}/calibration/{{split}}_seconds.csv",
    log:
        f"{OUT}/logs/compare_posteriors/{{split}}.log",
    wildcard_constraints:
        split="|".join(SPLITS),
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        settings=settings("seed", "fit", "ensemble", "calibration"),
    message:
        "Comparing posteriors, split {wildcards.split}"
    script:
        "../scripts/compare_posteriors.py"


rule gather_posteriors:
    input:
        expand(rules.compare_posteriors.output.table, split=SPLITS),
    output:
        f"{OUT}/tables/posteriors.parquet",
    log:
        f"{OUT}/logs/gather_posteriors.log",
    conda:
        "../../envs/popsbounds.yaml"
    message:
        "Gathering the comparison of posteriors"
    script:
        "../scripts/gather_posteriors.py"


rule calibration:
    input:
        rules.gather_posteriors.output[0],
        f"{OUT}/figures/fig11_posteriors.pdf",
