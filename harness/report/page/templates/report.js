"use strict";

let page = { panels: [], filters: {}, lengths: [], levels: [] };
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const hiddenSeries = new Set();
const pendingPanels = new Set(); /* to be drawn when they become visible */
const visiblePanels = new Set();
let printing = false; /* then everything is drawn at once, at the width of the paper */

/* ---- data, which is gzipped in the page ---- */

async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function offerDownload(text) {
  const blob = new Blob([text], { type: "application/json" });
  document.getElementById("download").href = URL.createObjectURL(blob);
}

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
}

/* ---- legend ---- */

const GLYPHS = {
  circle: '<circle cx="13" cy="7" r="4"/>',
  square: '<rect x="9.2" y="3.2" width="7.6" height="7.6"/>',
  diamond: '<path d="M13 1.8 18 7l-5 5.2L8 7z"/>',
  "triangle-up": '<path d="M13 2.2 18 11H8z"/>',
  "triangle-down": '<path d="M13 11.8 8 3h10z"/>',
  star: '<path d="m13 1.4 1.6 3.7 4 .4-3 2.7.9 3.9-3.5-2-3.5 2 .9-3.9-3-2.7 4-.4z"/>',
  hexagon: '<path d="m13 2.2 4.2 2.4v4.8L13 11.8 8.8 9.4V4.6z"/>',
  cross: '<path d="M11.4 2.4h3.2v3h3v3.2h-3v3h-3.2v-3h-3V5.4h3z"/>',
};
const DASHES = { solid: "", dash: "5 3", dot: "2 2", dashdot: "6 2 2 2" };

function drawLegend(button) {
  const { color, marker, dash } = button.dataset;
  const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  swatch.setAttribute("width", "26");
  swatch.setAttribute("height", "14");
  swatch.setAttribute("aria-hidden", "true");
  swatch.innerHTML =
    `<path d="M0 7h26" fill="none" stroke="${color}" stroke-width="2" stroke-dasharray="${DASHES[dash]}"/>` +
    `<g fill="${color}">${GLYPHS[marker]}</g>`;
  button.prepend(swatch);
  button.addEventListener("click", () => {
    const name = button.dataset.series;
    if (!hiddenSeries.delete(name)) hiddenSeries.add(name);
    stateChanged();
  });
}

/* ---- state: the filters, the selects of each panel and the hidden series; the URL's hash stores it ---- */

const selects = () => [...document.querySelectorAll(".filters select, .panel select")];

function key(select) {
  if (select.id) return select.id;
  if (select.dataset.filter) return select.dataset.filter;
  return `${select.closest(".panel").id}.${select.dataset.facet}`;
}

const initial = (select) => [...select.options].find((option) => option.defaultSelected) ?? select.options[0];

function saveState() {
  const state = new URLSearchParams();
  for (const select of selects()) {
    if (select.value !== initial(select).value) state.append(key(select), select.value);
  }
  for (const name of hiddenSeries) state.append("hide", name);
  const link = state.toString();
  if (link !== location.hash.slice(1)) history.replaceState(null, "", link ? `#${link}` : location.href.split("#")[0]);
}

function restoreState() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const select of selects()) {
    const value = state.get(key(select));
    const exists = [...select.options].some((option) => option.value === value);
    select.value = exists ? value : initial(select).value;
  }
  hiddenSeries.clear();
  for (const name of state.getAll("hide")) hiddenSeries.add(name);
}

const range = () => {
  const [from, to] = ["from", "to"].map((id) => document.getElementById(id));
  return from ? [Number(from.value), Number(to.value)].sort((a, b) => a - b) : [0, Infinity];
};

function stateChanged() {
  saveState();
  update();
}

function update() {
  const level = document.getElementById("level")?.value ?? page.levels[0];
  for (const section of document.querySelectorAll(".level")) section.hidden = section.dataset.level !== level;
  for (const button of document.querySelectorAll(".legend button")) {
    button.setAttribute("aria-pressed", String(!hiddenSeries.has(button.dataset.series)));
  }
  const describe = (select) => `${select.parentElement.firstChild.textContent.trim()} ${select.selectedOptions[0].textContent}`;
  const chosen = [...document.querySelectorAll(".filters select")].map(describe);
  const status = document.getElementById("status");
  const without = hiddenSeries.size ? `, without ${[...hiddenSeries].join(", ")}` : "";
  if (status) status.textContent = `Filters: ${chosen.join(", ") || "none"}${without}.`;
  for (const panel of page.panels) pendingPanels.add(panel);
  drawPending();
}

