/** Whole models: a bar for each attention and length, split into the attention and the rest of the model. */

import { colourOf, inkOf } from "report/colours";
import { byId, element, svg } from "report/dom";
import { choice, fitting } from "report/part_choice";
import { clipped, textWidth } from "report/text_width";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").WholeModel} WholeModel */
/** @typedef {WholeModel["lengths"][number]} Times */
/** @typedef {Times["rows"][number]} Row */
/** @typedef {import("report/state").State} State */

const SIZE = 12;
const ROW = 17;
const BAR = 12;
const HEADING = 24;
const GAP = 14;
/** The least width of the longest bar of a column, without its words. */
const LEAST = 36;
/** Stands after a time of which what the attention adds is within noise. */
const NOISE = "*";
/** The least width of the drawing. */
const LEAST_WIDTH = 240;

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const place = byId("models");
  place.replaceChildren();
  const passes = state.pass === "forward" ? ["forward"] : ["training step", "forward + backward"];
  const all = fitting(data.wholeModels, state);
  const ofPass = all.filter((model) => passes.includes(model.pass));
  const models = ofPass.length > 0 ? ofPass : all;
  place.hidden = models.length === 0;
  if (models.length === 0) return;
  const onePass = models.every(({ pass }) => pass === models[0]?.pass);
  const words = (/** @type {WholeModel} */ { facets, pass }) => (onePass ? facets.Model ?? "" : `${facets.Model}, ${pass}`);
  const { part: model, list } = choice("Model", models, words, () => draw(data, state));
  const drawing = element("div", { class: "drawing" });
  place.append(
    element("div", { class: "heading-row" }, element("h2", {}, model.heading), list),
    element("p", { class: "sub" }, model.finding.words),
    drawing,
  );
  /* after everything has been drawn, because an empty neighbour leaves its width to this panel */
  queueMicrotask(() => {
    if (drawing.isConnected) drawing.append(bars(model, Math.max(LEAST_WIDTH, drawing.clientWidth)));
  });
  const cells = model.lengths.flatMap(({ rows }) => rows);
  const about = [
    model.lengths.some(({ base }) => base) ? "Grey: without attention; colour: what it adds." : "",
    cells.some(({ withinNoise }) => withinNoise) ? `${NOISE} within noise.` : "",
    "One scale a length.",
    model.facets.Shape ? `${capitalized(model.facets.Shape)}.` : "",
  ];
  place.append(element("p", { class: "foot" }, about.filter(Boolean).join(" ")));
}

/** @param {string} words */
const capitalized = (words) => words.charAt(0).toUpperCase() + words.slice(1);

/**
 * Every series, by its time at the longest length that has most of them.
 *
 * @param {WholeModel} model
 */
function seriesInOrder(model) {
  const most = Math.max(...model.lengths.map(({ rows }) => rows.length));
  const leading = model.lengths.filter(({ rows }) => rows.length === most).reverse();
  const rows = [...leading, ...[...model.lengths].reverse()].flatMap((times) => times.rows);
  return [...new Map(rows.map((row) => [row.series, row])).values()].map((row) => row.series).filter(unique);
}

/**
 * @param {string} value
 * @param {number} i
 * @param {string[]} values
 */
const unique = (value, i, values) => values.indexOf(value) === i;

/** @param {Row} row */
function note(row) {
  if (row.disturbance) return " disturbed";
  return row.withinNoise ? NOISE : "";
}

/**
 * @param {WholeModel} model
 * @param {number} width
 */
