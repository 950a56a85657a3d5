# What a study uses is recorded, defaults included.


rule record_config:
    output:
        f"{OUT}/config.yaml",
    log:
        f"{OUT}/logs/record_config.log",
    conda:
        "../../envs/popsbounds.yaml"
    params:
        config=STUDY.model_dump(mode="json"),
    message:
        "Recording the configuration"
    script:
        "../scripts/record_config.py"
