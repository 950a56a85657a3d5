# The page that tells what a study found.


rule write_report:
    input:
        config=rules.record_config.output[0],
        fit=rules.fit_posterior.output.summary,
        tables=expand(f"{OUT}/tables/{{table}}.parquet", table=TABLES),
        figures=expand(rules.draw_figure.output.png, figure=FIGURES),
    output:
        f"{OUT}/report.html",
    log:
        f"{OUT}/logs/write_report.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=settings("fit", "ensemble", "descriptors"),
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"
