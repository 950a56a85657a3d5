# Names shared by several rule files.

SHARDS = range(STUDY.descriptors.shards)
BATCHES = range(STUDY.n_batches)
PROPERTIES = STUDY.properties.names()
HAS_REFERENCE = STUDY.reference.calculator is not None or STUDY.reference.table is not None
PHONON_SOURCES = ["mle"] * ("phonon" in PROPERTIES)
if STUDY.reference.calculator is not None:
    PHONON_SOURCES += ["reference"] * ("phonon" in PROPERTIES)
CAPTIONS = Path(str(workflow.current_basedir)).parent / "report" / "captions"


def settings(*sections):
    """Sections of the configuration as parameters: jobs rerun when these, or the library's version, change."""
    return {"version": __version__} | STUDY.model_dump(mode="json", include={"elements", *sections})


def source_files():
    """Files of the data; a folder's JSON files one by one. Missing ones are left for the reader to report."""
    paths = [source.path for source in STUDY.dataset.sources]
    files = [sorted(path.rglob("*.json")) if path.is_dir() else [path] for path in paths if path.exists()]
    return [file for some in files for file in some]


def caption(name):
    """What the report says of a figure or table."""
    return (CAPTIONS / f"{name}.rst").read_text()


def property_settings(name):
    """The part of the configuration that the values of one property depend on."""
    propagate = settings("propagate")["propagate"]
    return settings("material") | {
        "property": STUDY.properties.settings(name).model_dump(mode="json"),
        "relax": propagate["relax"],
        "families": propagate["families"],
    }


def property_files(name):
    """The user's own code that a property is computed by."""
    return [STUDY.properties.own[name].file] if name in STUDY.properties.own else []


wildcard_constraints:
    property="|".join(PROPERTIES),
    shard=r"\d+",
    batch=r"\d+",
