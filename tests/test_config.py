"""The configuration: what is refused, and that its documents are true."""

from __future__ import annotations

import copy
import difflib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from popsbounds.config import MODELS, Fit, load_config, missing_files, parse_config
from popsbounds.config_docs import FILES
from popsbounds.errors import InputError
from popsbounds.pops import LEVERAGE_FLOOR

ROOT = Path(__file__).parents[1]

GOOD = {
    "study": "good",
    "elements": ["W"],
    "dataset": {
        "sources": [{"path": "a.extxyz"}],
        "generate": {"calculator": {"kind": "lammps", "pair_style": "lj/cut 5", "pair_coeff": ["* * 1 1"]}},
    },
    "material": {"element": "W"},
    "properties": {"formation": {}, "surface": {}},
}

BAD = [
    ("stdy", "x", "stdy: unknown key (did you mean 'study'?)"),
    ("study", None, "study: required key is missing"),
    ("study", "../escape", "study: "),
    ("study", ["a"], "study: "),
    ("seed", -1, "seed: "),
    ("seed", "today", "seed: "),
    ("elements", [], "elements: "),
    ("elements", ["Wx"], "elements[0]: 'Wx' is not a chemical element"),
    ("elements", ["W", "W"], "elements: 'W' is listed twice"),
    ("elements", ["Mo"], "material.element: 'W' is not among elements"),
    ("material", {"element": ["W", "Mo"]}, "material: volume_A3: required for the compound of W and Mo"),
    ("material", {"element": ["W", "W"]}, "material.element: 'W' is listed twice"),
    ("material", {"element": ["W", "Mo"], "volume_A3": 16}, "material.element: 'Mo' is not among elements ['W']"),
    ("properties.formation", {"structures": ["bcc", "CsCl"]}, "formation.structures: no crystal 'CsCl' of W; known: b"),
    ("properties", {"elastic": {"structures": ["rocksalt"]}}, "elastic.structures: no crystal 'rocksalt' of W"),
    ("dataset.generate.crystals", ["CsCl"], "dataset.generate.crystals: no crystal 'CsCl' of W"),
    ("dataset", {}, "dataset: no data"),
    ("dataset.sources", [{"pth": "a"}], "dataset.sources[0].pth: unknown key (did you mean 'path'?)"),
    ("dataset.sources", [{"path": "a", "keys": {"force": "F"}}], "keys.force: unknown key (did you mean 'forces'?)"),
    ("dataset.test_fraction", 1.5, "dataset.test_fraction: "),
    ("dataset.generate.shares", {"crystals": 1.0}, "dataset.generate.shares.crystals"),
    ("dataset.generate.crystals", ["bbc"], "unknown crystal 'bbc' (did you mean 'bcc'?)"),
    ("dataset.generate.calculator", {"kind": "lammps", "pair_stile": 1}, "pair_stile: unknown key (did you mean"),
    ("dataset.generate.calculator", {"kind": "vasp"}, "dataset.generate.calculator: `kind` is none of lammps, ase"),
    ("dataset.generate.calculator", {"pair_style": "x"}, "calculator.pair_coeff: required key is missing"),
    ("dataset.generate.calculator", {"kind": "ase", "name": "GPAW"}, "calculator.name: "),
    ("dataset.checks", {"duplicates": "ignore"}, "dataset.checks.duplicates: "),
    ("descriptors", {"twojmax": 1}, "descriptors.twojmax: "),
    ("descriptors", {"radii": {"Mo": 0.5}}, "descriptors.radii: ['Mo'] not among elements"),
    ("descriptors", {"reference": {"pair_style": "hybrid zbl 4 5", "pair_coeff": ["* *"]}}, "pair_style: a hybrid"),
    ("fit", {"regularisation": 0}, "fit.regularisation: Input should be greater than 0"),
    ("fit", {"regularisation": "evidnce"}, "fit.regularisation: Input should be 'evidence'"),
    ("fit", {"posterior": "hypercube", "power": 1.0}, "- fit.power: is for fit.posterior 'gaussian', not 'hypercube'"),
    ("fit", {"coordinates": "whitened"}, "- fit.coordinates: is for fit.posterior 'hypercube'"),
    ("reference", {"relax": {"max_steps": 5}}, "- reference.relax: is for a reference.calculator"),
    ("reference", {"warm_start": ["surface"]}, "- reference.warm_start: is for a reference.calculator"),
    ("fit", {"components": 0}, "fit.components: "),
    ("calibration", {"cases": {"a": {"left_out": ["bulk"], "splits": 2}}}, "splits must be 1"),
    ("dataset.sources", [{"path": "a", "element_shifts_eV": {"Ww": 1.0}}], "dataset.sources[0].element_shifts_eV"),
    ("fit", {"coordinates": "whitend"}, "fit.coordinates: "),
    ("ensemble", {"members": 0}, "ensemble.members: "),
    ("properties", {}, "properties: no property"),
    ("material", None, "material: required for properties"),
    ("descriptors", {"kind": "snp"}, "descriptors: `kind` is none of snap, universal"),
    ("descriptors", {"kind": "universal"}, "descriptors.model: required key is missing"),
    ("descriptors", {"kind": "universal", "modle": "mace"}, "descriptors.modle: unknown key (did you mean 'model'?)"),
    ("descriptors", {"kind": "universal", "model": "mace", "twojmax": 8}, "descriptors.twojmax: unknown key"),
    ("properties", {"formations": {}}, "properties.formations: unknown key (did you mean 'formation'?)"),
    ("properties.formation", {"structures": ["fcc"]}, "`zero` is 'bcc'"),
    ("properties.surface", {"facets": [110]}, 'facets[0]: write the facet as three digits in quotes, such as "110"'),
    ("properties.surface", {"facets": ["110", "110"]}, "properties.surface.facets: '110' is listed twice"),
    ("dataset.generate.batches", 9999, "`batches` (9999) exceeds `frames`"),
    ("dataset.generate.volume_range", [1.2, 0.8], "`volume_range` [1.2, 0.8] is not in ascending order"),
    ("properties.surface", {"facets": ["000"]}, "'000' is not a facet"),
    ("properties.surface", {"vacuum_A": 3.0}, "properties.surface.vacuum_A: 3.0 Å lets the two faces"),
    ("properties", {"elastic": {"structures": ["hcp"]}}, "structures[0]: 'hcp' is no cubic crystal"),
    ("properties", {"sia": {"method": "implict"}}, "properties.sia.method[0]: Input should be 'explicit', 'impl"),
    ("properties", {"sia": {"method": []}}, "properties.sia.method: List should have at least 1 item"),
    ("properties", {"sia": {"method": ["auto", "auto"]}}, "properties.sia.method: 'auto' is listed twice"),
    ("properties", {"sia": {"levels": ["third"]}}, "properties.sia.levels[0]: "),
    ("properties", {"sia": {"method": "auto", "tolerance": {}}}, "`method: auto` needs a `tolerance`"),
    ("properties", {"sia": {"tolerance": {"GPa": 1.0}}}, "no value has the unit 'GPa'; units are eV, 1"),
]  # fmt: skip


