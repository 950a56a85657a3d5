"""Writes what is known of the configuration from its model: `config/README.md` and the JSON schema.

Run ``python -m popsbounds.config_docs`` in the project's root after a change of
`popsbounds.config`; a test fails until then.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from popsbounds.config import Config, Crystal, Element, Facet, Propagated, Properties, Section

__all__ = ["FILES", "readme", "schema"]

_INTRODUCTION = """# Configuration

A study is one YAML file. Everything it makes goes to `results/<study>/`.

```bash
make run                                          # config/demo.yaml, the default
make run STUDY=standin                            # config/standin.yaml
snakemake --cores all --configfile my_study.yaml  # any file
```

A file given with `--configfile` is a whole study: it is not merged into the default one. Paths are relative to the
folder Snakemake is started in. Unknown keys, wrong types and impossible combinations are errors that name the key;
`results/<study>/config.yaml` records what a run used, defaults included.

Your own data, in a file that ASE reads, for any element:

```yaml
# yaml-language-server: $schema=../workflow/schemas/config.schema.yaml
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

The first line is for editors, and may be left out: `workflow/schemas/config.schema.yaml` is the schema of a study, here
as seen from `config/`, by which an editor with a YAML language server completes keys and marks mistakes.

Without data, the workflow generates frames and labels them with any calculator of ASE:
[docs/data.md](../docs/data.md#labels-from-your-own-code). Some of the studies here read data that are not shipped:
[docs/data.md](../docs/data.md#data-that-are-not-shipped).

This page and the schema are made from the model in `workflow/popsbounds/config.py` by `make docs`.
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


def _anchor(heading: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _rows(model: type[Section]) -> Iterator[tuple[str, FieldInfo, str]]:
    """Name, field and meaning of a section's keys; of what every property has, only what differs."""
    for name, field in model.model_fields.items():
        shares = issubclass(model, Propagated) and model is not Propagated
        common = Propagated.model_fields.get(name) if shares else None
        if common is None:
            yield name, field, field.description or ""
        elif common.default != field.default:
            yield name, field, "As in every property."


def _tables(model: type[Section], heading: str, path: str, printed: dict[type[Section], str]) -> Iterator[str]:
    """Heading, description and key table of a section, then those of its own sections that are not printed yet."""
    printed[model] = heading
    about = "Keys that every property has." if model is Propagated else inspect.cleandoc(model.__doc__ or "")
    yield f"## {heading}\n\n{about}\n"
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    nested = []
    for name, field, meaning in _rows(model):
        annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        named = next((a for a in (Element, Crystal, Facet) if a == annotation), None)
        words = _type_name(named or field.annotation)
        containers: dict[Any, str] = {list: "[]", dict: ".<name>"}
        where = f"{path}.{name}{containers.get(get_origin(field.annotation), '')}".lstrip(".")
        sections = _sections(field.annotation)
        if sections and sections[0] in printed:
            seen = printed[sections[0]]
            words += f", as in [{seen.partition(',')[0]}](#{_anchor(seen)})"
        lines.append(f"| `{name}` | {words} | {_default(field)} | {meaning} |")
        for section in sections:
            choice = f", kind `{get_args(section.model_fields['kind'].annotation)[0]}`" if len(sections) > 1 else ""
            nested.append((section, f"`{where}`{choice}", where))
    yield "\n".join(lines) + "\n"
    if model is Properties:
        nested.insert(0, (Propagated, f"`{path}.<property>`", path))
    for section, title, where in nested:
        if section not in printed:
            yield from _tables(section, title, where, printed)


def readme() -> str:
    """Text of `config/README.md`."""
    return "\n".join([_INTRODUCTION, *_tables(Config, "Top level", "", {})])


def schema() -> str:
    """JSON schema of a study, as YAML."""
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


FILES = {"config/README.md": readme, "workflow/schemas/config.schema.yaml": schema}
"""What is written where, relative to the project's root."""


if __name__ == "__main__":
    for path, text in FILES.items():
        Path(path).write_text(text())
