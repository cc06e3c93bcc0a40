"use strict";
// Small helpers to draw with SVG. Text only ever enters the page through textContent.
const DATA = JSON.parse(document.getElementById("data").textContent);
const METRIC = DATA.metrics[0];

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function element(tag, text) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  return node;
}

function number(x) {
  if (x === null || x === undefined) return "none";
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e5) return String(x);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(1) : String(Number(x.toPrecision(3)));
}

function short(text, length) {
  return text.length > length ? text.slice(0, length - 1) + "…" : text;
}

// A card with a heading, a sentence and an empty drawing; `view` is [width, height].
function card(id, title, note, view, wide) {
  const section = element("section");
  section.id = id;
  if (wide) section.className = "wide";
  section.append(element("h2", title), element("p", note));
  const drawing = svg("svg", { viewBox: `0 0 ${view[0]} ${view[1]}`, role: "img", "aria-label": title });
  section.append(drawing);
  document.querySelector("main").append(section);
  return drawing;
}

// Map values of a field to [a, b] pixels: a list by position, a range linearly or by logarithm.
function scale(field, a, b) {
  if (field.values) {
    const step = (b - a) / field.values.length;
    const at = (v) => a + step * (field.values.indexOf(String(v)) + 0.5);
    return { at, ticks: field.values.map((v) => [at(v), short(v, 14)]) };
  }
  const f = field.log ? Math.log : (x) => x;
  const span = f(field.high) - f(field.low) || 1;
  const at = (v) => a + ((b - a) * (f(v) - f(field.low))) / span;
  const inverse = field.log ? Math.exp : (x) => x;
  const marks = [0, 0.25, 0.5, 0.75, 1].map((t) => inverse(f(field.low) + t * span));
  return { at, ticks: marks.map((v) => [at(v), number(v)]) };
}

// The range of some numbers as a field; a few outliers do not squeeze the rest when `robust`.
function extent(numbers, robust) {
  const sorted = numbers.filter((x) => x !== null).sort((x, y) => x - y);
  if (!sorted.length) return { low: 0, high: 1 };
  let low = sorted[0], high = sorted[sorted.length - 1];
  if (robust && sorted.length > 8) {
    const q = (t) => sorted[Math.floor(t * (sorted.length - 1))];
    const reach = 4 * (q(0.75) - q(0.25));
    if (reach > 0) [low, high] = [Math.max(low, q(0.25) - reach), Math.min(high, q(0.75) + reach)];
  }
  const pad = (high - low) * 0.04 || Math.abs(high) * 0.05 || 1;
  return { low: low - pad, high: high + pad };
}

function clamp(x, a, b) {
  return Math.min(Math.max(x, Math.min(a, b)), Math.max(a, b));
}

function axisBelow(drawing, ticks, y, x0, x1, name) {
  drawing.append(svg("line", { class: "axis", x1: x0, x2: x1, y1: y, y2: y }));
  for (const [x, text] of ticks) drawing.append(svg("text", { x, y: y + 15, "text-anchor": "middle" }, text));
  drawing.append(svg("text", { class: "name", x: (x0 + x1) / 2, y: y + 31, "text-anchor": "middle" }, short(name, 40)));
}

function axisLeft(drawing, ticks, x, y0, y1, name) {
  drawing.append(svg("line", { class: "axis", x1: x, x2: x, y1: y0, y2: y1 }));
  for (const [y, text] of ticks) drawing.append(svg("text", { x: x - 6, y: y + 4, "text-anchor": "end" }, text));
  if (name) drawing.append(svg("text", { class: "name", x: x - 40, y: Math.min(y0, y1) - 8 }, short(name, 40)));
}

function describe(p) {
  const values = Object.entries(p.values).map(([k, v]) => `${k} = ${typeof v === "number" ? number(v) : v}`);
  const scores = Object.entries(p.metrics).map(([k, m]) => `${k} = ${number(m[0])}`);
  return [`point ${p.id}`, ...scores, ...values].join("\n");
}

// Give a mark the point it stands for: brushing hides it, hovering explains it.
function mark(node, p, kind) {
  node.setAttribute("class", p.id === DATA.best ? `${kind} best` : kind);
  node.dataset.point = p.id;
  node.append(svg("title", {}, describe(p)));
  return node;
}
