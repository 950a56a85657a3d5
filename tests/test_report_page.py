"""The page that tells what a study found: its words, what it escapes, and that it works in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from popsbounds import statistics
from popsbounds.config import load_config
from popsbounds.findings import axes_holding, failure_reasons, missed_references, out_of_proportion, variance_by
from popsbounds.page import FIGURE_TITLES, page
from popsbounds.plotting import FIGURES
from popsbounds.plotting.style import save
from popsbounds.text import caption

ROOT = Path(__file__).parents[1]
TINY = Path(__file__).parent / "studies" / "tiny.yaml"
EVIL = "</script><b>&'\"x"
N_MEMBERS = 40


def tidy(structures: dict[str, tuple[float | None, float]], prop: str, quantity: str, unit: str) -> pd.DataFrame:
    """Properties table from {structure: (reference or None, MLE)}: members about the MLE, the last one failed."""
    rng = np.random.default_rng(1)
    rows = []
    for structure, (reference, mle) in structures.items():
        values = [*(mle + 0.1 * rng.standard_normal(N_MEMBERS - 1)), np.nan]
        sources = [("mle", pd.NA, mle), *(("member", k, value) for k, value in enumerate(values))]
        sources += [] if reference is None else [("reference", pd.NA, reference)]
        for source, member, value in sources:
            reason = f"{structure}: left {EVIL} after 3 steps" if np.isnan(value) else ""
            status = "unstable" if reason else "ok"
            rows.append((prop, structure, quantity, unit, source, "explicit", "", member, value, status, reason))
    names = ["property", "structure", "quantity", "unit", "source", "method", "level", "member", "value", "status"]
    table = pd.DataFrame(rows, columns=[*names, "reason"]).astype({"member": "Int32", "value": float})
    return table.assign(evaluations=pd.array([1] * len(table), dtype="Int32"), coordinate=np.nan)


def curve(prop: str = "path", structure: str = "tetragonal", quantity: str = "path_energy") -> pd.DataFrame:
    """Three points, of which the reference of one is far out."""
    parts = []
    for x, reference in enumerate((1.0, 1.0, 9.0)):
        parts.append(tidy({structure: (reference, 1.0)}, prop, quantity, "eV/atom").assign(coordinate=float(x)))
    return pd.concat(parts, ignore_index=True)


def held_out(n: int = 300, posterior: str = "hypercube") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for kind in ("energy", "force"):
        truth, mle = rng.standard_normal((2, n))
        numbers = {"truth": truth, "mle": mle, "mean": mle, "std": 1.0, "low": mle - 3, "high": mle + 3}
        parts.append(pd.DataFrame({"kind": kind, **numbers}))
    return statistics.calibration(pd.concat(parts, ignore_index=True), posterior, N_MEMBERS)


def drivers() -> pd.DataFrame:
    lines = []
    for structure in ("100", "110"):
        shares = {
            "group": {"slab": (0.8, 100), "crystal": (0.2, 900)},
            "kind": {"energy": (0.3, 100), "force": (0.7, 900)},
        }
        for by, found in shares.items():
            lines += [("surface", structure, "surface_energy", by, name, *pair) for name, pair in found.items()]
        axes = [0.6, 0.31, 0.05, 0.04]
        lines += [
            ("surface", structure, "surface_energy", "axis", str(k), share, pd.NA) for k, share in enumerate(axes)
        ]
    names = ["property", "structure", "quantity", "by", "name", "share", "n_rows"]
    return pd.DataFrame(lines, columns=names).astype({"n_rows": "Int32"})


def make_study(properties: pd.DataFrame | None, **tables: pd.DataFrame) -> SimpleNamespace:
    fit = {"P": 31, "N": 3100, "N_over_P": 100.0, "rows_without_leverage": 0, "caveats": [], "seed": 7}
    found = {"calibration": held_out(), **tables}
    if properties is not None:
        bounds = statistics.bounds(properties)
        found |= {
            "properties": properties,
            "bounds": bounds,
            "std_ratio": statistics.std_ratio(bounds, "bcc", paper=statistics.paper_ratios()),
            "spearman": statistics.spearman(properties),
            "failures": statistics.failures(properties),
            "truncation": statistics.truncation(properties),
            "models": pd.DataFrame({"property": ["sia"], "structure": ["OS"], "unstable_modes": [2]}),
        }
    return SimpleNamespace(config=load_config(TINY), fit=fit | {"versions": {"popsbounds": "0"}}, tables=found)


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict[str, Path]:
    found = {}
    for name in ("surface_energy", "pointwise", "own_fault"):
        fig = Figure(figsize=(2, 1))
        fig.add_subplot().plot([0, 1])
        found[name] = save(fig, tmp_path_factory.mktemp("figures") / f"fig06_{name}")[1]
    return found


@pytest.fixture(scope="module")
def study() -> SimpleNamespace:
    surface = tidy({"110": (3.02, 3.0), "100": (3.4, 3.5), EVIL: (9.0, 3.7)}, "surface", "surface_energy", "J/m2")
    energy = tidy({"110": (-2.0, -2.0), "100": (-1.45, -1.5)}, "surface", "energy", "eV")
    environments = pd.DataFrame({"property": "surface", "structure": ["110", "100"], "inside": [True, False]})
    properties = pd.concat([surface, energy, curve()], ignore_index=True)
    return make_study(properties, drivers=drivers(), environments=environments)


@pytest.fixture(scope="module")
def written(study, figures) -> str:
    return page(study, figures)


def words(text: str) -> str:
    """What is read: no elements, scripts, or styles."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def embedded(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


