// The charts beside the parallel coordinates; each draws one card, or nothing when it has nothing to say.
const score = (p, m) => p.metrics[(m || METRIC).name];

function historyChart() {
  const drawing = card("history", "History", `${METRIC.name} of each point; the step is the best so far.`, [560, 270]);
  const x = scale({ low: 0, high: Math.max(...DATA.points.map((p) => p.id), 1) }, 60, 545);
  const y = scale(extent(DATA.points.map((p) => score(p)[0]), true), 225, 24);
  axisBelow(drawing, x.ticks.map(([at, t]) => [at, String(Math.round(t))]), 228, 60, 545, "point");
  axisLeft(drawing, y.ticks, 55, 225, 24, METRIC.name);
  let best = null, d = "";
  for (const p of [...DATA.points].sort((a, b) => a.id - b.id)) {
    const value = score(p)[0];
    if (p.rung === DATA.last && (best === null || METRIC.sign * value < METRIC.sign * best)) best = value;
    if (best !== null) d += `${d ? "H" + x.at(p.id) + "V" : `M${x.at(p.id)},`}${clamp(y.at(best), 225, 24)}`;
    drawing.append(mark(svg("circle", { cx: x.at(p.id), cy: clamp(y.at(value), 225, 24), r: 3.2 }), p, "dot"));
  }
  if (d) drawing.append(svg("path", { d: d + "H545", fill: "none", stroke: "#d2541b", "stroke-width": 1.4 }));
}

function importanceChart() {
  const rows = DATA.importance;
  const note = "Share of the variance (of ranks) that each field explains alone; lines are 95% bootstrap intervals.";
  const wide = DATA.metrics.length > 1, right = wide ? 1120 : 545; // beside the history, or below history and front
  const view = [wide ? 1140 : 560, 60 + 26 * rows.length];
  const drawing = card("importance", "Importance", rows.length ? note : "Needs at least 8 points.", view, wide);
  if (!rows.length) return;
  const x = scale({ low: 0, high: 1 }, 200, right);
  rows.forEach((row, i) => {
    const y = 12 + 26 * i, [at, low, high] = row.interval;
    drawing.append(svg("text", { class: "name", x: 190, y: y + 13, "text-anchor": "end" }, short(row.name, 28)));
    drawing.append(svg("rect", { class: "bar", x: 200, y, width: Math.max(x.at(at) - 200, 1), height: 17 }));
    drawing.append(svg("line", { class: "range", x1: x.at(low), x2: x.at(high), y1: y + 8.5, y2: y + 8.5 }));
  });
  axisBelow(drawing, x.ticks, 16 + 26 * rows.length, 200, right, "share explained");
}

function slices() {
  const per = 4, width = 275, height = 205, rows = Math.ceil(DATA.fields.length / per);
  const note = `${METRIC.name} against each field; the vertical lines are intervals over runs.`;
  const drawing = card("slices", "Slices", note, [1140, rows * height + 16], true);
  const range = extent(DATA.points.map((p) => score(p)[0]), true);
  DATA.fields.forEach((field, i) => {
    const left = 56 + (i % per) * (width + 6), top = 22 + Math.floor(i / per) * height;
    const x = scale(field, left, left + width - 66), y = scale(range, top + 140, top);
    axisLeft(drawing, i % per ? [] : y.ticks, left - 6, top + 140, top);
    const ticks = field.values ? x.ticks : [x.ticks[0], x.ticks[2], x.ticks[4]];
    axisBelow(drawing, ticks, top + 146, left - 6, left + width - 66, field.name);
    for (const p of DATA.points) {
      const v = p.values[field.name];
      if (v === undefined) continue;
      const shift = field.values ? ((p.id * 0.618) % 1 - 0.5) * 16 : 0; // spread equal values apart
      const cx = x.at(v) + shift, [at, low, high] = score(p);
      if (low !== null && DATA.runs > 1) {
        const ends = { x1: cx, x2: cx, y1: clamp(y.at(low), top, top + 140), y2: clamp(y.at(high), top, top + 140) };
        drawing.append(mark(svg("line", ends), p, "path"));
      }
      drawing.append(mark(svg("circle", { cx, cy: clamp(y.at(at), top, top + 140), r: 2.8 }), p, "dot"));
    }
  });
}

