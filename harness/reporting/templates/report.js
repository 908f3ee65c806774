"use strict";

let panels = [];
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const hidden = new Set();

function download() {
  const blob = new Blob([document.getElementById("run").textContent], { type: "application/json" });
  document.getElementById("download").href = URL.createObjectURL(blob);
}

/* plotly.js and the figures are gzipped in the page */
async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
}

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
    if (!hidden.delete(name)) hidden.add(name);
    for (const twin of document.querySelectorAll(".legend button")) {
      twin.setAttribute("aria-pressed", String(!hidden.has(twin.dataset.series)));
    }
    panels.forEach(drawPanel);
  });
}

/* the view that has what was just chosen, and of the rest as much as there is */
function chooseView(panel, changed) {
  const wanted = {};
  const selects = [...document.querySelectorAll(`#${panel.id} select`)];
  for (const select of selects) wanted[select.dataset.facet] = select.value;
  let best = panel.views[0];
  let bestScore = -1;
  for (const view of panel.views) {
    let score = 0;
    for (const [name, value] of Object.entries(wanted)) {
      if (view.facets[name] === value) score += name === changed ? 100 : 1;
    }
    if (score > bestScore) [best, bestScore] = [view, score];
  }
  for (const select of selects) select.value = best.facets[select.dataset.facet];
  panel.view = best;
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
  out.margin = { l: 10, r: 14, t: 12, b: 10, ...out.margin };
  out.height ??= narrow.matches ? 360 : 430;
  return out;
}

function drawPanel(panel) {
  const place = document.querySelector(`#${panel.id} .plots`);
  /* every frame stands before the first plot is drawn, so that plotly measures the final width */
  while (place.children.length < panel.view.plots.length) {
    const figure = document.createElement("figure");
    figure.innerHTML = '<figcaption><span></span><p class="remarks"></p></figcaption><div class="plot" role="img"></div>';
    place.append(figure);
  }
  panel.view.plots.forEach((plot, i) => {
    const figure = place.children[i];
    const target = figure.querySelector(".plot");
    figure.querySelector("span").textContent = plot.title;
    figure.querySelector(".remarks").textContent = plot.remarks.join(" ");
    target.setAttribute("aria-label", plot.title);
    const data = plot.data.map((trace) => ({ ...trace, visible: !hidden.has(trace.meta.series) }));
    target.classList.toggle("empty", data.length === 0);
    if (data.length === 0) {
      if (target.data) Plotly.purge(target);
      target.textContent = "No case of this choice gave a result to draw.";
      return;
    }
    if (!target.data) target.textContent = "";
    Plotly.react(target, data, themed(plot.layout), { responsive: true, displaylogo: false, displayModeBar: false });
  });
}

async function start() {
  download();
  document.querySelectorAll(".legend button").forEach(drawLegend);
  panels = JSON.parse(await unpack("figures"));
  if (panels.length === 0) return;
  await loadPlotly();
  for (const panel of panels) {
    chooseView(panel, null);
    for (const select of document.querySelectorAll(`#${panel.id} select`)) {
      select.addEventListener("change", () => {
        chooseView(panel, select.dataset.facet);
        drawPanel(panel);
      });
    }
    drawPanel(panel);
  }
  for (const query of [dark, narrow]) query.addEventListener("change", () => panels.forEach(drawPanel));
}

start().catch((error) => {
  const trouble = document.getElementById("trouble");
  trouble.hidden = false;
  trouble.textContent = `The plots could not be drawn (${error.message}). The words, tables and raw data are complete.`;
  console.error(error);
});