/* the view that fits the shared filters and matches the panel's own selects best, above all the one that was just changed; or null */
function chooseView(panel, justChosen) {
  const [from, to] = range();
  const fits = panel.views.filter((view) => {
    const shared = [...document.querySelectorAll("select[data-filter]")].every(({ dataset, value }) => {
      const facet = view.facets[dataset.filter];
      return facet === undefined || page.filters[dataset.filter][value].includes(facet);
    });
    return shared && view.lengths.some((n) => n >= from && n <= to);
  });
  const ownSelects = [...document.querySelectorAll(`#${panel.id} select`)];
  let best = null;
  let bestScore = -1;
  for (const view of fits) {
    let score = 0;
    for (const { dataset, value } of ownSelects) {
      if (view.facets[dataset.facet] === value) score += dataset.facet === justChosen ? 100 : 1;
    }
    if (score > bestScore) [best, bestScore] = [view, score];
  }
  if (best) for (const select of ownSelects) select.value = best.facets[select.dataset.facet];
  return best;
}

/* ---- plots ---- */

function pickPoints(trace, keep) {
  const pick = (values) => (Array.isArray(values) ? values.filter((_, i) => keep[i]) : values);
  const out = { ...trace };
  for (const name of ["x", "y", "customdata", "hovertext"]) if (name in out) out[name] = pick(out[name]);
  if (out.marker) out.marker = { ...out.marker, symbol: pick(out.marker.symbol) };
  return out;
}

function visibleTraces(plot) {
  const [from, to] = range();
  const chosen = plot.data.filter((trace) => !hiddenSeries.has(trace.meta.series));
  const inRange = chosen.map((trace) =>
    trace.customdata ? pickPoints(trace, trace.customdata.map((n) => n >= from && n <= to)) : trace);
  const data = inRange.filter((trace) => trace.x.length > 0);
  return plot.layout.meta?.front ? withParetoFront(data, plot.layout.meta.front) : { data, length: null };
}

/* the points of one length, the longest with at least two points, and the line through those that no other point beats */
function withParetoFront(data, better) {
  const count = new Map();
  for (const trace of data) for (const n of trace.customdata) count.set(n, (count.get(n) ?? 0) + 1);
  const several = [...count.keys()].filter((n) => count.get(n) > 1);
  const length = Math.max(...(several.length ? several : count.keys()));
  const traces = data
    .map((trace) => pickPoints(trace, trace.customdata.map((n) => n === length)))
    .filter((trace) => trace.x.length > 0)
    .map((trace) => ({ ...trace, mode: "markers+text", text: trace.name, textposition: "top center", cliponaxis: false }));
  const sign = better === "lower" ? 1 : -1;
  const points = traces.flatMap((trace) => trace.x.map((x, i) => ({ x, y: trace.y[i] })));
  points.sort((a, b) => a.x - b.x || sign * (a.y - b.y));
  const front = points.filter((point, i) => points.slice(0, i).every((other) => sign * point.y < sign * other.y));
  const line = {
    type: "scatter", mode: "lines", x: front.map((p) => p.x), y: front.map((p) => p.y), meta: { series: null },
    line: { color: "#8a8f98", dash: "dot", width: 1.5 }, hoverinfo: "skip",
  };
  return { data: traces.length ? [line, ...traces] : [], length };
}

function themed(layout) {
  const css = getComputedStyle(document.documentElement);
  const [ink, soft, line, card] = ["--ink", "--soft", "--line", "--card"].map((name) => css.getPropertyValue(name).trim());
  const out = structuredClone(layout);
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, automargin: true };
  for (const name of Object.keys(out).filter((key) => /^[xy]axis/.test(key))) Object.assign(out[name], axis);
  for (const note of out.annotations ?? []) note.font = { color: soft, size: 12 };
  out.paper_bgcolor = out.plot_bgcolor = "rgba(0,0,0,0)";
  out.font = { family: "system-ui, sans-serif", size: 12.5, color: ink };
  out.hoverlabel = { bgcolor: card, bordercolor: line, font: { color: ink, size: 13 }, align: "left" };
  out.margin = { l: 10, r: 14, t: 18, b: 10, ...out.margin };
  out.height ??= narrow.matches ? 330 : 340;
  return out;
}

function figureAt(plotList, i) {
  while (plotList.children.length <= i) {
    const figure = document.createElement("figure");
    figure.innerHTML =
      '<figcaption><span></span></figcaption><div class="plot" role="img"></div><p class="remarks"></p>' +
      '<details class="points"><summary>Show the points as a table</summary><div class="scroll" tabindex="0" role="group"></div></details>';
    figure.querySelector("details").addEventListener("toggle", () => fillTable(figure));
    plotList.append(figure);
  }
  return plotList.children[i];
}

