# Training frames: read (and, if asked for, generated and labelled), checked, split.

GENERATED, UNLABELLED, KNOWN, LABEL_MINUTES = [], [], [], 60
if STUDY.dataset.generate is not None:
    KNOWN = [STUDY.dataset.generate.known] if STUDY.dataset.generate.known is not None else []
    LABELS = range(STUDY.dataset.generate.batches)
    # With a longest time for a structure, a batch has a longest time, too.
    timeout_s = getattr(STUDY.dataset.generate.calculator, "timeout_s", None) or 0
    LABEL_MINUTES += math.ceil(timeout_s / 60 * STUDY.dataset.generate.frames / len(LABELS))
    GENERATED = expand(f"{OUT}/generate/labelled/{{batch}}.extxyz", batch=LABELS)
    UNLABELLED = expand(f"{OUT}/generate/labelled/{{batch}}_failed.csv", batch=LABELS)


rule generate_frames:
    input:
        KNOWN,
    output:
        f"{OUT}/generate/frames.extxyz",
    log:
        f"{OUT}/logs/generate_frames.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=lambda wildcards: generate_settings(),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Generating diverse training frames"
    script:
        "../scripts/generate_frames.py"


rule label_frames:
    input:
        frames=rules.generate_frames.output[0],
    output:
        labelled=f"{OUT}/generate/labelled/{{batch}}.extxyz",
        failures=f"{OUT}/generate/labelled/{{batch}}_failed.csv",
    log:
        f"{OUT}/logs/label_frames/{{batch}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    resources:
        runtime=lambda wildcards, attempt: LABEL_MINUTES * attempt,
    params:
        settings=lambda wildcards: STUDY.dataset.generate.model_dump(mode="json", include={"calculator", "batches"}),
    message:
        "Labelling batch {wildcards.batch} of the generated frames"
    script:
        "../scripts/label_frames.py"


rule build_dataset:
    input:
        sources=source_files(),
        generated=GENERATED,
        unlabelled=UNLABELLED,
    output:
        unlabelled=f"{OUT}/dataset/unlabelled.csv",
        table=f"{OUT}/dataset/frames.parquet",
        structures=f"{OUT}/dataset/structures.parquet",
    log:
        f"{OUT}/logs/build_dataset.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=settings("seed", "dataset") | {"shards": STUDY.descriptors.shards},
    message:
        "Reading, checking and splitting the data"
    script:
        "../scripts/build_dataset.py"


# How far the labels of some frames are converged, on demand.
rule check_labels:
    input:
        needing(GENERATED and STUDY.dataset.generate.check, "dataset.generate.check", GENERATED),
    output:
        f"{OUT}/export/check_labels.csv",
    log:
        f"{OUT}/logs/check_labels.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=lambda wildcards: STUDY.dataset.generate.check.model_dump(mode="json"),
    message:
        "Computing labels of some frames by a tighter calculation"
    script:
        "../scripts/check_labels.py"


# The labelled frames in one file, for other studies.
rule export_dataset:
    input:
        labelled=needing(GENERATED, "dataset.generate", GENERATED),
        failures=UNLABELLED,
    output:
        frames=f"{OUT}/export/labelled.extxyz.xz",
        provenance=f"{OUT}/export/labelled.json",
    log:
        f"{OUT}/logs/export_dataset.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=settings("seed", "material", "descriptors", "dataset"),
    message:
        "Exporting the labelled frames"
    script:
        "../scripts/export_dataset.py"
