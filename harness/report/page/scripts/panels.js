/**
 * The plotly panels inside the folds. plotly and the panels' data are unpacked when the first fold with a panel opens,
 * or after a while, so that they are there when the page is printed. Each panel is drawn when its fold is open.
 */

import { loadPanels, unpack } from "report/data";
import { byId, element, setWords, svg } from "report/dom";
import { isolatedPart } from "report/isolated_names";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").PanelData} PanelData */
/** @typedef {import("report/page_data").PlotData} PlotData */
/** @typedef {import("report/plotly").Trace} Trace */
/** @typedef {import("report/plotly").Layout} Layout */
/** @typedef {import("report/plotly").PlotElement} PlotElement */
/** @typedef {import("report/state").State} State */
/** @typedef {PanelData["views"][number]} View */

/** Outlines of plotly's markers in a legend. */
const GLYPHS = /** @type {Record<string, string>} */ ({
  circle: "M17 7a4 4 0 1 1-8 0 4 4 0 1 1 8 0z",
  square: "M9.2 3.2h7.6v7.6H9.2z",
  diamond: "M13 1.8 18 7l-5 5.2L8 7z",
  "triangle-up": "M13 2.2 18 11H8z",
  "triangle-down": "M13 11.8 8 3h10z",
  star: "m13 1.4 1.6 3.7 4 .4-3 2.7.9 3.9-3.5-2-3.5 2 .9-3.9-3-2.7 4-.4z",
  hexagon: "m13 2.2 4.2 2.4v4.8L13 11.8 8.8 9.4V4.6z",
  cross: "M11.4 2.4h3.2v3h3v3.2h-3v3h-3.2v-3h-3V5.4h3z",
});
const DASHES = /** @type {Record<string, string>} */ ({ solid: "", dash: "5 3", dot: "2 2", dashdot: "6 2 2 2" });

/** Series that the reader has switched off, in all panels. @type {Set<string>} */
const hiddenSeries = new Set();
/** What each panel shows: its own choice of facets. @type {Map<string, Record<string, string>>} */
const choices = new Map();
/** The latest drawing of each panel; an older one that is still under way stops. @type {Map<string, number>} */
const drawings = new Map();
/** @type {Promise<void> | null} */
let loading = null;
/** @type {PanelData[]} */
let loaded = [];
let followed = "";
let drawn = "";
let listening = false;
/** How long after the first screens the panels are unpacked, in milliseconds. */
const LATER = 1000;

/**
 * Draw the panels of open folds, at the place of the bar where they have it.
 *
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const place = JSON.stringify([state.facets, state.pass]);
  if (place !== followed) choices.clear();
  followed = place;
  const panels = document.querySelectorAll(".panel-of-plots");
  if (!listening && panels.length > 0) {
    for (const panel of panels) panel.closest("details")?.addEventListener("toggle", () => drawOpen(data, state));
    setTimeout(() => void load().catch(() => {}), LATER); /* a fold that is opened later shows the error */
  }
  listening = true;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const looks = JSON.stringify([place, innerWidth, dark, isPrinting()]);
  if (looks === drawn) return;
  drawn = looks;
  drawOpen(data, state);
}

const isPrinting = () => document.documentElement.classList.contains("printing");

/**
 * @param {PageData} data
 * @param {State} state
 */
function drawOpen(data, state) {
  const open = [...document.querySelectorAll(".panel-of-plots")].filter((panel) => panel.closest("details")?.open ?? true);
  if (open.length === 0) return;
  if (loaded.length > 0) {
    for (const container of open) drawPanel(container.id, data, state);
    return;
  }
  for (const container of open) container.setAttribute("aria-busy", "true");
  load()
    .then(() => drawOpen(data, state))
    .catch((/** @type {Error} */ error) => {
      for (const container of open) {
        container.setAttribute("aria-busy", "false");
        container.replaceChildren(element("p", { class: "notice" }, `The plots could not be drawn: ${error.message}`));
      }
      console.error(error);
    });
}

function load() {
  loading ??= Promise.all([loadPanels(), unpack("plotly")]).then(([panels, plotly]) => {
    document.head.append(element("script", {}, plotly));
    loaded = panels;
  });
  return loading;
}

/**
 * @param {string} id
 * @param {PageData} data
 * @param {State} state
 * @returns {void}
 */
