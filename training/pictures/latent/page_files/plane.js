// The plane: codes, a point to drag, its picture and the ellipse of its Jacobian.
const CODES = floats(DATA.codes).a, N = CODES.length / DATA.latent, D = DATA.latent;
const COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#79706e"];
const SIZE = 560, PAD = 24;

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const moments = Array.from({ length: D }, (_, d) => {
  let mean = 0, square = 0, low = Infinity, high = -Infinity;
  for (let i = 0; i < N; i++) {
    const v = CODES[i * D + d];
    mean += v / N; low = Math.min(low, v); high = Math.max(high, v); square += (v * v) / N;
  }
  return { mean, variance: square - mean * mean, low, high };
});
const order = [...moments.keys()].sort((a, b) => moments[b].variance - moments[a].variance);
const state = { z: moments.map((m) => m.mean), label: 0, dims: order.slice(0, 2).sort((a, b) => a - b) };

const plane = make("canvas", { id: "plane", width: SIZE, height: SIZE });
const image = make("canvas", { id: "image" }), words = make("p", { id: "words" }), check = make("p", { id: "check" });
function choice(names, now, change) {
  const box = make("select", { onchange: () => { change(Number(box.value)); draw(); } });
  names.forEach((name, i) => box.append(make("option", { value: i, textContent: name, selected: i === now })));
  return box;
}
const controls = make("p");
const units = moments.map((_, d) => `z ${d + 1}`);
for (const side of [0, 1])
  controls.append(make("label", {}, side ? "up " : "across ", choice(units, state.dims[side], (d) => { state.dims[side] = d; })));
if (DATA.classes)
  controls.append(make("label", {}, "label ", choice(DATA.hot.map((_, i) => `${i}`), 0, (i) => { state.label = i; })));
document.querySelector("main").append(
  make("header", {}, make("h1", { textContent: `Latent plane of ${DATA.name}` }),
    make("p", { textContent: "Drag the point; double-click moves it to the nearest code, in all units." }), controls),
  make("div", {}, plane), make("div", {}, image, words, check));

function reach(d) {
  const { low, high } = moments[d], margin = 0.08 * (high - low || 1);
  return [low - margin, high + margin];
}
function toScreen(d, v, side) {
  const [low, high] = reach(d), t = (v - low) / (high - low);
  return PAD + (side ? 1 - t : t) * (SIZE - 2 * PAD);
}
function fromScreen(d, at, side) {
  const [low, high] = reach(d), t = (at - PAD) / (SIZE - 2 * PAD);
  return low + (side ? 1 - t : t) * (high - low);
}

// The steps v in the plane with |J v| = r are r G^(-1/2) (cos, sin): principal axes of G = JᵀJ.
function ellipse([a, b]) {
  let g = 0, h = 0, k = 0;
  for (let i = 0; i < a.length; i++) { g += a[i] * a[i]; h += a[i] * b[i]; k += b[i] * b[i]; }
  const angle = 0.5 * Math.atan2(2 * h, g - k), mid = (g + k) / 2, off = Math.hypot((g - k) / 2, h);
  return { angle, singular: [Math.sqrt(mid + off), Math.sqrt(Math.max(mid - off, 0))] };
}

function drawPlane(tangents) {
  const pen = plane.getContext("2d"), [p, q] = state.dims;
  pen.clearRect(0, 0, SIZE, SIZE);
  for (let i = 0; i < N; i++) {
    pen.fillStyle = DATA.labels ? COLOURS[DATA.labels[i] % COLOURS.length] : COLOURS[0];
    pen.fillRect(toScreen(p, CODES[i * D + p], 0) - 1.5, toScreen(q, CODES[i * D + q], 1) - 1.5, 3, 3);
  }
  const { angle, singular } = ellipse(tangents), radius = (0.06 * (reach(p)[1] - reach(p)[0])) * singular[0];
  pen.strokeStyle = pen.fillStyle = "#111";
  pen.lineWidth = 2;
  pen.beginPath();
  for (let i = 0; i <= 60; i++) {
    const t = (i / 60) * 2 * Math.PI, limit = 3 * (reach(p)[1] - reach(p)[0]);
    const u = (radius / singular[0]) * Math.cos(t) || 0, w = Math.min(radius / singular[1], limit) * Math.sin(t) || 0;
    const x = u * Math.cos(angle) - w * Math.sin(angle), y = u * Math.sin(angle) + w * Math.cos(angle);
    pen.lineTo(toScreen(p, state.z[p] + x, 0), toScreen(q, state.z[q] + y, 1));
  }
  pen.stroke();
  pen.beginPath();
  pen.arc(toScreen(p, state.z[p], 0), toScreen(q, state.z[q], 1), 5, 0, 7);
  pen.fill();
  const at = state.dims.map((d) => `z ${d + 1} = ${state.z[d].toFixed(3)}`).join(", ");
  words.textContent = `${at}; singular values of J in the plane: ${singular.map((s) => s.toPrecision(3)).join(", ")}`;
}

function drawImage(mean) {
  const { shift, factor } = DATA.scale, [low, high] = DATA.range;
  const grey = Array.from(mean, (v, i) => (v / (factor[i] || 1) + shift[i] - low) / (high - low || 1));
  const picture = DATA.shape.length === 3, [h, w, c] = picture ? DATA.shape : [64, grey.length, 1];
  image.width = w; image.height = h;
  const pen = image.getContext("2d"), pixels = pen.createImageData(w, h);
  for (let i = 0; i < h * w; i++) {
    const column = i % w, row = Math.floor(i / w);
    for (let k = 0; k < 3; k++) {
      const v = picture ? grey[i * c + (c === 3 ? k : 0)] : row / h > 1 - grey[column] ? 0.3 : 1;
      pixels.data[4 * i + k] = Math.round(255 * Math.min(Math.max(v, 0), 1));
    }
    pixels.data[4 * i + 3] = 255;
  }
  pen.putImageData(pixels, 0, 0);
}

function draw() {
  const [mean, tangents] = decode(state.z, state.label, state.dims);
  drawPlane(tangents);
  drawImage(mean);
}

function agreement() {
  const z = floats(DATA.checks.z), wanted = floats(DATA.checks.mean), [n] = z.shape, m = wanted.shape[1];
  let worst = 0;
  for (let i = 0; i < n; i++)
    decode(z.a.slice(i * D, (i + 1) * D)).at(0).forEach((v, j) => { worst = Math.max(worst, Math.abs(v - wanted.a[i * m + j])); });
  return worst;
}

function drag(event) {
  const box = plane.getBoundingClientRect();
  state.dims.forEach((d, side) => { state.z[d] = fromScreen(d, side ? event.clientY - box.top : event.clientX - box.left, side); });
  draw();
}
plane.addEventListener("pointerdown", (event) => { plane.setPointerCapture(event.pointerId); drag(event); });
plane.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
plane.addEventListener("dblclick", () => {
  let best = 0, least = Infinity;
  for (let i = 0; i < N; i++) {
    const far = state.dims.reduce((sum, d) => sum + (CODES[i * D + d] - state.z[d]) ** 2, 0);
    if (far < least) [best, least] = [i, far];
  }
  state.z = Array.from(CODES.slice(best * D, (best + 1) * D));
  draw();
});
check.textContent = `largest difference from JAX at ${floats(DATA.checks.z).shape[0]} codes: ${agreement().toExponential(1)}`;
draw();
