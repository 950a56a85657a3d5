"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);

  // Elements; text goes in as text, so that no name from the data is read as HTML.
  function make(name, attributes = {}, text = null, space = null) {
    const element = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    return element;
  }
  const svg = (name, attributes, text) => make(name, attributes, text, "http://www.w3.org/2000/svg");

  function format(x, digits = 4) {
    if (x === null) return "";
    const size = Math.abs(x);
    const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? x.toExponential(digits - 1) : String(Number(x.toPrecision(digits)));
    return text.replace(/-/g, "−");
  }

  /* Light and dark */
  const theme = by("theme");
  const dark = () => document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `${theme.textContent} colours`); };
  theme.hidden = false;
  try { const kept = localStorage.getItem("theme"); if (kept) document.documentElement.dataset.theme = kept; } catch { /* private */ }
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* private */ }
    label();
  });

  /* Tooltip */
  const tip = by("tip");
  function show(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
    tip.style.top = `${y - box.height - 12 > 4 ? y - box.height - 12 : y + 16}px`;
  }
  const hide = () => { tip.hidden = true; };
  addEventListener("scroll", hide, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  /* Axes */
  function ticks(low, high, most) {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((k) => k * power >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
    return found.map((x) => Math.abs(x) < step * 1e-9 ? 0 : x);
  }
  function span(values, margin = 0.06) {
    let low = Math.min(...values), high = Math.max(...values);
    if (!(high > low)) { const room = Math.abs(low) * 0.01 || 1; low -= room; high += room; }
    const room = margin * (high - low);
    return [low - room, high + room];
  }
  function axis(picture, scale, [low, high], left, right, top, bottom, title) {
    for (const x of ticks(low, high, (right - left) / 70)) {
      picture.append(svg("line", { class: "grid", x1: scale(x), x2: scale(x), y1: top, y2: bottom }));
      picture.append(svg("text", { class: "tick", x: scale(x), y: bottom + 16, "text-anchor": "middle" }, format(x, 6)));
    }
    picture.append(svg("text", { class: "axis", x: (left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, title));
  }
  const diamond = (x, y, r) => `M${x - r} ${y}L${x} ${y - r}L${x + r} ${y}L${x} ${y + r}Z`;

  /* Panels */
  const spreads = data.spreads;
  const picks = Object.fromEntries(["property", "quantity", "structure", "relative"].map((name) => [name, by(`pick-${name}`)]));

  const fill = (select, names) => select.replaceChildren(...names.map((name, k) => make("option", { value: k }, name)));
  // By their names in the tables: two properties may have the same label.
  const properties = [...new Map(spreads.map((one) => [one.property, one.label]))];
  const ofProperty = () => spreads.filter((one) => one.property === properties[picks.property.value][0]);
  const chosen = () => ofProperty()[picks.quantity.value];
  const withUnit = (one, text) => one.unit ? `${text} ${one.unit}` : text;
  const named = (one, text) => one.unit ? `${text} (${one.unit})` : text;
  const missed = (row) => row.inside === false;

  function describe(one, row) {
    const lines = [`${row.name}`, `bounds ${format(row.low)} to ${withUnit(one, format(row.high))}`,
      `mean ${format(row.mean)} ± ${withUnit(one, format(row.std))}`];
    if (row.mle !== null) lines.push(`MLE ${withUnit(one, format(row.mle))}`);
    if (row.reference !== null) lines.push(`reference ${withUnit(one, format(row.reference))}${missed(row) ? ", outside" : ""}`);
    lines.push(`${row.ok} members ok, ${row.failed} failed`);
    return lines.join("\n");
  }

  function drawChart() {
    const one = chosen(), box = by("chart"), width = box.clientWidth;
    const zero = one.rows.some((row) => row.reference !== null) ? "reference" : "mle";
    by("relative-to").textContent = zero === "mle" ? "MLE" : zero;
    const relative = picks.relative.checked;
    const rows = one.rows.map((row, k) => ({ row, k, shift: relative ? row[zero] : 0 })).filter(({ shift }) => shift !== null);
    const n = one.rows.length - rows.length;
    by("not-shown").textContent = n ? `${n} without ${zero === "mle" ? "an MLE" : "a reference"} ${n === 1 ? "is" : "are"} not shown` : "";
    const left = Math.min(16 + 7.2 * Math.max(...rows.map(({ row }) => row.name.length)), 0.36 * width), right = width - 14;
    const height = 28, top = 4, bottom = top + height * rows.length;
    const range = span(rows.flatMap(({ row, shift }) =>
      [row.low, row.high, row.mle, row.reference].filter((x) => x !== null).map((x) => x - shift)));
    const scale = (x) => left + (x - range[0]) / (range[1] - range[0]) * (right - left);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${bottom + 40}`, height: bottom + 40 });
    const what = relative ? `${one.quantity} − ${zero === "mle" ? "MLE" : zero}` : one.quantity;
    for (const { row, k, shift } of rows) {
      const y = top + height * (k + 0.5);
      const line = svg("g", { class: "row", tabindex: 0, role: "button", "aria-pressed": k === Number(picks.structure.value),
        "aria-label": describe(one, row).replaceAll("\n", ", ") });
      line.append(svg("rect", { class: "hit", x: 1, y: y - height / 2 + 1, width: width - 2, height: height - 2, rx: 5 }));
      picture.append(line);
      row.draw = () => {
        const name = svg("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, row.name);
        line.append(name);
        while (name.getComputedTextLength() > left - 12 && name.textContent.length > 2) name.textContent = `${name.textContent.slice(0, -2)}…`;
        const [low, high] = [scale(row.low - shift), scale(row.high - shift)];
        line.append(svg("rect", { class: "bar", x: low, y: y - 7, width: Math.max(high - low, 1.5), height: 14, rx: 2 }));
        if (row.std !== null) {
          const [from, to] = [scale(row.mean - row.std - shift), scale(row.mean + row.std - shift)];
          line.append(svg("rect", { class: "spread", x: from, y: y - 3.5, width: Math.max(to - from, 1.5), height: 7 }));
        }
        if (row.mle !== null) line.append(svg("circle", { class: "dot", cx: scale(row.mle - shift), cy: y, r: 4.5 }));
        if (row.reference !== null) {
          line.append(svg("path", { class: missed(row) ? "diamond missed" : "diamond", d: diamond(scale(row.reference - shift), y, 6) }));
        }
      };
      const choose = () => { picks.structure.value = k; drawChart(); drawMembers(); };
      line.addEventListener("click", choose);
      line.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose();
        by("chart").querySelector('[aria-pressed="true"]').focus();
      });
      line.addEventListener("pointermove", (event) => show(describe(one, row), event.clientX, event.clientY));
      line.addEventListener("pointerleave", hide);
      line.addEventListener("focus", () => {
        if (!line.matches(":focus-visible")) return;
        const place = line.getBoundingClientRect();
        show(describe(one, row), place.left + left, place.top);
      });
      line.addEventListener("blur", hide);
    }
    axis(picture, scale, range, left, right, top, bottom, named(one, what));
    if (relative && range[0] < 0 && range[1] > 0) picture.append(svg("line", { class: "zero", x1: scale(0), x2: scale(0), y1: top, y2: bottom }));
    by("chart-title").textContent = `Bounds: ${one.label}, ${one.quantity}`;
    box.replaceChildren(picture);
    // Bars after the grid, and names once they can be measured.
    for (const { row } of rows) { row.draw(); delete row.draw; }
    for (const line of picture.querySelectorAll(".row")) picture.append(line);
  }

  function drawMembers() {
    const one = chosen(), row = one.rows[picks.structure.value], box = by("members"), width = box.clientWidth;
    const left = 40, right = width - 14, top = 12, bottom = 200;
    const range = span([row.low, row.high, row.mle, row.reference].filter((x) => x !== null), 0.04);
    const scale = (x) => left + (x - range[0]) / (range[1] - range[0]) * (right - left);
    const most = Math.max(...row.counts), up = (n) => bottom - n / most * (bottom - top - 8);
    const text = describe(one, row).replaceAll("\n", ", ");
    const picture = svg("svg", { viewBox: `0 0 ${width} ${bottom + 40}`, height: bottom + 40, role: "img", "aria-label": `Histogram of the members: ${text}` });
    axis(picture, scale, range, left, right, top, bottom, named(one, one.quantity));
    for (const n of ticks(0, most, 4).filter(Number.isInteger)) {
      picture.append(svg("text", { class: "tick", x: left - 8, y: up(n) + 4, "text-anchor": "end" }, n));
    }
    const step = (row.high - row.low) / row.counts.length;
    let below = 0;
    const said = [];
    row.counts.forEach((n, k) => {
      const x = step ? scale(row.low + k * step) : scale(row.low) - 4, wide = step ? scale(row.low + (k + 1) * step) - x : 8;
      below += n;
      const words = step ? `${format(row.low + k * step)} to ${withUnit(one, format(row.low + (k + 1) * step))}` : `all at ${withUnit(one, format(row.low))}`;
      const share = `${n} of ${row.ok} members (${format(100 * n / row.ok, 3)} %)\n${format(100 * below / row.ok, 3)} % lie here or below`;
      picture.append(svg("rect", { class: "bar", x: x + 0.5, y: up(n), width: Math.max(wide - 1, 1), height: bottom - up(n) }));
      const hit = svg("rect", { x, y: top, width: wide, height: bottom - top, fill: "transparent" });
      hit.addEventListener("pointermove", (event) => show(`${words}\n${share}`, event.clientX, event.clientY));
      hit.addEventListener("pointerleave", hide);
      picture.append(hit);
      said.push(`${words}: ${share.replace("\n", ", ")}`);
    });
    if (row.std !== null) {
      const [from, to] = [scale(row.mean - row.std), scale(row.mean + row.std)];
      picture.append(svg("rect", { class: "spread", x: from, y: bottom - 3, width: Math.max(to - from, 1), height: 6 }));
    }
    for (const name of ["mle", "reference"]) {
      if (row[name] === null) continue;
      const x = scale(row[name]);
      picture.append(svg("line", { class: `line-${name}`, x1: x, x2: x, y1: top, y2: bottom, "pointer-events": "none" }));
      picture.append(name === "mle" ? svg("circle", { class: "dot", cx: x, cy: top, r: 4.5 })
        : svg("path", { class: missed(row) ? "diamond missed" : "diamond", d: diamond(x, top, 6) }));
    }
    by("counts").replaceChildren(...said.map((line) => make("li", {}, line)));
    by("members-title").textContent = `Members: ${row.name}`;
    box.replaceChildren(picture);
    const pairs = [["low", row.low], ["high", row.high], ["mean", row.mean], ["std", row.std], ["MLE", row.mle], ["reference", row.reference]];
    const found = pairs.filter(([, x]) => x !== null).map(([name, x]) => [name, withUnit(one, format(x))]);
    if (row.reference !== null) found.push(["reference is", missed(row) ? "outside the bounds" : "inside the bounds"]);
    found.push(["members", `${row.ok} ok, ${row.failed} failed`]);
    by("numbers").replaceChildren(...found.map(([name, value]) => {
      const group = make("div");
      group.append(make("dt", {}, name), make("dd", {}, value));
      return group;
    }));
  }

  function draw() { hide(); drawChart(); drawMembers(); }
  function pickQuantity() {
    const kept = picks.structure.selectedOptions[0]?.textContent, rows = chosen().rows;
    fill(picks.structure, rows.map((row) => row.name));
    picks.structure.value = Math.max(0, rows.findIndex((row) => row.name === kept));
    draw();
  }
  function pickProperty() {
    fill(picks.quantity, ofProperty().map((one) => one.quantity));
    pickQuantity();
  }
  if (spreads.length) {
    fill(picks.property, properties.map(([, label]) => label));
    picks.property.addEventListener("change", pickProperty);
    picks.quantity.addEventListener("change", pickQuantity);
    picks.structure.addEventListener("change", draw);
    picks.relative.addEventListener("change", draw);
    pickProperty();
    let width = innerWidth;
    addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  }

  /* Tables */
  const FIRST = 200; // rows that are shown at once
  const compare = (a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  function build(box, { columns, curves }) {
    const n = columns.length ? columns[0].values.length : 0;
    if (!n) {
      box.append(make("p", {}, curves ? `Curves only: ${curves.toLocaleString("en")} rows.` : "No rows."));
      return;
    }
    const title = box.querySelector("h2").textContent;
    const cells = columns.map((column) => column.values.map((x) => column.number && typeof x === "number" && !Number.isInteger(x) ? format(x) : x === null ? "" : column.number ? String(x).replace("-", "−") : String(x)));
    const plain = (text) => text.toLowerCase().replaceAll("−", "-"); // as it is typed
    const words = Array.from({ length: n }, (_, k) => plain(cells.map((column) => column[k]).join(" ")));
    const state = { column: null, down: false, all: false, text: "" };

    const tools = make("div", { class: "tools" });
    const search = make("input", { type: "search", placeholder: "Filter", "aria-label": `Filter the rows of ${title}` });
    const status = make("span", { role: "status" });
    const more = make("button", { type: "button" }, "Show all");
    if (n > 8) tools.append(search);
    tools.append(status, more);
    const scroll = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title });
    const table = make("table"), head = make("tr"), body = make("tbody"), thead = make("thead");
    const heads = columns.map((column, k) => {
      const cell = make("th", { scope: "col", "aria-sort": "none", class: column.number ? "n" : "" });
      const button = make("button", { type: "button" }, column.name);
      button.addEventListener("click", () => {
        state.down = state.column === k && !state.down;
        state.column = k;
        update();
      });
      cell.append(button);
      return cell;
    });
    head.append(...heads);
    thead.append(head);
    table.append(thead, body);
    scroll.append(table);
    box.append(tools, scroll);

    function update() {
      const wanted = plain(state.text).split(/\s+/).filter(Boolean);
      let rows = [...words.keys()].filter((k) => wanted.every((word) => words[k].includes(word)));
      const found = rows.length;
      if (state.column !== null) {
        const values = columns[state.column].values, sign = state.down ? -1 : 1;
        const known = rows.filter((k) => values[k] !== null).sort((a, b) => sign * compare(values[a], values[b]) || a - b);
        rows = [...known, ...rows.filter((k) => values[k] === null)]; // what is missing comes last either way
      }
      heads.forEach((cell, k) => cell.setAttribute("aria-sort", k !== state.column ? "none" : state.down ? "descending" : "ascending"));
      if (!state.all) rows = rows.slice(0, FIRST);
      more.hidden = rows.length === found;
      status.textContent = `${rows.length === found ? "" : `${rows.length} of `}${found.toLocaleString("en")} row${found === 1 ? "" : "s"}${curves ? `; ${curves.toLocaleString("en")} of curves are not shown` : ""}`;
      body.replaceChildren(...rows.map((k) => {
        const line = make("tr");
        line.append(...columns.map((column, c) => {
          const long = !column.number && cells[c][k].length > 40;
          return make("td", column.number ? { class: "n" } : long ? { class: "long" } : {}, cells[c][k]);
        }));
        return line;
      }));
    }
    search.addEventListener("input", () => { state.text = search.value; update(); });
    more.addEventListener("click", () => { state.all = true; update(); });
    update();
  }
  for (const box of document.querySelectorAll("[data-table]")) build(box, data.tables[box.dataset.table]);
})();
