// Put the page together.
function heading() {
  const header = element("header");
  const bad = DATA.trials.filter((t) => t.status !== "ok").length;
  header.append(element("h1", `Sweep: ${DATA.points.length} points, ${DATA.trials.length} trials`));
  header.append(element("p", `Best: ${DATA.summary}`));
  if (DATA.train) {
    header.append(element("p", "Train it: "));
    header.lastChild.append(element("code", DATA.train));
  }
  const row = element("p", `Sampler ${DATA.sampler}, ${DATA.runs} run(s) per point, ${bad} trials without a score. `);
  const kept = element("span", "");
  kept.id = "kept";
  row.append(kept);
  header.append(row);
  document.querySelector("main").append(header);
}

function failures() {
  const bad = DATA.trials.filter((t) => t.status !== "ok");
  if (!bad.length) return;
  const section = element("section");
  section.className = "wide";
  section.id = "failures";
  section.append(element("h2", "Trials without a score"), element("p", `The first ${Math.min(bad.length, 50)} of ${bad.length}.`));
  const table = element("table");
  for (const t of bad.slice(0, 50)) {
    const row = element("tr");
    row.append(element("td", t.key), element("td", t.status), element("td", t.reason));
    table.append(row);
  }
  section.append(table);
  document.querySelector("main").append(section);
}

heading();
if (DATA.points.length) {
  parallel();
  historyChart();
  if (DATA.metrics.length > 1) frontChart();
  importanceChart();
  slices();
  seedsStrip();
  select();
}
if (DATA.trials.length) timeline();
failures();