def test_the_summary_says_what_the_tables_say(written, study):
    text = words(written)
    energies, forces = study.tables["calibration"].to_dict("records")
    assert f"{energies['MAE']:.3g} eV/atom {forces['MAE']:.3g} eV/Å" in text
    assert re.search(r"[\d.]+ % of energies [\d.]+ % of forces outside As promised", text)
    assert "at most 4.88 % is promised (2/(M + 1) of 40 members)" in text
    assert "4 of 5 inside" in text  # the curve's points are counted apart
    assert f"39 of {N_MEMBERS}" in text
    outside = missed_references(study.tables["bounds"]).set_index("property")
    assert outside.loc["path", ["n_points", "n_outside"]].tolist() == [3, 1]
    assert "1 of 3 points" in text
    assert f"{9 - outside.loc['surface', 'high']:.3g} J/m² above" in text
    # What drives the variance, and what lies outside the training set.
    assert "slab , 10 % of the rows, 80 % of the variance of surface" in text
    assert "has 90 % of its variance in 2 of the posterior's axes" in text
    assert "Structures outside the training set" in text
    assert "surface (100)" in text


def test_reasons_are_counted_without_their_numbers(study):
    reasons = failure_reasons(study.tables["failures"], study.tables["bounds"])
    assert set(reasons["reason"]) == {f"left {EVIL} after … steps"}
    assert reasons.set_index("property")["n_members"].to_dict() == {"surface": 1, "path": 1}


def test_shares_of_groups_and_axes():
    sizes, shares = variance_by(drivers(), "group")
    assert sizes["of_rows"].to_dict() == {"slab": 0.1, "crystal": 0.9}
    assert shares["surface"].to_dict() == pytest.approx({"slab": 0.8, "crystal": 0.2})
    assert out_of_proportion(sizes, shares)["surface"].to_dict() == {"slab": True, "crystal": False}
    sizes, shares = variance_by(drivers(), "kind")
    assert sizes.loc["energy", "of_rows"] == 0.1
    assert shares.loc["energy", "surface"] == pytest.approx(0.3)
    # The user's own properties may have any name.
    names = drivers().replace({"property": {"surface": "n_rows"}})
    both = pd.concat([drivers(), names, names.replace({"n_rows": "name"})], ignore_index=True)
    assert {*variance_by(both, "group")[1]} == {"surface", "n_rows", "name"}
    assert axes_holding(drivers()).tolist() == [2, 2]
    assert axes_holding(drivers(), 0.6).tolist() == [1, 1]
    few = drivers()
    assert np.isinf(axes_holding(few[few["name"] != "1"])).all()


def test_names_from_the_data_are_text(written):
    assert EVIL not in written
    assert "<b>&" not in written
    assert html.escape(f"({EVIL})", quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in written
    data = embedded(written)
    assert f"({EVIL})" in [row["name"] for one in data["spreads"] for row in one["rows"]]


def test_every_member_is_in_a_histogram(written, study):
    found = embedded(written)["spreads"]
    assert [(one["label"], one["quantity"], one["unit"]) for one in found] == [
        ("surface", "surface energy", "J/m²"),
        ("surface", "energy", "eV"),
    ]  # no curves
    for row in found[0]["rows"]:
        assert sum(row["counts"]) == row["ok"] == N_MEMBERS - 1
        assert row["failed"] == 1
        assert row["low"] < row["mean"] < row["high"]
    bounds = embedded(written)["tables"]["bounds"]
    assert bounds["curves"] == 3
    assert {len(column["values"]) for column in bounds["columns"]} == {5}


def test_figures_have_captions_and_words_for_those_who_do_not_see(written, figures):
    assert written.count("<img ") == len(figures)
    assert written.count('alt="') == len(figures)
    assert 'alt="Surface energies. Relaxed surface energy of each facet' in written
    assert "<em>low</em>" in written
    assert written.index('id="figure-own_fault"') < written.index('id="figure-pointwise"')
    drawn = {*FIGURES} - {"own", "posteriors"}
    assert {*FIGURE_TITLES} == drawn
    assert all(caption(name) for name in drawn)


def test_nothing_is_loaded_and_the_same_tables_give_the_same_bytes(study, figures, written):
    assert page(study, figures) == written
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?!data:)", written)
    assert "default-src 'none'" in written
    without_names = written.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in without_names
    assert "https:" not in without_names