function drawPanel(id, data, state) {
  const panel = loaded.find((one) => one.id === id);
  if (!panel) return;
  const container = byId(id);
  const drawing = (drawings.get(id) ?? 0) + 1;
  drawings.set(id, drawing);
  container.setAttribute("aria-busy", "true");
  const again = () => drawOpen(data, state);
  const view = chosenView(panel, state);
  if (!container.querySelector(".plots")) {
    container.append(
      element("div", { class: "controls" }),
      element("div", { class: "legend", role: "group", "aria-label": "Attentions to show in all plots" }),
      element("div", { class: "plots" }),
    );
  }
  controls(container, panel, view, again);
  legend(container, panel, data, again);
  const list = /** @type {HTMLElement} */ (container.querySelector(".plots"));
  while (list.children.length < view.plots.length) list.append(figure());
  /* all figures must exist before the first plot is drawn, so that plotly measures the final width */
  const figures = [...list.children];
  figures.forEach((one, i) => /** @type {HTMLElement} */ (one).hidden = i >= view.plots.length);
  const printing = isPrinting();
  const next = (/** @type {number} */ i) => {
    if (drawings.get(id) !== drawing) return;
    const [one, plot] = [figures[i], view.plots[i]];
    if (!one || !plot) {
      container.setAttribute("aria-busy", "false");
      return;
    }
    drawPlot(one, plot);
    if (printing) next(i + 1);
    else setTimeout(() => next(i + 1)); /* keeps the page responsive */
  };
  next(0);
}

/* ---- which view ---- */

/**
 * The view that agrees with most of what was chosen in the panel and in the bar, the last choice first of all.
 *
 * @param {PanelData} panel
 * @param {State} state
 * @returns {View}
 */
function chosenView(panel, state) {
  const passes = state.pass === "forward" ? ["forward"] : ["forward + backward", "training step"];
  const own = choices.get(panel.id) ?? {};
  const score = (/** @type {View} */ { facets }) => {
    let sum = 0;
    for (const [name, value] of Object.entries(facets)) {
      if (own[name] === value) sum += name === own["last chosen"] ? 1000 : 100;
      else if (name === "Pass" ? passes.includes(value) : state.facets[name] === value) sum += 1;
    }
    return sum;
  };
  return panel.views.reduce((best, view) => (score(view) > score(best) ? view : best));
}

/**
 * @param {Element} container
 * @param {PanelData} panel
 * @param {View} view
 * @param {() => void} again
 */
function controls(container, panel, view, again) {
  const names = [...new Set(panel.views.flatMap(({ facets }) => Object.keys(facets)))];
  const focused = document.activeElement instanceof HTMLSelectElement ? document.activeElement.name : "";
  const lists = names.flatMap((name) => {
    const values = [...new Set(panel.views.flatMap(({ facets }) => facets[name] ?? []))];
    if (values.length < 2) return [];
    const options = values.map((value) => element("option", { selected: view.facets[name] === value }, value));
    const select = element("select", { name: `${panel.id} ${name}` }, ...options);
    select.addEventListener("change", () => {
      choices.set(panel.id, { ...view.facets, [name]: select.value, "last chosen": name });
      again();
    });
    return [element("label", {}, `${name} `, select)];
  });
  const place = /** @type {HTMLElement} */ (container.querySelector(".controls"));
  place.replaceChildren(...lists);
  if (focused) [...place.querySelectorAll("select")].find(({ name }) => name === focused)?.focus();
}

/**
 * @param {Element} container
 * @param {PanelData} panel
 * @param {PageData} data
 * @param {() => void} again
 */
function legend(container, panel, data, again) {
  const place = /** @type {HTMLElement} */ (container.querySelector(".legend"));
  if (place.children.length === 0) {
    const traces = panel.views.flatMap(({ plots }) => plots.flatMap((plot) => /** @type {Trace[]} */ (plot.data)));
    for (const name of [...new Set(traces.flatMap(({ meta }) => meta.series ?? []))].sort()) {
      const button = element("button", { type: "button", "data-series": name }, swatch(data, name), name);
      button.addEventListener("click", () => {
        if (!hiddenSeries.delete(name)) hiddenSeries.add(name);
        again();
      });
      place.append(button);
    }
  }
  for (const button of place.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(!hiddenSeries.has(button.dataset.series ?? "")));
  }
}

/**
 * @param {PageData} data
 * @param {string} series
 */
