# Figures, from the tables that each is drawn from.

CATALOGUE = catalogue(STUDY)
FIGURES = [name for name in CATALOGUE if name not in ON_DEMAND]


rule draw_figure:
    input:
        lambda wildcards: [f"{OUT}/tables/{table}.parquet" for table in CATALOGUE[wildcards.figure]],
    output:
        pdf=f"{OUT}/figures/{{figure}}.pdf",
        png=f"{OUT}/figures/{{figure}}.png",
    log:
        f"{OUT}/logs/draw_figure/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(CATALOGUE),
    conda:
        "../../envs/popsbounds.yaml"
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/draw_figure.py"
