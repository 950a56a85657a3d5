"""Writes what is known of the configuration from its model: `config/README.md` and the JSON schema.

Run ``python -m popsbounds.config_docs`` in the project's root after a change of
`popsbounds.config`; a test fails until then.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from popsbounds.config import Config, Crystal, Element, Facet, Section

__all__ = ["FILES", "readme", "schema"]

_INTRODUCTION = """# Configuration

A study is one YAML file. Everything it makes goes to `results/<study>/`.

```bash
make run                                          # config/demo.yaml, the default
make run STUDY=tungsten                           # config/tungsten.yaml
snakemake --cores all --configfile my_study.yaml  # any file
```

A file given with `--configfile` is a whole study: it is not merged into the default one. Paths are relative to the
folder Snakemake is started in. Unknown keys, wrong types and impossible combinations are errors that name the key;
`results/<study>/config.yaml` records what a run used, defaults included.

Your own data, in a file that ASE reads, for any element:

```yaml
study: my_copper
elements: [Cu]
dataset:
  sources:
    - path: my_data/train.extxyz
      keys: {energy: dft_energy, forces: dft_forces}
material:
  element: Cu
properties:
  formation: {structures: [fcc, bcc, hcp], zero: fcc}
  surface: {bulk: fcc, facets: ["100", "110", "111"]}
```

No data yet: the workflow generates frames that maximise the entropy of their descriptors, without any choice of
structures, and labels them with any calculator of ASE, one batch a job (a whole study, with
GPAW, is `config/gpaw.yaml`).

```yaml
dataset:
  generate:
    frames: 2000
    max_atoms: 8
    entropy: {}
    batches: 100
    calculator:
      kind: ase
      name: ase.calculators.vasp.Vasp
      timeout_s: 3600
      arguments: {xc: PBE, encut: 400, kspacing: 0.2, ismear: 1, sigma: 0.2, ediff: 1.0e-5, command: mpirun vasp_std}
```

For Quantum ESPRESSO, `name: ase.calculators.espresso.Espresso` with `arguments: {pseudopotentials: {Cu: Cu.upf},
input_data: {system: {ecutwfc: 60}}, kspacing: 0.03}`; where its programs and pseudopotentials lie is told to ASE in the
section `[espresso]` of its own configuration file. Every structure is computed in a temporary folder of its own; the
energy taken is the one that the forces are derivatives of (the free energy, where occupations are smeared), and results
are kept by content in `cache`: whatever stops a run, no structure is computed twice. Frames that the calculator fails
on are left out and listed, with the reason, in `results/<study>/dataset/unlabelled.csv`.

```bash
snakemake --configfile my_study.yaml --cores 8 results/my_study/export/labelled.extxyz.xz  # frames and labels, to keep
snakemake --configfile my_study.yaml --cores 8 results/my_study/export/check_labels.csv    # beside tighter settings
snakemake --configfile my_study.yaml --cores 8 results/my_study/export/reference.csv       # references, for `table`
```

This page is made from the model in `workflow/popsbounds/config.py` by `make docs`.
"""

_NAMED = {id(Element): "element symbol", id(Crystal): "crystal name", id(Facet): 'facet, such as `"110"`'}
_PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", Any: "anything"}


def _type_name(annotation: Any) -> str:
    """A type in plain words."""
    if id(annotation) in _NAMED:
        return _NAMED[id(annotation)]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, types.UnionType):
        names = ["null" if a is type(None) else _type_name(a) for a in arguments]
        return " or ".join(dict.fromkeys(names))
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin is list:
        return f"list of: {_type_name(arguments[0])}"
    if origin is tuple:
        return "pair of numbers" if len(arguments) == 2 else f"list of {len(arguments)} numbers"
    if origin is dict:
        return f"mapping from {_type_name(arguments[0])} to {_type_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return _PLAIN[annotation]


def _sections(annotation: Any) -> list[type[Section]]:
    """The section classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, Section):
        return "see below"
    annotation: Any = field.annotation
    value = TypeAdapter(annotation).dump_python(field.default, mode="json", exclude_defaults=True)
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{shown}`"


def _tables(model: type[Section], path: str, kind: str = "") -> Iterator[str]:
    """Heading, description and key table of a section, then those of its own sections."""
    yield f"## `{path or 'top level'}`{kind}\n\n{(model.__doc__ or '').strip()}\n"
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    nested = []
    for name, field in model.model_fields.items():
        annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        named = next((a for a in (Element, Crystal, Facet) if a == annotation), None)
        words = _type_name(named or field.annotation)
        lines.append(f"| `{name}` | {words} | {_default(field)} | {field.description or ''} |")
        containers: dict[Any, str] = {list: "[]", dict: ".<name>"}
        several = containers.get(get_origin(field.annotation), "")
        sections = _sections(field.annotation)
        for section in sections:
            choice = f", kind `{get_args(section.model_fields['kind'].annotation)[0]}`" if len(sections) > 1 else ""
            nested.append((section, f"{path}.{name}{several}".lstrip("."), choice))
    yield "\n".join(lines) + "\n"
    for section, where, choice in nested:
        yield from _tables(section, where, choice)


def readme() -> str:
    """Text of `config/README.md`."""
    return "\n".join([_INTRODUCTION, *_tables(Config, "")])


def schema() -> str:
    """JSON schema of a study, as YAML."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


FILES = {"config/README.md": readme, "workflow/schemas/config.schema.yaml": schema}
"""What is written where, relative to the project's root."""


if __name__ == "__main__":
    for path, text in FILES.items():
        Path(path).write_text(text())
