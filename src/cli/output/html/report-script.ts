/**
 * The script of the report, as it stands in the page. It shows what is known about the block or the couple of models
 * that was chosen; all that it writes is text, never HTML. Without it the page still says everything in its tables.
 */
export const REPORT_SCRIPT = String.raw`"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
if (data !== null) {
  chooseInMap();
  chooseInMatrix();
  if (data.fit !== null) answerHowManyFit();
}

function chooseInMap() {
  const { x, width, rowHeight, top } = data.layout;
  const span = (half) => {
    const whole = rowHeight - 2, part = Math.floor((whole - 1) / 2);
    return half === "u" ? [0, part] : half === "l" ? [whole - part, part] : [0, whole];
  };
  const outline = (row, column) => {
    const [offset, height] = span(data.cells[row][column][2]);
    return { x: x[column], y: top + row * rowHeight + offset, width: width[column] - 2, height };
  };
  const find = (left, y) => {
    const row = Math.floor((y - top) / rowHeight);
    const cells = data.cells[row];
    if (y < top || cells === undefined) return null;
    const column = cells.findIndex((cell, at) => {
      if (cell === 0 || left < x[at] || left >= x[at] + width[at]) return false;
      const [offset, height] = span(cell[2]);
      const inside = y - top - row * rowHeight;
      return inside >= offset - 1 && inside <= offset + height;
    });
    return column < 0 ? null : [row, column];
  };
  const same = document.getElementById("map-same");
  const show = (row, column) => {
    const [block] = data.cells[row][column];
    const alike = [];
    data.cells.forEach((cells, other) => cells.forEach((cell, at) => {
      if (cell !== 0 && cell[0] === block) alike.push([other, at]);
    }));
    same.replaceChildren(...alike.slice(0, 2000).map(([other, at]) => rectangle(outline(other, at))));
    describeBlock(row, column, alike);
  };
  const move = (row, column, [down, right]) => {
    const rows = data.cells.length, columns = data.columns.length;
    do { row += down; column += right; } while (row >= 0 && row < rows && column >= 0 && column < columns && data.cells[row][column] === 0);
    return data.cells[row]?.[column] ? [row, column] : null;
  };
  const start = data.cells.flatMap((cells, row) => cells.flatMap((cell, column) => (cell === 0 ? [] : [[row, column]])))[0];
  choose({ grid: "map-grid", cursor: "map-cursor", panel: "block-details", hide: () => same.replaceChildren(), start, outline, find, show, move, name: (row, column) => data.models[row] + ": " + data.columns[column] });
}

function chooseInMatrix() {
  const { side, top } = data.matrix, count = data.models.length;
  const show = (i, j) => {
    const panel = document.getElementById("couple-details");
    if (i === j) return panel.replaceChildren(element("h3", data.models[i]), element("p", "The model and itself."));
    const [bytes, share, divergence] = data.likeness[Math.min(i, j)][Math.max(i, j)];
    panel.replaceChildren(
      element("h3", data.models[i] + " and " + data.models[j]),
      element("p", showBytes(bytes) + " are the same (" + (100 * share).toFixed(1) + " % of the larger one). " +
        (divergence === null ? "They have every block in common." : "They first differ at the " + divergence + "; up to there, prompts that begin alike are computed alike.")),
    );
  };
  choose({
    grid: "matrix-grid", cursor: "matrix-cursor", panel: "couple-details", start: count > 1 ? [0, 1] : [0, 0], show,
    outline: (i, j) => ({ x: j * side, y: top + i * side, width: side - (side > 10 ? 2 : 0), height: side - (side > 10 ? 2 : 0) }),
    find: (left, y) => {
      const i = Math.floor((y - top) / side), j = Math.floor(left / side);
      return y >= top && i < count && j >= 0 && j < count ? [i, j] : null;
    },
    move: (i, j, [down, right]) => (i + down >= 0 && i + down < count && j + right >= 0 && j + right < count ? [i + down, j + right] : null),
    name: (i, j) => data.models[i] + " and " + data.models[j],
  });
}

/** One cell at a time: by mouse or touch, and by arrow keys once the grid has the focus. */
function choose({ grid: gridId, cursor: cursorId, panel, start, outline, find, show, hide, move, name }) {
  const grid = document.getElementById(gridId), cursor = document.getElementById(cursorId);
  const picture = grid.querySelector("svg");
  let chosen = null;
  const go = (cell) => {
    chosen = cell;
    const place = outline(...cell);
    for (const key of Object.keys(place)) cursor.setAttribute(key, place[key]);
    cursor.setAttribute("visibility", "visible");
    show(...cell);
  };
  const leave = () => {
    chosen = null;
    cursor.setAttribute("visibility", "hidden");
    document.getElementById(panel).replaceChildren();
    hide?.();
  };
  const under = (event) => {
    const frame = picture.getBoundingClientRect();
    return find(event.clientX - frame.left, event.clientY - frame.top);
  };
  grid.addEventListener("click", (event) => { const cell = under(event); if (cell !== null) go(cell); });
  grid.addEventListener("mousemove", (event) => { const cell = under(event); grid.title = cell === null ? "" : name(...cell); });
  grid.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return leave();
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step === undefined && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const cell = chosen === null || step === undefined ? chosen ?? start : move(...chosen, step);
    if (cell === null) return;
    go(cell);
    cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function describeBlock(row, column, alike) {
  const [at, way] = data.cells[row][column];
  const [digest, bytes, sharedTensorBytes, pairAt] = data.blocks[at];
  const others = [...new Set(alike.map(([other]) => other))].filter((other) => other !== row).map((other) => data.models[other]);
  const merge = data.merges[row + "," + column];
  const facts = [
    ["how", data.ways[way]],
    ["size", showBytes(bytes)],
    ["shared with", others.length > 0 ? others.join(", ") : "no other model"],
    ["digest", element("code", digest)],
  ];
  if (others.length === 0 && sharedTensorBytes > 0) facts.push(["of its weights", showBytes(sharedTensorBytes) + " are stored for other models, too"]);
  if (merge?.adapter) facts.push(["its own factors", showBytes(merge.adapter.bytes)]);
  if (merge?.residual_saved_bytes !== undefined) facts.push(["less on disk", showBytes(merge.residual_saved_bytes)]);
  const parts = [element("h3", data.models[row] + ": " + data.columns[column]), list(facts)];
  if (merge?.replaces) {
    const { tier, digest: original, kept, evidence } = merge.replaces;
    parts.push(element("h3", "It stands in for another block"), list([["tier", tier], ["in place of", element("code", original)], ["can be undone", kept ? "yes" : "no"],
      ...Object.entries(evidence).map(([key, value]) => [key.replaceAll("_", " "), show(value)])]));
  }
  if (pairAt >= 0) parts.push(...describePair(data.pairs[pairAt]));
  document.getElementById("block-details").replaceChildren(...parts);
}

function describePair(pair) {
  const known = [
    ["compared with", pair.a], ["cosine of the weights", pair.weight_cosine], ["relative difference", pair.relative_delta], ["rank", pair.rank],
    ["largest error of the factors", pair.residual_error?.max_abs], ["relative error", pair.residual_error?.relative], ["ratio of the lossless difference", pair.residual_ratio],
    ["cosine of the outputs", pair.output_cosine], ["KL divergence", pair.kl], ["same first choice", pair.top1],
    ["would save", pair.saved_bytes === undefined ? undefined : showBytes(pair.saved_bytes)],
  ].filter(([, value]) => value !== undefined && value !== null);
  const title = { lowrank: "It could be low-rank factors over a shared block", residual: "It could be kept as a lossless difference", equivalent: "Another block behaves alike" }[pair.tier];
  const parts = [element("h3", title), list(known.map(([key, value]) => [key, show(value)]))];
  if (pair.tensors?.length > 0) parts.push(tensorTable(pair.tensors));
  return parts;
}

function tensorTable(tensors) {
  const heads = [["tensor", "name"], ["shape", "dims"], ["cosine", "weight_cosine"], ["relative difference", "relative_delta"], ["rank", "rank"], ["fall after the rank", "cliff"], ["lossless ratio", "residual_ratio"]]
    .filter(([, key]) => tensors.some((tensor) => tensor[key] !== null && tensor[key] !== undefined));
  const line = (tag, texts) => { const tr = document.createElement("tr"); tr.append(...texts.map((text) => element(tag, text))); return tr; };
  const table = document.createElement("table");
  table.append(line("th", heads.map(([head]) => head)), ...tensors.map((tensor) => line("td", heads.map(([, key]) => key === "dims" ? tensor.dims.join(" × ") : show(tensor[key])))));
  const scroll = element("div", "");
  scroll.className = "scroll";
  scroll.append(table);
  return scroll;
}

function answerHowManyFit() {
  const { one, further, bytes: shown } = data.fit;
  const size = document.getElementById("fit-size"), unit = document.getElementById("fit-unit"), answer = document.getElementById("fit-answer");
  const units = { MB: 1e6, GB: 1e9, TB: 1e12 };
  const say = () => {
    const bytes = Number(size.value) * units[unit.value];
    const apart = Math.floor(bytes / one + 1e-9);
    const together = apart === 0 ? "0" : further === 0 ? "any number" : String(1 + Math.floor((bytes - one) / further + 1e-9));
    answer.textContent = together + " with shared blocks, " + apart + " apart";
  };
  unit.value = shown < 1e9 ? "MB" : shown < 1e12 ? "GB" : "TB";
  size.value = String(shown / units[unit.value]);
  size.addEventListener("input", say);
  unit.addEventListener("input", say);
  say();
  for (const hidden of document.querySelectorAll(".scripted")) hidden.hidden = false;
}

function list(facts) {
  const dl = document.createElement("dl");
  for (const [name, value] of facts) dl.append(element("dt", name), element("dd", value));
  return dl;
}

function element(tag, content) {
  const made = document.createElement(tag);
  made.append(content);
  return made;
}

function rectangle(place) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const key of Object.keys(place)) rect.setAttribute(key, place[key]);
  return rect;
}

function show(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "" : String(value);
  return value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 1e6) ? String(Number(value.toPrecision(4))) : value.toExponential(2);
}

function showBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < 4) { bytes /= 1000; unit++; }
  return (unit === 0 ? Math.round(bytes) : bytes.toPrecision(3)) + " " + units[unit];
}
`;
