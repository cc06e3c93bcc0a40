// Parallel coordinates: drag along an axis to keep the points that pass there; a click on the axis lets go.
const BRUSHES = new Map(); // axis name -> [low pixel, high pixel]

function axisFields() {
  const numbers = (name) => DATA.points.map((p) => p.metrics[name][0]);
  const scores = DATA.metrics.map((m) => ({ name: m.name, metric: true, ...extent(numbers(m.name), true) }));
  return [...DATA.fields, ...scores];
}

function parallel() {
  const top = 34, bottom = 272, left = 70, right = 1070;
  const note = "Each line is a point. Drag up or down on an axis to keep what passes there; click it to let go.";
  const drawing = card("parallel", "Parallel coordinates", note, [1140, 290], true);
  const fields = axisFields();
  const gap = (right - left) / Math.max(fields.length - 1, 1);
  const scales = fields.map((f) => scale(f, bottom, top));
  const value = (p, f) => (f.metric ? p.metrics[f.name][0] : p.values[f.name]);
  const places = new Map();
  const order = [...DATA.points].sort((a, b) => (a.id === DATA.best) - (b.id === DATA.best));
  for (const p of order) {
    const ys = fields.map((f, i) => {
      const v = value(p, f);
      return v === undefined ? null : clamp(scales[i].at(v), top, bottom);
    });
    places.set(p.id, ys);
    const steps = ys.map((y, i) => [left + i * gap, y]).filter(([, y]) => y !== null);
    const d = steps.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
    drawing.append(mark(svg("path", { d }), p, "path"));
  }
  fields.forEach((f, i) => {
    const x = left + i * gap;
    axisLeft(drawing, scales[i].ticks, x, bottom, top);
    drawing.append(svg("text", { class: "name", x, y: 16, "text-anchor": "middle" }, short(f.name, 26)));
    brushable(drawing, f.name, x, top, bottom, (p) => places.get(p)[i]);
  });
}

function brushable(drawing, name, x, top, bottom, place) {
  const shade = svg("rect", { class: "brush", x: x - 9, width: 18, y: top, height: 0, visibility: "hidden" });
  const strip = svg("rect", { class: "strip", x: x - 14, width: 28, y: top, height: bottom - top });
  strip.dataset.axis = name;
  drawing.append(shade, strip);
  let start = null;
  const height = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    return clamp(at.y, top, bottom);
  };
  const show = (a, b) => {
    const [low, high] = [Math.min(a, b), Math.max(a, b)];
    if (high - low < 3) {
      BRUSHES.delete(name);
      shade.setAttribute("visibility", "hidden");
    } else {
      BRUSHES.set(name, (p) => place(p) !== null && place(p) >= low && place(p) <= high);
      shade.setAttribute("visibility", "visible");
      shade.setAttribute("y", low);
      shade.setAttribute("height", high - low);
    }
    select();
  };
  strip.addEventListener("pointerdown", (event) => {
    start = height(event);
    strip.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  strip.addEventListener("pointermove", (event) => start !== null && show(start, height(event)));
  strip.addEventListener("pointerup", (event) => {
    if (start !== null) show(start, height(event));
    start = null;
  });
}

// Fade every mark, in all charts, whose point some brush excludes.
function select() {
  const kept = new Set();
  for (const p of DATA.points) if ([...BRUSHES.values()].every((passes) => passes(p.id))) kept.add(String(p.id));
  for (const node of document.querySelectorAll("[data-point]"))
    node.classList.toggle("off", !kept.has(node.dataset.point));
  document.getElementById("kept").textContent = `${kept.size} of ${DATA.points.length} points shown`;
}