function seedsStrip() {
  if (DATA.runs < 2) return;
  const note = "Every run of the best 20 points, with the mean (bar) and its 95% interval: is the winner beyond chance?";
  const shown = DATA.points.filter((p) => p.rung === DATA.last);
  shown.sort((a, b) => METRIC.sign * (score(a)[0] - score(b)[0])).splice(20);
  const drawing = card("seeds", "Seeds", note, [1140, 250], true);
  const y = scale(extent(shown.flatMap((p) => score(p)[3]), true), 205, 24);
  axisLeft(drawing, y.ticks, 55, 205, 24, METRIC.name);
  shown.forEach((p, i) => {
    const x = 80 + (i * 1040) / Math.max(shown.length, 1), [at, low, high, runs] = score(p);
    for (const v of runs) drawing.append(mark(svg("circle", { cx: x, cy: clamp(y.at(v), 205, 24), r: 3 }), p, "dot"));
    if (low !== null) {
      const ends = { x1: x + 9, x2: x + 9, y1: clamp(y.at(low), 205, 24), y2: clamp(y.at(high), 205, 24) };
      drawing.append(svg("line", { class: "range", ...ends }));
    }
    drawing.append(svg("line", { class: "range", x1: x + 5, x2: x + 13, y1: y.at(at), y2: y.at(at) }));
    drawing.append(svg("text", { x, y: 222, "text-anchor": "middle" }, String(p.id)));
  });
  drawing.append(svg("text", { class: "name", x: 560, y: 242, "text-anchor": "middle" }, "point, best first"));
}

function frontChart() {
  if (DATA.metrics.length < 2) return;
  const [a, b] = DATA.metrics;
  const drawing = card("front", "Front", "No other point is better in every metric than those on the line.", [560, 290]);
  const x = scale(extent(DATA.points.map((p) => score(p, a)[0]), true), 60, 545);
  const y = scale(extent(DATA.points.map((p) => score(p, b)[0]), true), 240, 24);
  axisBelow(drawing, x.ticks, 244, 60, 545, a.name);
  axisLeft(drawing, y.ticks, 55, 240, 24, b.name);
  const at = (p) => [clamp(x.at(score(p, a)[0]), 60, 545), clamp(y.at(score(p, b)[0]), 24, 240)];
  const line = DATA.points.filter((p) => p.front).map(at).sort((p, q) => p[0] - q[0]);
  if (line.length) drawing.append(svg("path", { d: "M" + line.join("L"), fill: "none", stroke: "#d2541b" }));
  for (const p of DATA.points) {
    const [cx, cy] = at(p);
    drawing.append(mark(svg("circle", { cx, cy, r: p.front ? 4.5 : 3 }), p, "dot"));
  }
}

function timeline() {
  const trials = DATA.trials;
  const workers = [...new Set(trials.map((t) => t.worker))];
  const start = Math.min(...trials.map((t) => t.ended - t.seconds)), end = Math.max(...trials.map((t) => t.ended));
  const drawing = card("timeline", "Timeline", "What each worker process ran, and when.", [1140, 52 + 20 * workers.length], true);
  const x = scale({ low: 0, high: Math.max(end - start, 1e-3) }, 150, 1120);
  workers.forEach((w, i) => drawing.append(svg("text", { x: 142, y: 20 + 20 * i, "text-anchor": "end" }, short(w, 22))));
  for (const t of trials) {
    const y = 8 + 20 * workers.indexOf(t.worker), from = x.at(t.ended - t.seconds - start);
    const size = { x: from, y, width: Math.max(x.at(t.ended - start) - from - 0.6, 0.8), height: 15 };
    const node = svg("rect", { class: t.status === "ok" ? "dot" : "bad", ...size });
    node.append(svg("title", {}, `${t.key}\n${t.status} ${t.reason}\n${number(t.seconds)} s`));
    node.dataset.point = t.point;
    drawing.append(node);
  }
  axisBelow(drawing, x.ticks, 14 + 20 * workers.length, 150, 1120, "seconds since the first trial");
}
