/**
 * Time or memory over the length: one small panel a method beside the reference in grey, all on one pair of logarithmic
 * axes.
 *
 * The first panel is the reference itself with the ticks of both axes; the others have its grid. Each has the method's
 * error at the chosen setting beside its words of comparison.
 */

import { colourOf, inkOf, isColoured } from "report/colours";
import { byId, element, svg } from "report/dom";
import { amountOf, axesOf, gridLines, heightAt, pathOf, places, plot, tickLabels } from "report/multiple_plot";
import { currentSetting, errorOf, isChosen, methods } from "report/selection";
import { change } from "report/state";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").SeriesLine} SeriesLine */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/multiple_plot").Axes} Axes */

/** @typedef {{ line: SeriesLine, row: MethodRow | null }} Panel */
/** More panels than these are drawn on request, so that a page of many methods stays quick. */
const FIRST_PANELS = 24;
/** Fewer rows of panels would say too little, however short the ranking beside them is. */
const LEAST_ROWS = 4;
/** How much longer than the ranking the panels may be, in pixels: too little to be worth a button. */
const OVERHANG = 8;

let all = false;

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const container = byId("multiples");
  const focused = container.contains(document.activeElement) ? document.activeElement?.getAttribute("data-key") : null;
  const lines = (data.operation?.lines ?? []).filter((line) => {
    return line.pass === state.pass && isChosen(line.facets, state);
  });
  container.hidden = lines.length === 0;
  if (lines.length === 0) return;
  const setting = currentSetting(data, state);
  const rows = setting ? methods(setting, state) : [];
  const referenceName = setting?.reference ?? data.operation?.settings.find(({ reference }) => reference)?.reference;
  const reference = lines.find(({ series }) => series === referenceName) ?? null;
  const lengths = new Map(lines.flatMap(({ points }) => points.map((point) => [point.length, point.lengthWords])));
  const time = state.measure === "time";
  const heading = element(
    "div",
    { class: "heading" },
    element("h2", {}, `${time ? "Time" : "Memory"} over length`),
    toggle(state),
  );
  container.replaceChildren(heading);
  if (lengths.size < 2) {
    const only = [...lengths.values()].join("");
    const words = `Only ${only} tokens have a time: there is nothing to compare over the length.`;
    container.append(element("p", { class: "sub" }, words));
    return;
  }
  const here = data.operation?.lengths.find(({ value }) => value === state.length)?.words ?? "";
  const sorted = byTimeAt(onePerAttention(lines, rows), state.length).filter(({ line }) => line !== reference);
  container.append(element("p", { class: "sub" }, explanation(sorted, reference, lengths, here, state)));
  const probe = element("div");
  const grid = element("div", { class: "multiples" }, probe);
  container.append(grid);
  const axes = axesOf(lines, state, Math.max(probe.clientWidth, 80));
  probe.remove();
  if (reference) grid.append(referencePanel(reference, axes, rows, state));
  else grid.append(scalePanel(axes, state));
  for (const panel of all ? sorted : sorted.slice(0, FIRST_PANELS))
    grid.append(methodPanel(panel, reference, axes, state));
  if (!all) shorten(container, grid);
  const left = sorted.length + 1 - grid.childElementCount;
  if (left > 0) {
    const more = element("button", { type: "button", class: "more" }, `Draw the other ${left}`);
    more.addEventListener("click", () => {
      all = true;
      draw(data, state);
    });
    container.append(more);
  }
  if (focused) {
    /** @type {HTMLElement | null} */ (container.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus({
      preventScroll: true,
    });
  }
}

/**
 * Take away the rows of panels that make the page longer than the ranking beside them does, or, where it is not beside
 * them, than a phone's window; they are drawn on request.
 *
 * @param {HTMLElement} container
 * @param {HTMLElement} grid
 */