function drawPlot(figure, plot) {
  const target = figure.querySelector(".plot");
  const { data, length } = visibleTraces(plot);
  const title = plot.title + (length > 0 ? `, ${length.toLocaleString("en")} tokens` : "");
  figure.querySelector("span").textContent = title;
  figure.querySelector(".remarks").textContent = plot.remarks.join(" ");
  const drawn = data.filter((trace) => trace.meta.series !== null);
  target.setAttribute("aria-label", `${title}. ${drawn.length ? "The table below lists the points." : plot.empty}`);
  figure.querySelector("details").hidden = drawn.length === 0;
  target.classList.toggle("empty", drawn.length === 0);
  if (drawn.length === 0) {
    if (target.data) Plotly.purge(target);
    target.textContent = plot.data.length ? "Nothing to draw with these filters." : plot.empty;
    return;
  }
  if (!target.data) target.textContent = "";
  const layout = themed(plot.layout);
  if (printing) layout.width = target.clientWidth;
  if (drawn.every((trace) => trace.yaxis === "y2")) {
    layout.annotations = [{ text: plot.empty, x: 0.5, y: 0.4, xref: "paper", yref: "paper", showarrow: false }];
  }
  Plotly.react(target, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  fillTable(figure);
}

/* the points as a table, for readers who cannot see the plot or use a pointer */
function fillTable(figure) {
  const details = figure.querySelector("details");
  if (!details.open) return;
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const name of ["Attention", "Length", "Point"]) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = name;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const trace of figure.querySelector(".plot").data ?? []) {
    if (!Array.isArray(trace.hovertext) || !trace.customdata) continue;
    trace.hovertext.forEach((words, i) => {
      const row = body.insertRow();
      const text = words.replace(/<br>/g, "; ").replace(/<\/?b>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
      for (const value of [trace.meta.series, trace.customdata[i].toLocaleString("en"), text]) row.insertCell().textContent = value;
    });
  }
  const scroller = details.querySelector("div");
  scroller.setAttribute("aria-label", figure.querySelector("span").textContent);
  scroller.replaceChildren(table);
}

async function drawPanel(panel) {
  const drawing = (panel.drawing = (panel.drawing ?? 0) + 1);
  const container = document.getElementById(panel.id);
  const plotList = container.querySelector(".plots");
  container.setAttribute("aria-busy", "true");
  const view = chooseView(panel, panel.justChosen);
  panel.justChosen = null;
  let note = container.querySelector(".nothing");
  if (!note) {
    note = document.createElement("p");
    note.className = "nothing empty";
    plotList.before(note);
  }
  note.hidden = Boolean(view);
  plotList.hidden = !view;
  note.textContent = "No case matches these filters.";
  const plots = view?.plots ?? [];
  plots.forEach((_, i) => figureAt(plotList, i));
  /* all figures must exist before the first plot is drawn, so that plotly measures the final width */
  [...plotList.children].forEach((figure, i) => { figure.hidden = i >= plots.length; });
  plotList.dataset.plots = plots.length;
  for (const [i, plot] of plots.entries()) {
    drawPlot(plotList.children[i], plot);
    if (!printing) await new Promise((done) => setTimeout(done)); /* keeps the page responsive */
    if (panel.drawing !== drawing) return; /* a newer drawing has started */
  }
  container.setAttribute("aria-busy", "false");
}

async function drawPending() {
  for (const panel of page.panels) {
    if (!pendingPanels.has(panel) || !visiblePanels.has(panel.id)) continue;
    pendingPanels.delete(panel);
    await drawPanel(panel).catch(showError);
  }
}

function printView(starts) {
  printing = starts;
  document.documentElement.classList.toggle("printing", starts);
  if (!starts) return update();
  const onPage = page.panels.filter((panel) => document.getElementById(panel.id).offsetParent);
  for (const panel of onPage) drawPanel(panel).catch(showError); /* without an await while printing */
}

function showError(error) {
  const message = document.getElementById("error");
  message.hidden = false;
  message.textContent = `Not every plot could be drawn (${error.message}). The text, tables and raw data are complete.`;
  console.error(error);
}

async function start() {
  const text = await unpack("data");
  offerDownload(text);
  page = JSON.parse(text).page;
  if (page.panels.length === 0) return;
  document.querySelectorAll(".legend button").forEach(drawLegend);
  await loadPlotly();
  for (const select of selects()) {
    select.addEventListener("change", () => {
      const panel = page.panels.find(({ id }) => id === select.closest(".panel")?.id);
      if (panel) panel.justChosen = select.dataset.facet;
      stateChanged();
    });
  }
  document.getElementById("all").addEventListener("click", () => {
    hiddenSeries.clear();
    stateChanged();
  });
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) visiblePanels[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    drawPending();
  }, { rootMargin: "400px" });
  document.querySelectorAll(".panel").forEach((panel) => observer.observe(panel));
  addEventListener("hashchange", () => {
    restoreState();
    update();
  });
  addEventListener("beforeprint", () => printView(true));
  addEventListener("afterprint", () => printView(false));
  for (const query of [dark, narrow]) query.addEventListener("change", update);
  restoreState();
  update();
}

start().catch(showError);
