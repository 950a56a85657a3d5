# Figures: name -> tables it is drawn from, and whether this study has what it shows.

HAS = set(PROPERTIES)
COMPARED = any(len(STUDY.properties.settings(name).method) > 1 for name in PROPERTIES)
CATALOGUE = {
    "fig01_pointwise": ("pointwise", True),
    "fig02_formation_energy": ("bounds", "formation" in HAS),
    "fig03_volume": ("bounds", "formation" in HAS),
    "fig04_bulk_modulus": ("bounds", "formation" in HAS),
    "fig05_elastic_constants": ("bounds", "elastic" in HAS),
    "fig06_surface_energy": ("bounds", "surface" in HAS),
    "fig07_spearman": ("spearman", HAS & {"formation", "surface", "sia"}),
    "fig08_deviations": ("deviations", True),
    "fig09_coverage": ("coverage", True),
    "fig10_coefficients": ("coefficients", True),
    "fig11_posteriors": ("posteriors", False),  # on demand
    "fig12_sia": ("bounds", "sia" in HAS),
    "fig13_phonons": ("bounds", "phonon" in HAS),
    "fig14_barrier": ("bounds", "neb" in HAS),
    "fig15_transformation_paths": ("bounds", "path" in HAS),
    "fig16_implicit": ("properties", HAS & {"formation", "neb"} and COMPARED),
    "fig17_sampling": ("properties bounds", HAS & {"formation", "elastic", "sia", "surface", "neb"}),
    "fig18_drivers": ("drivers", HAS),
    "fig19_environments": ("environments entropy descriptor_space", HAS and SNAP),
} | {f"fig{number}_own_{name}": ("bounds", True) for number, name in enumerate(STUDY.properties.own, start=20)}
FIGURES = [name for name, (_, wanted) in CATALOGUE.items() if wanted]


rule draw_figure:
    input:
        lambda wildcards: [f"{OUT}/tables/{table}.parquet" for table in CATALOGUE[wildcards.figure][0].split()],
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