function swatch(data, series) {
  const style = data.styles[series];
  if (!style) return null;
  return svg(
    "svg",
    { width: 26, height: 14, "aria-hidden": "true" },
    svg("path", { d: "M0 7h26", fill: "none", stroke: style.color, "stroke-width": 2, "stroke-dasharray": DASHES[style.dash] }),
    svg("path", { d: GLYPHS[style.marker] ?? GLYPHS.circle, fill: style.color }),
  );
}

/* ---- plots ---- */

/**
 * @param {Trace} trace
 * @param {boolean[]} keep
 * @returns {Trace}
 */
function pickPoints(trace, keep) {
  const pick = (/** @type {any} */ values) => (Array.isArray(values) ? values.filter((_, i) => keep[i]) : values);
  const out = { ...trace, x: pick(trace.x), y: pick(trace.y) };
  if (trace.customdata) out.customdata = pick(trace.customdata);
  if (trace.hovertext) out.hovertext = pick(trace.hovertext);
  if (out.marker) out.marker = { ...out.marker, symbol: pick(out.marker.symbol) };
  return out;
}

/**
 * @param {PlotData} plot
 * @returns {{ data: Trace[]; length: number | null }}
 */
function visibleTraces(plot) {
  const traces = /** @type {Trace[]} */ (plot.data);
  const data = traces.filter(({ meta, x }) => !hiddenSeries.has(meta.series ?? "") && x.length > 0);
  const front = /** @type {Layout} */ (plot.layout).meta?.front;
  return front ? withParetoFront(data, front) : { data, length: null };
}

/**
 * The axes of a plot that shows one length, whose ticks are those of its points.
 *
 * @param {PlotData} plot
 * @param {number | null} length
 */
const axesAt = (plot, length) => /** @type {Layout} */ (plot.layout).meta?.axes?.[String(length)] ?? {};

/**
 * The points of one length, the longest with at least two points, and the line through those that no other point beats.
 *
 * @param {Trace[]} data
 * @param {"lower" | "higher"} better
 * @returns {{ data: Trace[]; length: number | null }}
 */
function withParetoFront(data, better) {
  /** @type {Map<number, number>} */
  const count = new Map();
  for (const trace of data) for (const n of trace.customdata ?? []) count.set(n, (count.get(n) ?? 0) + 1);
  const several = [...count.keys()].filter((n) => (count.get(n) ?? 0) > 1);
  const length = Math.max(...(several.length ? several : count.keys()));
  const traces = data
    .map((trace) => pickPoints(trace, (trace.customdata ?? []).map((n) => n === length)))
    .filter((trace) => trace.x.length > 0);
  const sign = better === "lower" ? 1 : -1;
  const points = traces.flatMap(({ x, y }) => x.map((value, i) => ({ x: Number(value), y: Number(y[i]) })));
  points.sort((a, b) => a.x - b.x || sign * (a.y - b.y));
  const front = points.filter((point, i) => points.slice(0, i).every((other) => sign * point.y < sign * other.y));
  /** @type {Trace} */
  const line = {
    type: "scatter", mode: "lines", x: front.map((p) => p.x), y: front.map((p) => p.y), meta: { series: null },
    line: { color: "#8a8f98", dash: "dot", width: 1.5 }, hoverinfo: "skip",
  };
  /* only the front is named, because the names of all points would lie on one another */
  const named = traces.map((trace) => {
    const text = trace.x.map((x, i) => (front.some((p) => p.x === Number(x) && p.y === Number(trace.y[i])) ? shortened(trace.name ?? "") : ""));
    return { ...trace, mode: "markers+text", text, textposition: "top center", cliponaxis: false };
  });
  return { data: traces.length ? [line, ...named] : [], length };
}

/**
 * @param {object} layout
 * @returns {Layout}
 */
function themed(layout) {
  const css = getComputedStyle(document.documentElement);
  const [ink, soft, line, card] = ["--ink", "--soft", "--line", "--card"].map((name) => css.getPropertyValue(name).trim());
  const out = /** @type {Layout} */ (structuredClone(layout));
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, automargin: true };
  for (const name of Object.keys(out).filter((key) => /^[xy]axis/.test(key))) Object.assign(out[name], axis);
  for (const note of out.annotations ?? []) note.font = { color: soft, size: 12 };
  out.paper_bgcolor = out.plot_bgcolor = "rgba(0,0,0,0)";
  out.font = { family: "system-ui, sans-serif", size: 12.5, color: ink };
  out.hoverlabel = { bgcolor: card, bordercolor: line, font: { color: ink, size: 13 }, align: "left" };
  out.margin = { l: 10, r: 14, t: 18, b: 10, ...out.margin };
  out.height ??= 340;
  return out;
}

