# On demand: snakemake calibration. Posteriors compared on held-out data, one job a case.

CASES = list(STUDY.calibration.cases)


rule compare_posteriors:
    input:
        matrices=rules.prepare_fit.input.matrices,
        rows=rules.prepare_fit.input.rows,
    output:
        table=f"{OUT}/calibration/{{case}}.parquet",
        seconds=f"{OUT}/calibration/{{case}}_seconds.csv",
    log:
        f"{OUT}/logs/compare_posteriors/{{case}}.log",
    wildcard_constraints:
        case="|".join(CASES),
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(4000, 3),
        runtime=growing(120, 0.1),
    params:
        settings=lambda wildcards: settings("seed", "fit", "ensemble")
        | {
            "case": STUDY.calibration.cases[wildcards.case].model_dump(mode="json"),
            "max_test_rows": STUDY.calibration.max_test_rows,
            "bags": STUDY.calibration.bags,
        },
    message:
        "Comparing posteriors, case {wildcards.case}"
    script:
        "../scripts/compare_posteriors.py"


rule gather_posteriors:
    input:
        expand(rules.compare_posteriors.output.table, case=CASES),
    output:
        f"{OUT}/tables/posteriors.parquet",
    log:
        f"{OUT}/logs/gather_posteriors.log",
    conda:
        "../../envs/popsbounds.yaml"
    message:
        "Gathering the comparison of posteriors"
    script:
        "../scripts/gather_tables.py"


rule calibration:
    input:
        rules.record_config.output[0],
        rules.gather_posteriors.output[0],
        f"{OUT}/figures/fig11_posteriors.pdf",
