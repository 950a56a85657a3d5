# Tables.

TABLES = tables(STUDY)


rule gather_properties:
    input:
        mle=expand(rules.compute_baseline.output.values, property=PROPERTIES),
        members=fan_out(),
        reference=expand(rules.compute_reference.output.values, property=COMPUTED),
        structures=expand(rules.compute_reference.output.structures, property=COMPUTED),
        baseline=expand(rules.compute_baseline.output.structures, property=COMPUTED),
        table=[STUDY.reference.table] if STUDY.reference.table is not None else [],
    output:
        f"{OUT}/tables/properties.parquet",
    log:
        f"{OUT}/logs/gather_properties.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 60),
    params:
        settings=settings("propagate", "reference"),
    message:
        "Gathering all values"
    script:
        "../scripts/gather_properties.py"


rule gather_models:
    input:
        expand(rules.compute_baseline.output.description, property=PROPERTIES),
    output:
        f"{OUT}/tables/models.parquet",
    log:
        f"{OUT}/logs/gather_models.log",
    conda:
        "../../envs/popsbounds.yaml"
    message:
        "Gathering what is known of the models"
    script:
        "../scripts/gather_tables.py"


rule summarise_properties:
    input:
        properties=rules.gather_properties.output[0],
        analytic=expand(rules.differentiate.output.bounds, property=PROPERTIES),
    output:
        bounds=f"{OUT}/tables/bounds.parquet",
        std_ratio=f"{OUT}/tables/std_ratio.parquet",
        spearman=f"{OUT}/tables/spearman.parquet",
        failures=f"{OUT}/tables/failures.parquet",
        truncation=f"{OUT}/tables/truncation.parquet",
    log:
        f"{OUT}/logs/summarise_properties.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        mem_mb=growing(1000, 150),
    params:
        settings=settings("properties", "ensemble", "material"),
    message:
        "Bounds, ratios, rank correlations and failures"
    script:
        "../scripts/summarise_properties.py"
