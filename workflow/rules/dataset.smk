# Training frames: read (and, if asked for, generated and labelled), checked, split.

GENERATED = []
if STUDY.dataset.generate is not None:
    GENERATED = expand(f"{OUT}/generate/labelled/{{batch}}.extxyz", batch=range(STUDY.dataset.generate.batches))


rule generate_frames:
    output:
        f"{OUT}/generate/frames.extxyz",
    log:
        f"{OUT}/logs/generate_frames.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=lambda wildcards: settings("seed", "material")
        | {"generate": settings("dataset")["dataset"]["generate"]},
    message:
        "Generating diverse training frames"
    script:
        "../scripts/generate_frames.py"


rule label_frames:
    input:
        frames=rules.generate_frames.output[0],
    output:
        f"{OUT}/generate/labelled/{{batch}}.extxyz",
    log:
        f"{OUT}/logs/label_frames/{{batch}}.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        settings=lambda wildcards: settings("dataset")["dataset"]["generate"],
    message:
        "Labelling batch {wildcards.batch} of the generated frames"
    script:
        "../scripts/label_frames.py"


rule build_dataset:
    input:
        sources=source_files(),
        generated=GENERATED,
    output:
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
