# Figures: name -> table it is drawn from, and whether this study has what it shows.

FORMATION, ELASTIC, SURFACE = STUDY.properties.formation, STUDY.properties.elastic, STUDY.properties.surface
CATALOGUE = {
    "fig01_pointwise": ("pointwise", True),
    "fig02_formation_energy": ("bounds", FORMATION),
    "fig03_volume": ("bounds", FORMATION),
    "fig04_bulk_modulus": ("bounds", FORMATION),
    "fig05_elastic_constants": ("bounds", ELASTIC),
    "fig06_surface_energy": ("bounds", SURFACE),
    "fig07_spearman": ("spearman", FORMATION or SURFACE),
    "fig08_deviations": ("deviations", True),
    "fig09_coverage": ("coverage", True),
    "fig10_coefficients": ("coefficients", True),
    "fig11_posteriors": ("posteriors", False),  # on demand
}
FIGURES = [name for name, (_, wanted) in CATALOGUE.items() if wanted]


rule draw_figure:
    input:
        lambda wildcards: f"{OUT}/tables/{CATALOGUE[wildcards.figure][0]}.parquet",
    output:
        pdf=f"{OUT}/figures/{{figure}}.pdf",
        png=report(
            f"{OUT}/figures/{{figure}}.png",
            caption="../report/caption.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{OUT}/logs/draw_figure/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(CATALOGUE),
    conda:
        "../../envs/popsbounds.yaml"
    params:
        caption=lambda wildcards: caption(wildcards.figure.split("_", maxsplit=1)[1]),
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/draw_figure.py"