function bars(model, width) {
  const series = seriesInOrder(model);
  const names = series.map((name) => clipped(name, width * 0.3, SIZE, 600));
  const nameWidth = Math.max(...names.map((name) => textWidth(name, SIZE, 600))) + 12;
  const words = Math.max(
    ...model.lengths.flatMap(({ rows }) => rows.map((row) => textWidth(row.time.words + note(row), SIZE))),
  );
  const columns = Math.max(1, Math.min(model.lengths.length, Math.floor((width - nameWidth + GAP) / (LEAST + words + GAP))));
  const column = (width - nameWidth + GAP) / columns;
  const longest = column - GAP - words - 6;
  const blocks = [];
  for (let i = 0; i < model.lengths.length; i += columns) blocks.push(model.lengths.slice(i, i + columns));
  let y = 0;
  /** @type {SVGElement[]} */
  const parts = [];
  for (const block of blocks) {
    const shown = series.filter((name) => block.some(({ rows }) => rows.some((row) => row.series === name)));
    const attention = new Map(block.flatMap(({ rows }) => rows.map((row) => [row.series, row.attention])));
    const top = y + HEADING;
    parts.push(text(0, y + 13, "tokens", { class: "soft" }));
    shown.forEach((name, i) => {
      const ink = inkOf(attention.get(name) ?? name);
      const shown = names[series.indexOf(name)] ?? name;
      /** @type {Record<string, string>} */
      const full = shown === name ? {} : { "data-tip": name, role: "img", "aria-label": name };
      parts.push(text(0, top + ROW * i + BAR - 2, shown, { "font-weight": 600, style: `fill: ${ink}`, ...full }));
    });
    block.forEach((times, nth) => parts.push(...drawLength(times, shown, nameWidth + column * nth, y, longest)));
    y = top + ROW * shown.length + 10;
  }
  const label = `${model.heading}: the time of each model, split into attention and the rest`;
  return svg("svg", { width, height: y, viewBox: `0 0 ${width} ${y}`, role: "group", "aria-label": label }, ...parts);
}

/**
 * The bars of one length.
 *
 * @param {Times} times
 * @param {string[]} series
 * @param {number} x
 * @param {number} y
 * @param {number} longest  the width of the longest bar
 */
function drawLength(times, series, x, y, longest) {
  const scale = longest / Math.max(...times.rows.map(({ time }) => time.value));
  /** @type {SVGElement[]} */
  const parts = [
    svg(
      "text",
      { x, y: y + 13, "font-size": SIZE },
      svg("tspan", { "font-weight": 600 }, times.length.words),
      times.base ? null : svg("tspan", { class: "soft" }, " not split"),
    ),
  ];
  for (const row of times.rows) {
    const top = y + HEADING + ROW * series.indexOf(row.series);
    const [whole, attention] = [row.time.value * scale, (row.share?.value ?? 0) * row.time.value * scale];
    const outlined = !row.share && !row.withinNoise;
    const about = tip(row, times);
    parts.push(
      svg(
        "g",
        { class: "mark", tabindex: 0, role: "img", "aria-label": about, "data-tip": about },
        svg("rect", { x, y: top - 2, width: longest, height: ROW, fill: "transparent" }),
        svg("rect", {
          x, y: top, width: Math.max(1, whole - attention), height: BAR, rx: 2, fill: "var(--rest)",
          "fill-opacity": outlined ? 0.16 : 0.38, stroke: outlined ? "var(--rest)" : null,
        }),
        row.share &&
          svg("rect", { x: x + whole - attention, y: top, width: Math.max(1.5, attention), height: BAR, rx: 2, fill: colourOf(row.attention) }),
        svg(
          "text",
          { x: x + whole + 5, y: top + BAR - 2, "font-size": SIZE },
          row.time.words,
          note(row) ? svg("tspan", { class: row.disturbance ? "bad" : "soft" }, note(row)) : null,
        ),
      ),
    );
  }
  return parts;
}

/**
 * @param {Row} row
 * @param {Times} times
 */
function tip(row, times) {
  const split = row.share
    ? `attention takes ${row.share.words} ${row.share.interval || "(timed only once)"} of it`
    : row.withinNoise
      ? "what the attention adds is within noise"
      : "not split";
  const parts = [
    `${row.series}, ${times.length.words} tokens: ${row.time.words} ${row.time.interval}`,
    split,
    row.disturbance ? `disturbed: ${row.disturbance}` : "",
    row.memory ? `peak ${row.memory.words}` : "",
    "error inside the model not measured",
  ];
  return parts.filter(Boolean).join("; ");
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} words
 * @param {Record<string, string | number>} attributes
 */
const text = (x, y, words, attributes) => svg("text", { x, y, "font-size": SIZE, ...attributes }, words);