/** More characters of a name than these leave too little of a plot; hovering and the table say all of it. */
const MOST_CHARACTERS = 28;

/** @param {string} name */
function shortened(name) {
  const characters = Array.from(name);
  if (characters.length <= MOST_CHARACTERS) return name;
  return isolatedPart(`${characters.slice(0, MOST_CHARACTERS - 1).join("")}…`);
}

/**
 * The names on an axis of names, shortened.
 *
 * @param {Layout} layout
 * @param {Trace[]} data
 */
function shortenCategories(layout, data) {
  for (const letter of /** @type {const} */ (["x", "y"])) {
    const names = [...new Set(data.flatMap((trace) => trace[letter]).filter((value) => typeof value === "string"))];
    if (names.every((name) => shortened(name) === name)) continue;
    layout[`${letter}axis`] = { ...layout[`${letter}axis`], tickmode: "array", tickvals: names, ticktext: names.map(shortened) };
  }
}

function figure() {
  const made = element(
    "figure",
    {},
    element("figcaption", {}, element("span")),
    element("div", { class: "plot", role: "img" }),
    element("p", { class: "remarks" }),
    element(
      "details",
      { class: "points" },
      element("summary", {}, "Show the points as a table"),
      element("div", { class: "scroll", tabindex: 0, role: "group" }),
    ),
  );
  made.querySelector("details")?.addEventListener("toggle", () => fillTable(made));
  return made;
}

/**
 * @template {Element} E
 * @param {Element} figure_
 * @param {string} selector
 * @returns {E}
 */
const part = (figure_, selector) => /** @type {E} */ (figure_.querySelector(selector));

/**
 * @param {Element} figure_
 * @param {PlotData} plot
 */
function drawPlot(figure_, plot) {
  /** @type {PlotElement} */
  const target = part(figure_, ".plot");
  const { data, length } = visibleTraces(plot);
  const title = plot.title + (length !== null && length > 0 ? `, ${length.toLocaleString("en")} tokens` : "");
  setWords(part(figure_, "figcaption span"), title);
  setWords(part(figure_, ".remarks"), plot.remarks.join(" "));
  const drawn = data.filter(({ meta }) => meta.series !== null);
  target.setAttribute("aria-label", `${title}. ${drawn.length ? "The table below lists the points." : plot.empty}`);
  /** @type {HTMLElement} */ (part(figure_, "details")).hidden = drawn.length === 0;
  target.classList.toggle("empty", drawn.length === 0);
  if (drawn.length === 0) {
    if (target.data) Plotly.purge(target);
    setWords(target, plot.data.length ? "Every attention of this plot is switched off." : plot.empty);
    return;
  }
  if (!target.data) target.textContent = "";
  const layout = themed({ ...plot.layout, ...axesAt(plot, length) });
  shortenCategories(layout, data);
  if (isPrinting()) layout.width = target.clientWidth;
  if (drawn.every(({ yaxis }) => yaxis === "y2")) {
    const note = { text: plot.empty, x: 0.5, y: 0.4, xref: "paper", yref: "paper", showarrow: false };
    layout.annotations = [note];
  }
  void Plotly.react(target, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  fillTable(figure_);
}

/**
 * The points as a table, for readers who cannot see the plot or use a pointer.
 *
 * @param {Element} figure_
 */
function fillTable(figure_) {
  /** @type {HTMLDetailsElement} */
  const details = part(figure_, "details");
  if (!details.open) return;
  const head = ["Attention", "Length", "Point"].map((name) => element("th", { scope: "col" }, name));
  /** @type {PlotElement} */
  const target = part(figure_, ".plot");
  const rows = (target.data ?? []).flatMap(({ hovertext, customdata, meta }) => {
    if (!Array.isArray(hovertext) || !customdata) return [];
    return hovertext.map((words, i) => {
      const cells = [meta.series, (customdata[i] ?? 0).toLocaleString("en"), plain(words)];
      return element("tr", {}, ...cells.map((words_) => element("td", {}, words_)));
    });
  });
  const scroller = part(details, "div");
  scroller.setAttribute("aria-label", part(figure_, "figcaption span").textContent ?? "");
  scroller.replaceChildren(
    element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)),
  );
}

/**
 * The text of plotly's hover text, which has a few tags and entities.
 *
 * @param {string} words
 */
function plain(words) {
  const lines = words.replace(/<br>/g, "; ").replace(/<\/?b>/g, "");
  return lines.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");
}