def changed(key, value):
    raw = copy.deepcopy(GOOD)
    *path, last = key.split(".")
    section = raw
    for part in path:
        section = section[part]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return raw


def test_good_configuration():
    config = parse_config(GOOD)
    assert config.ensemble.members == 500
    assert config.properties.names() == ["formation", "surface"]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=[f"{k}-{i}" for i, (k, _, _) in enumerate(BAD)])
def test_bad_configuration_names_the_key(key, value, message):
    with pytest.raises(InputError) as caught:
        parse_config(changed(key, value), origin="my.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("my.yaml: ")


def test_the_kind_of_a_calculator_may_be_left_out():
    calculator = {"pair_style": "lj/cut 5", "pair_coeff": ["* * 1 1"]}
    assert parse_config(changed("dataset.generate.calculator", calculator)) == parse_config(GOOD)


def test_the_references_tolerances_are_the_members_but_for_those_given():
    calculator = GOOD["dataset"]["generate"]["calculator"]
    raw = GOOD | {
        "propagate": {"relax": {"smax_GPa": 0.5, "max_steps": 7}},
        "reference": {"calculator": calculator, "relax": {"max_steps": 9}},
    }
    found = parse_config(raw).reference_relax
    assert (found.smax_GPa, found.max_steps) == (0.5, 9)
    del raw["reference"]["relax"]
    assert parse_config(raw).reference_relax == parse_config(raw).propagate.relax


def test_missing_files_are_named_with_their_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("")
    raw = changed("properties", {"formation": {}, "own": {"mine": {"file": "own.py"}}})
    raw["dataset"]["generate"] |= {"entropy": {}, "known": "known.extxyz"}
    found = missing_files(parse_config(raw | {"reference": {"table": "values.csv"}}))
    keys = ["dataset.generate.known", "reference.table", "properties.own.mine.file"]
    assert [line.partition(":")[0] for line in found] == keys
    assert not missing_files(parse_config(GOOD | {"reference": {"table": "there.csv"}}))


COMPOUND = GOOD | {
    "elements": ["Mg", "O"],
    "dataset": {"sources": [{"path": "a.extxyz"}]},
    "material": {"element": ["Mg", "O"], "volume_A3": 9.3},
    "properties": {"formation": {"structures": ["rocksalt", "CsCl"], "zero": "rocksalt"}},
}


def test_binary_compound():
    assert parse_config(COMPOUND).material.species == ["Mg", "O"]


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("properties", {"formation": {"structures": ["bcc"]}}, "no crystal 'bcc' of Mg and O; known: rocksalt, CsCl"),
        ("properties", {"elastic": {}}, "properties.elastic.structures: no crystal 'bcc' of Mg and O"),
        ("properties", {"surface": {}}, "properties.surface: of one element only"),
        ("dataset", GOOD["dataset"], "dataset.generate: of one element only"),
    ],
)
def test_what_binary_compounds_do_not_have(section, value, message):
    with pytest.raises(InputError, match=message):
        parse_config(COMPOUND | {section: value})


