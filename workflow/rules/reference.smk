# Reference values computed by the members' own code; those from a table are read when all is gathered.


rule compute_reference:
    input:
        code=lambda wildcards: property_files(wildcards.property),
        members=lambda wildcards: rules.draw_members.output[0] if wildcards.property in WARM else [],
        models=lambda wildcards: rules.compute_baseline.output.models if wildcards.property in WARM else [],
    output:
        values=f"{OUT}/reference/{{property}}.parquet",
        structures=f"{OUT}/reference/{{property}}.npz",
    log:
        f"{OUT}/logs/compute_reference/{{property}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        settings=lambda wildcards: property_settings(wildcards.property)
        | {
            "reference": STUDY.reference.model_dump(mode="json", include={"calculator", "relax"}),
            "warm": wildcards.property in WARM,
        },
    message:
        "Reference values of {wildcards.property}"
    script:
        "../scripts/compute_reference.py"


# The reference values as a table that other studies can name.
rule export_reference:
    input:
        needing(COMPUTED, "reference.calculator", expand(rules.compute_reference.output.values, property=COMPUTED)),
    output:
        f"{OUT}/export/reference.csv",
    log:
        f"{OUT}/logs/export_reference.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=settings("properties", "reference"),
    message:
        "Exporting the reference values"
    script:
        "../scripts/export_reference.py"


# phonopy's own files, for other tools.
rule write_phonons:
    input:
        members=lambda wildcards: rules.draw_members.output[0] if wildcards.source == "mle" else [],
    output:
        expand(f"{OUT}/phonon/{{{{source}}}}/{{file}}", file=["band.yaml", "mesh.yaml", "total_dos.dat"]),
    log:
        f"{OUT}/logs/write_phonons/{{source}}.log",
    wildcard_constraints:
        source="mle|reference",
    conda:
        MODEL_ENV
    resources:
        gpu=lambda wildcards: MODEL_GPUS if wildcards.source == "mle" else 0,
    params:
        settings=lambda wildcards: property_settings("phonon")
        | (settings("reference") if wildcards.source == "reference" else {}),
    message:
        "Writing phonopy's files of the {wildcards.source}"
    script:
        "../scripts/write_phonons.py"