def test_without_properties(figures):
    written = page(make_study(None), {"pointwise": figures["pointwise"]})
    text = words(written)
    assert "How good is the fit?" in text
    assert "% of forces" in text
    for absent in ("references", "members failed", "Which data to add", "Explore"):
        assert absent.lower() not in text.lower().replace("what the words mean", "")
    assert embedded(written)["spreads"] == []
    assert [*embedded(written)["tables"]] == ["calibration"]


def test_where_every_member_fails(figures):
    properties = tidy({"110": (3.02, 3.0)}, "surface", "surface_energy", "J/m2")
    lost = properties["source"] == "member"
    properties = properties.assign(value=properties["value"].mask(lost), status=properties["status"].mask(lost, "lost"))
    text = words(page(make_study(properties), figures))
    assert "Nothing to compare No reference has bounds of any width beside it." in text
    assert "No references" not in text
    assert f"0 of {N_MEMBERS} Some failed" in text
    assert "missing where all failed" in text


def test_one_member_alone_has_no_spread(figures):
    properties = tidy({"110": (3.02, 3.0)}, "surface", "surface_energy", "J/m2")
    properties = properties[properties["member"].fillna(0) == 0]
    written = page(make_study(properties), figures)
    line = re.search(r'<td class="n">(.*?)</td><td class="n">(.*?)</td>', written.split("surface energy</td>")[1])
    assert line.groups() == ("", "")  # std and width/|MLE|, no bare unit


def test_energies_alone(figures):
    calibration = held_out().query("kind == 'energy'").assign(error_over_std=np.nan)
    text = words(page(make_study(None, calibration=calibration), figures))
    assert "Energies that the fit has not seen" in text
    assert "forces" not in text.split("Figures")[1].split("What the words mean")[0].lower()
    assert "Mean error over mean std" not in text


def test_a_study_that_names_no_elements_has_a_title(figures):
    study = make_study(None)
    raw = study.config.model_copy(update={"elements": []})
    subtitle = re.search(r'class="subtitle">(.*?)<', page(SimpleNamespace(**vars(study) | {"config": raw}), figures))
    assert subtitle.group(1).startswith("SNAP with 31 parameters · ")


def test_a_promise_that_the_study_asks_for(figures):
    study = make_study(None, calibration=held_out(posterior="gaussian"))
    fit = study.config.fit.model_copy(update={"posterior": "gaussian", "violation": 0.2})
    study.config = study.config.model_copy(update={"fit": fit})
    assert "at most 20 % is promised (fit.violation)" in words(page(study, figures))


def test_without_references(figures):
    properties = tidy({"110": (None, 3.0), "100": (None, 3.5)}, "surface", "surface_energy", "J/m2")
    text = words(page(make_study(properties), figures))
    assert "No references" in text
    assert "Which references are outside" not in text
    assert "surface energy" in text


def test_when_all_is_well(figures):
    properties = tidy({"110": (3.0, 3.0)}, "surface", "surface_energy", "J/m2")
    properties = properties[properties["status"] == "ok"]
    environments = pd.DataFrame({"property": ["surface"], "structure": ["110"], "inside": [True]})
    text = words(page(make_study(properties, environments=environments), figures))
    assert "1 of 1 inside All inside" in text
    assert "None failed." in text
    assert "None: each reference is inside." in text
    assert "Every structure of the properties lies inside the training set." in text