def test_all_problems_are_listed_at_once():
    raw = changed("seed", -1) | {"fit": {"coordinate": "raw"}, "ensemble": {"members": 0}}
    with pytest.raises(InputError) as caught:
        parse_config(raw)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a mapping"),
        ("- a\n- b", "is not a mapping"),
        ("study: [", "is not valid YAML"),
        ("study: a\nseed: 1\nseed: 2", "key 'seed' is given twice"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert "bad.yaml" in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(("members", "size"), [(500, 50), (7, 3), (1, 10), (10, 10)])
def test_batches_hold_every_member_once(members, size):
    config = parse_config(GOOD | {"ensemble": {"members": members}, "propagate": {"batch_size": size}})
    batches = [list(config.batch_members(b)) for b in range(config.n_batches)]
    assert [member for batch in batches for member in batch] == list(range(members))
    assert all(batches)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path):
    assert load_config(path).study == path.stem


def test_nothing_slow_is_imported_with_it():
    """Snakemake reads the configuration before it does anything, in every job again."""
    slow = ["ase.spacegroup", "lammps", "matplotlib", "pandas", "scipy", "sklearn", "spglib", "torch"]
    script = f"import sys, popsbounds.config; print([name for name in {slow} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_an_extra_and_an_environment(model):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "torch" in extras[model]
    plain = yaml.safe_load((ROOT / "envs/popsbounds.yaml").read_text())
    assert yaml.safe_load((ROOT / f"envs/{model}.yaml").read_text()) == plain
    install = (ROOT / "envs/popsbounds.post-deploy.sh").read_text().replace("--editable .", f'--editable ".[{model}]"')
    assert (ROOT / f"envs/{model}.post-deploy.sh").read_text() == install


def test_the_default_floor_is_that_of_the_library():
    assert Fit().leverage_floor == LEVERAGE_FLOOR


@pytest.mark.parametrize("path", FILES)
def test_documents_are_up_to_date(path):
    old, new = (ROOT / path).read_text(), FILES[path]()
    diff = "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), "committed", "generated", lineterm=""))
    assert old == new, f"run `make docs`:\n{diff}"


def test_every_key_has_a_description():
    for path in FILES:
        if path.endswith(".md"):
            rows = [line for line in (ROOT / path).read_text().splitlines() if line.startswith("| `")]
            assert len(rows) > 60
            assert not [row for row in rows if row.endswith("|  |")]


def test_schema_forbids_unknown_keys():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    sections = [schema, *schema["$defs"].values()]
    assert all(s.get("additionalProperties") is False for s in sections if s.get("type") == "object")
