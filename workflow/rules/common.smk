# Names shared by several rule files.

SHARDS = range(STUDY.descriptors.shards)
BATCHES = range(STUDY.n_batches)
PROPERTIES = STUDY.properties.names()
COMPUTED = PROPERTIES if STUDY.reference.calculator is not None else []  # with reference values from a calculator
WARM = STUDY.reference.warm_start  # those that start at the MLE's structures
SNAP = STUDY.descriptors.kind == "snap"
PHONON_SOURCES = [source for source, names in (("mle", PROPERTIES), ("reference", COMPUTED)) if "phonon" in names]
MEMBERS_ONLY = {"trust_radius_A", "basin_displacement", "basin_strain"}
FANS = {"explicit": "members", "implicit": "implicit", "auto": "auto"}  # ways of propagation, and their folders
HOW = {"method", "levels", "tolerance"}  # of a property's settings: what the MLE and the reference do not depend on
# Jobs that run the potential: universal ones exclude each other in one environment, and may want a GPU.
MODEL = None if SNAP else STUDY.descriptors.model
MODEL_ENV = f"../../envs/{MODEL if MODEL in MODELS else 'popsbounds'}.yaml"
MODEL_GPUS = STUDY.engine.gpus if SNAP else int(STUDY.descriptors.device != "cpu")


def settings(*sections):
    """Sections of the configuration as parameters: jobs rerun when these, or the library's version, change."""
    return {"version": __version__} | STUDY.model_dump(mode="json", include={"elements", *sections})


def generate_settings():
    """What the generated frames depend on; without families, on the descriptors too."""
    generate = STUDY.dataset.generate
    section = generate.model_dump(mode="json", exclude={"calculator", "batches", "check"})
    return settings("seed", "material", *([] if generate.entropy is None else ["descriptors"])) | {"generate": section}


def source_files():
    """Files of the data; a folder's JSON files one by one. Missing ones are left for the reader to report."""
    paths = [source.path for source in STUDY.dataset.sources]
    files = [sorted(path.rglob("*.json")) if path.is_dir() else [path] for path in paths if path.exists()]
    return [file for some in files for file in some]


def property_settings(name):
    """The part of the configuration that the values of one property depend on, under any potential."""
    relax = STUDY.propagate.relax.model_dump(mode="json", exclude=MEMBERS_ONLY)
    section = STUDY.properties.settings(name).model_dump(mode="json", exclude=HOW)
    return settings("material") | {"property": section, "relax": relax}


def member_settings(name):
    """The part that the MLE's models and the members' values depend on."""
    propagate = STUDY.propagate.model_dump(mode="json", include={"relax", "families"})
    return property_settings(name) | propagate


def growing(base, per_input_mb):
    """A limit (MB or min) that grows with the size of a job's input, and from one try to the next."""
    return lambda wildcards, input, attempt: attempt * round(base + per_input_mb * input.size_mb)


def needing(section, key, files):
    """Input of a rule on demand, which a study can only ask for with that section of the configuration."""

    def found(wildcards):
        if not section:
            raise WorkflowError(f"{key} is not in the configuration of study {STUDY.study}: there is nothing to export")
        return files

    return found


def fan_out():
    """Files of all members, whichever way they are propagated."""
    return [
        f"{OUT}/{FANS[method]}/{name}/{batch}.parquet"
        for name in PROPERTIES
        for method in STUDY.properties.settings(name).method
        for batch in BATCHES
    ]


def fan_settings(fan, name):
    """What the members' values depend on, one way of propagation."""
    wanted = {"members": set(), "implicit": {"levels"}, "auto": {"tolerance"}}[fan]
    how = STUDY.properties.settings(name).model_dump(mode="json", include=wanted)
    return member_settings(name) | {"batch_size": STUDY.propagate.batch_size, "how": how}


def property_files(name):
    """The user's own code that a property is computed by."""
    return [STUDY.properties.own[name].file] if name in STUDY.properties.own else []


wildcard_constraints:
    property="|".join(PROPERTIES),
    shard=r"\d+",
    batch=r"\d+",
    fan="|".join(FANS.values()),