function shorten(container, grid) {
  const ranking = byId("ranking");
  const beside = container.offsetTop < ranking.offsetTop + ranking.offsetHeight && ranking.offsetHeight > 0;
  const besideEnd = ranking.lastElementChild?.getBoundingClientRect().bottom ?? 0;
  const limit = beside ? besideEnd : container.getBoundingClientRect().top + 760;
  const panels = [...grid.children].map((panel) => ({ panel, box: panel.getBoundingClientRect() }));
  const tops = [...new Set(panels.map(({ box }) => box.top))].sort((one, other) => one - other);
  const firstTooLow = panels.find(({ box }) => box.bottom > limit + OVERHANG);
  const end = Math.max(firstTooLow?.box.top ?? Infinity, tops[LEAST_ROWS] ?? Infinity);
  for (const { panel, box } of panels) if (box.top >= end) panel.remove();
}

/** @param {State} state */
function toggle(state) {
  const buttons = /** @type {const} */ (["time", "memory"]).map((measure) => {
    const pressed = String(state.measure === measure);
    const button = element(
      "button",
      { type: "button", "aria-pressed": pressed, "data-key": `measure ${measure}` },
      measure,
    );
    button.addEventListener("click", () => change({ measure }));
    return button;
  });
  return element("div", { class: "choice", role: "group", "aria-label": "What the panels show" }, ...buttons);
}

/**
 * The line of each attention whose knobs the ranking chose; where it has none of that choice, its first.
 *
 * @param {SeriesLine[]} lines
 * @param {MethodRow[]} rows
 * @returns {Panel[]}
 */
function onePerAttention(lines, rows) {
  const chosen = new Map(rows.map((row) => [row.attention, row]));
  /** @type {Map<string, Panel>} */
  const panels = new Map();
  for (const line of lines) {
    const row = chosen.get(line.attention) ?? null;
    const isChosenLine = row !== null && row.series === line.series;
    if (isChosenLine || !panels.has(line.attention))
      panels.set(line.attention, { line, row: isChosenLine ? row : null });
  }
  return [...panels.values()];
}

/**
 * The fastest at the chosen length first; those without a time there last.
 *
 * @param {Panel[]} panels
 * @param {number} length
 */
function byTimeAt(panels, length) {
  const at = (/** @type {Panel} */ { line }) =>
    line.points.find((point) => point.length === length)?.time.value ?? Infinity;
  return panels.sort((one, other) => {
    const [a, b] = [at(one), at(other)];
    return a === b ? 0 : a - b;
  });
}

/**
 * @param {Panel[]} panels
 * @param {SeriesLine | null} reference
 * @param {Map<number, string>} lengths
 * @param {string} here the chosen length, at which nothing may have been timed
 * @param {State} state
 */
function explanation(panels, reference, lengths, here, state) {
  const ends = [Math.min(...lengths.keys()), Math.max(...lengths.keys())].map((length) => lengths.get(length));
  const against = reference ? `Each against ${reference.series} (grey), ` : "";
  const where = `${against}${ends.join(" to ")} tokens, both axes log and shared. Errors are those at ${here} tokens.`;
  const crossings = panels.filter(({ line }) => line.crossing !== null).length;
  if (state.measure !== "time" || reference === null) return where;
  const certain = `in ${crossings} of ${panels.length} where that is at least 95% certain`;
  return `${where} Ring: where it crosses the reference, ${certain}.`;
}

/**
 * @param {SeriesLine} reference
 * @param {Axes} axes
 * @param {MethodRow[]} rows
 * @param {State} state
 */
function referencePanel(reference, axes, rows, state) {
  const row = rows.find(({ series }) => series === reference.series) ?? null;
  const parts = [
    ...gridLines(axes),
    svg("path", { class: "reference", d: pathOf(places(reference, axes, state)) }),
    ...tickLabels(axes, state),
  ];
  const panel = { line: reference, row };
  const button = panelButton(panel, "the reference", tipOf(panel, null, state), plot(parts, axes, true), state);
  // every panel is read against it, whatever is isolated
  button.classList.remove("away");
  return button;
}

/**
 * The ticks of both axes, where no reference has a panel that could show them.
 *
 * @param {Axes} axes
 * @param {State} state
 */