# What a reader does, and what they then see; the answers go into the window, from where `--dump-dom` brings them.
READER = """
const seen = { errors: [] };
window.onerror = (message) => { seen.errors.push(String(message)); };
document.addEventListener("securitypolicyviolation", (event) => { seen.errors.push(event.blockedURI); });
addEventListener("load", () => setTimeout(() => {
  const box = document.querySelector('[data-table="bounds"]');
  const column = [...box.querySelectorAll("th")].findIndex((th) => th.textContent === "mle");
  const values = () => [...box.querySelectorAll("tbody tr")].map((tr) => tr.children[column].textContent);
  const head = box.querySelectorAll("th")[column];
  head.querySelector("button").click();
  seen.once = [head.getAttribute("aria-sort"), values()];
  head.querySelector("button").click();
  seen.twice = [head.getAttribute("aria-sort"), values()];
  seen.rows = document.querySelectorAll("#chart .row").length;
  const search = box.querySelector("[type=search]");
  search.value = "-7.5";
  search.dispatchEvent(new Event("input"));
  seen.filtered = values();
  const pick = (name, value) => {
    const element = document.getElementById(`pick-${name}`);
    if (element.type === "checkbox") element.checked = value; else element.value = value;
    element.dispatchEvent(new Event("change"));
  };
  seen.properties = [...document.getElementById("pick-property").options].map((option) => option.textContent);
  seen.quantities = seen.properties.map((_, k) => {
    pick("property", k);
    return [...document.getElementById("pick-quantity").options].map((option) => option.textContent);
  });
  pick("property", 2);
  pick("relative", true);
  seen.without = [document.querySelectorAll("#chart .row").length, document.getElementById("not-shown").textContent];
  pick("relative", false);
  pick("property", 0);
  const quantity = document.getElementById("pick-quantity");
  seen.before = document.getElementById("chart-title").textContent;
  quantity.value = 1;
  quantity.dispatchEvent(new Event("change"));
  seen.after = document.getElementById("chart-title").textContent;
  seen.rowsAfter = document.querySelectorAll("#chart .row").length;
  const enter = new KeyboardEvent("keydown", { key: "Enter", bubbles: true });
  document.querySelectorAll("#chart .row")[1].dispatchEvent(enter);
  seen.chosen = document.getElementById("members-title").textContent;
  const point = new PointerEvent("pointermove", { clientX: 99, clientY: 99 });
  document.querySelector("#members rect[fill=transparent]").dispatchEvent(point);
  const tip = document.getElementById("tip");
  seen.tip = tip.hidden ? "" : tip.textContent;
  seen.counts = [...document.querySelectorAll("#counts li")].map((line) => line.textContent);
  document.getElementById("theme").click();
  seen.page = getComputedStyle(document.body).backgroundColor;
  seen.theme = document.documentElement.dataset.theme;
  seen.images = [...document.images].map((image) => image.naturalWidth);
  seen.width = [document.documentElement.scrollWidth, innerWidth];
  parent.postMessage(JSON.stringify(seen), "*");
}, 100));
"""
# A window cannot be as narrow as a phone, but a frame can.
WINDOW = """<!DOCTYPE html>
<pre id="seen"></pre>
<iframe src="report.html" style="border: 0; width: {width}px; height: 800px"></iframe>
<script>onmessage = (event) => {{ document.getElementById("seen").textContent = event.data; }};</script>
"""
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, chromium-browser or google-chrome on the PATH")
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(study, figures, tmp_path, width):
    # Two properties with one label, of which one has structures without a reference.
    hop = tidy({"vacancy_hop": (1.7, 1.7)}, "neb", "barrier", "eV")
    own = {"a": (-7.0, -7.0), "b": (None, -7.5), "c": (None, -8.0)}
    properties = pd.concat([study.tables["properties"], hop, tidy(own, "vacancy", "charge", "1")], ignore_index=True)
    written = page(make_study(properties), figures)
    window = tmp_path / "window.html"
    window.write_text(WINDOW.format(width=width))
    file = tmp_path / "report.html"
    file.write_text(written.replace("<head>", f"<head><script>{READER}</script>", 1), encoding="utf-8")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    command += ["--window-size=1400,900", "--virtual-time-budget=5000", window.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(html.unescape(found.group(1)))
    assert seen["errors"] == []
    numbers = [-8, -7.5, -7, -2, -1.5, 1.7, 3, 3.5, 3.7]
    (first, up), (second, down) = seen["once"], seen["twice"]
    assert (first, second) == ("ascending", "descending")
    assert [float(x.replace("−", "-")) for x in up] == numbers
    assert [float(x.replace("−", "-")) for x in down] == numbers[::-1]
    assert seen["filtered"] == ["−7.5"]
    assert seen["properties"] == ["surface", "vacancy", "vacancy"]
    assert seen["quantities"] == [["surface energy", "energy"], ["barrier"], ["charge"]]
    assert seen["without"] == [1, "2 without a reference are not shown"]
    assert (seen["before"], seen["after"]) == ("Bounds: surface, surface energy", "Bounds: surface, energy")
    assert (seen["rows"], seen["rowsAfter"]) == (3, 2)
    assert seen["chosen"] == "Members: (100)"
    assert f"of {N_MEMBERS - 1} members" in seen["tip"]
    assert sum(int(re.search(r": (\d+) of", line).group(1)) for line in seen["counts"]) == N_MEMBERS - 1
    assert seen["page"] == {"dark": "rgb(18, 22, 26)", "light": "rgb(250, 250, 248)"}[seen["theme"]]
    assert len(seen["images"]) == 3
    assert min(seen["images"]) > 0
    assert seen["width"][0] <= seen["width"][1] == width
