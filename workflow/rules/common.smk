# Names shared by several rule files.

SHARDS = range(STUDY.descriptors.shards)
BATCHES = range(STUDY.n_batches)
PROPERTIES = STUDY.properties.names()
HAS_REFERENCE = STUDY.reference.calculator is not None or STUDY.reference.table is not None
CAPTIONS = Path(str(workflow.current_basedir)).parent / "report" / "captions"


def settings(*sections):
    """The parts of the configuration a rule depends on: a change in them, and in no other, reruns it."""
    return STUDY.model_dump(mode="json", include={"elements", *sections})


def caption(name):
    """What the report says of a figure or table."""
    return (CAPTIONS / f"{name}.rst").read_text()


wildcard_constraints:
    property="|".join(PROPERTIES),
    shard=r"\d+",
    batch=r"\d+",


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
        "Recording the configuration, defaults included"
    script:
        "../scripts/record_config.py"