function scalePanel(axes, state) {
  const parts = [...gridLines(axes), ...tickLabels(axes, state)];
  return element(
    "div",
    { class: "multiple" },
    element("span", { class: "words" }, "scale of all"),
    plot(parts, axes, true),
  );
}

/**
 * @param {Panel} panel
 * @param {SeriesLine | null} reference
 * @param {Axes} axes
 * @param {State} state
 */
function methodPanel(panel, reference, axes, state) {
  const { line } = panel;
  const own = places(line, axes, state);
  const parts = gridLines(axes);
  if (reference) parts.push(svg("path", { class: "reference", d: pathOf(places(reference, axes, state)) }));
  parts.push(svg("path", { class: "own", d: pathOf(own) }));
  // a line needs two points
  const [only, second] = own;
  if (only && !second) parts.push(svg("circle", { class: "single", cx: only.x, cy: only.y, r: 3 }));
  if (state.measure === "time" && line.crossing !== null) {
    const x = axes.length.place(line.crossing.value);
    parts.push(svg("circle", { class: "crossing", cx: x, cy: heightAt(own, x), r: 4 }));
  }
  const words = state.measure === "time" ? line.comparison : memoryWords(line, reference, state);
  return panelButton(panel, words, tipOf(panel, reference, state), plot(parts, axes), state);
}

/**
 * @param {SeriesLine} line
 * @param {SeriesLine | null} reference
 * @param {State} state
 */
function memoryWords(line, reference, state) {
  const at = (/** @type {SeriesLine | null} */ one) =>
    one?.points.find(({ length }) => length === state.length)?.memory?.words;
  const own = at(line);
  const other = at(reference);
  if (own === undefined) return "not measured at this length";
  return other === undefined || reference === null ? own : `${own}, ${reference.series} ${other}`;
}

/**
 * @param {Panel} panel
 * @param {State} state
 */
function errorWords({ row }, state) {
  const error = row === null ? null : errorOf(row, state);
  if (error === null) return "error not measured";
  return error.rounding ? "error: rounding" : `error ${error.worst.words}`;
}

/**
 * @param {Panel} panel
 * @param {SeriesLine | null} reference
 * @param {State} state
 */
function tipOf(panel, reference, state) {
  const { line } = panel;
  const others = new Map(reference?.points.map((point) => [point.length, point]));
  const lines = line.points.map((point) => {
    const amount = amountOf(point, state);
    const other = others.get(point.length);
    const against =
      reference && other ? `, ${reference.series} ${amountOf(other, state)?.words ?? "not measured"}` : "";
    const busy = state.measure === "time" && point.disturbed ? " (disturbed by other processes)" : "";
    const own = amount ? [amount.words, amount.interval].filter(Boolean).join(" ") : "not measured";
    return `${point.lengthWords} tokens: ${own}${busy}${against}`;
  });
  const crossing = line.crossing ? [`crosses at ${line.crossing.words} ${line.crossing.interval}`.trim()] : [];
  return [line.series, `${errorWords(panel, state)} at the chosen length`, ...lines, ...crossing].join("\n");
}

/**
 * @param {Panel} panel
 * @param {string} words
 * @param {string} tip
 * @param {SVGElement} picture
 * @param {State} state
 */
function panelButton(panel, words, tip, picture, state) {
  const { attention, series } = panel.line;
  const error = errorWords(panel, state);
  const away = state.isolated !== null && state.isolated !== attention ? " away" : "";
  const colour = isColoured(attention) ? colourOf(attention) : "var(--ink)";
  const button = element(
    "button",
    {
      type: "button",
      class: `multiple${away}`,
      style: `--series: ${colour}; --series-ink: ${inkOf(attention)}`,
      "aria-pressed": String(state.isolated === attention),
      "data-attention": attention,
      "data-key": `panel ${series}`,
      "data-tip": tip,
    },
    element("bdi", { class: "name" }, attention),
    element("span", { class: "words" }, `${words}; ${error}`),
    picture,
  );
  button.addEventListener("click", () => change({ isolated: state.isolated === attention ? null : attention }));
  return button;
}
