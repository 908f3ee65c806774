/**
 * Error against time at the chosen setting, both logarithmic: one curve a method over its budget, exact methods and
 * those without a measured error in strips beneath on the same time axis, so that every timed method is in the picture.
 *
 * It is drawn as SVG by hand and not with plotly, whose labels do not avoid one another, whose points cannot have the
 * keyboard's focus, and which has no strips that share an axis with a plane.
 */

import { drawAllowed, drawErrorAxis, drawExactLine, drawTimeAxis, exactHeading } from "report/chart_axes";
import { listen, markOf } from "report/chart_interaction";
import { drawCurves, drawPoints } from "report/chart_points";
import { drawStrip, HEADING } from "report/chart_strip";
import { drawZone, drawZoneWords, zoneFinding } from "report/chart_zone";
import { byId, element, svg } from "report/dom";
import { logAxis, logTicks, tickWords } from "report/log_axis";
import { shortError } from "report/method_words";
import { currentSetting, errorOf, fastestExact, hasTime, methods } from "report/selection";
import { textWidth } from "report/text_width";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/chart_frame").Frame} Frame */
/** @typedef {import("report/chart_frame").Tick} Tick */

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const container = byId("chart");
  container.hidden = data.operation === null;
  if (data.operation === null) return;
  const focused = container.contains(document.activeElement) ? document.activeElement?.getAttribute("data-key") : null;
  const setting = currentSetting(data, state);
  const rows = setting?.rows ?? [];
  const place = data.operation.lengths.find(({ value }) => value === state.length)?.words ?? String(state.length);
  const heading = element("h2", {}, `Error against time at ${place} tokens, ${state.pass}`);
  if (setting === null || rows.length === 0) {
    const words = hasTime(data)
      ? "No attention was timed here. Choose another length, pass or device in the bar."
      : "No attention has a time in this run: the reasons are below.";
    container.replaceChildren(heading, element("p", { class: "sub" }, words));
    return;
  }
  const figure = element("div", { class: "plane" });
  const explained = element(
    "p",
    { class: "sub" },
    state.pass === "forward" ? "Relative error of the output" : "Worst relative error of output and gradients",
    ", against what a method computes or estimates. Down and left is better. ",
    element("span", { class: "on-screen" }, "Click or Enter isolates, Escape releases, arrows step."),
  );
  container.replaceChildren(heading, explained, figure);
  const notes = drawPlane(figure, setting, rows, state);
  const known = data.operation.lengths.filter(({ hasErrors }) => hasErrors).map(({ words }) => words);
  if (!known.includes(place) && known.length > 0) notes.push(`Estimates have errors at ${known.join(", ")} tokens.`);
  if (notes.length > 0) container.append(element("p", { class: "foot" }, notes.join(" ")));
  listen(figure);
  if (focused) markOf(figure, focused)?.focus({ preventScroll: true });
}

/**
 * @param {HTMLElement} figure
 * @param {Setting} setting
 * @param {MethodRow[]} rows
 * @param {State} state
 * @returns {string[]} What the drawing does not say.
 */
function drawPlane(figure, setting, rows, state) {
  const chosen = new Set(methods(setting, state));
  const exact = fastestExact(setting, state);
  const width = Math.max(figure.clientWidth, 280);
  const narrow = width < 560;
  const plane = rows.filter((row) => isInPlane(row, state));
  const errors = plane.flatMap((row) => {
    const worst = errorOf(row, state)?.worst;
    return worst ? [worst.value, worst.low ?? worst.value, worst.high ?? worst.value] : [];
  });
  const right = width - 10;
  const top = narrow ? 36 : 22;
  const height = plane.length === 0 ? 4 : narrow ? 230 : width > 1500 ? 270 : 198;
  const bottom = top + height;
  const error = logAxis([...errors, ...roomForZone(errors, state, height, narrow)], bottom - 8, top + (narrow ? 26 : 16), 1.12);
  const errorTicks = logTicks(error, Math.floor((bottom - top) / 30));
  const left = Math.max(46, ...errorTicks.map((value) => textWidth(tickWords(value, "fraction"), 12) + 10));
  /** @type {Frame} */
  const frame = {
    width,
    narrow,
    left,
    right,
    top,
    bottom,
    time: logAxis(
      rows.flatMap(({ time }) => [time.value, time.low ?? time.value, time.high ?? time.value]),
      left + 8,
      right - 8,
      1.12,
    ),
    error,
    errorTicks,
    back: [],
    marks: [],
    labels: [],
    taken: [],
    avoided: [],
  };
  const ticks = (/** @type {MethodRow[]} */ which) =>
    which.map((row) => ({
      row,
      error: errorOf(row, state),
      x: frame.time.place(row.time.value),
      chosen: chosen.has(row),
    }));
  const points = ticks(plane).flatMap((tick) => {
    return tick.error === null ? [] : [{ ...tick, error: tick.error, y: frame.error.place(tick.error.worst.value) }];
  });
  const inExact = ticks(rows.filter((row) => !plane.includes(row) && isExactStrip(row, state)));
  const unmeasured = ticks(rows.filter((row) => !plane.includes(row) && !isExactStrip(row, state)));

  const finding = zoneFinding(setting, state);
  const zone = drawZone(frame, exact, state, points.length > 0);
  if (points.length > 0) drawErrorAxis(frame);
  const strips = [
    { heading: "exact or rounding", ticks: inExact },
    { heading: "error not measured", ticks: unmeasured },
  ].filter(({ ticks }) => ticks.length > 0);
  let y = bottom + 8;
  let unlabelled = 0;
  for (const strip of strips) {
    const drawn = drawStrip(frame, strip.heading, strip.ticks, y, state, exact);
    y = drawn.bottom + 8;
    unlabelled += drawn.unlabelled;
  }
  drawTimeAxis(frame, y - 2, points.length > 0);
  if (points.length > 0 && state.allowed !== null) drawAllowed(frame, state.allowed, exact);
  if (exact) drawExactLine(frame, exact, state, inExact.length > 0 ? bottom + 8 + HEADING : bottom);
  const said = points.length > 0 ? drawZoneWords(frame, zone, points, finding) : false;
  drawCurves(frame, points, state);
  unlabelled += drawPoints(frame, points, state);

  const marks = frame.marks.sort(
    (one, other) => Number(one.getAttribute("data-order")) - Number(other.getAttribute("data-order")),
  );
  for (const [index, mark] of marks.entries()) mark.setAttribute("tabindex", index === 0 ? "0" : "-1");
  const summary = [
    "Error against time.",
    exactWords(exact, state),
    finding.full,
    `${counted(points.length, "mark")} with a measured error, ${inExact.length} exact or exact but for rounding,`,
    `${unmeasured.length} without a measured error.`,
  ].join(" ");
  const tall = y + 34;
  figure.replaceChildren(
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${tall}`, height: tall, class: state.isolated ? "isolating" : null },
      svg("g", { role: "img", "aria-label": summary }, ...frame.back),
      svg("g", { role: "group", "aria-label": "Methods in the order of the picture" }, ...marks),
      svg("g", { "aria-hidden": "true", class: "labels" }, ...frame.labels),
    ),
  );
  const notes = [];
  if (points.length === 0) {
    const on = state.inputs ? ` on ${state.inputs} inputs` : "";
    const zero = rows.some((row) => errorOf(row, state)?.rounding === false);
    notes.push(zero ? `Every measured error of an estimate is 0 here${on}.` : `No error of an estimate was measured here${on}.`);
  }
  if (!said) notes.push(finding.full);
  if (rows.length > chosen.size && points.some(({ row }) => row.budget !== null)) {
    notes.push("Large marks are the choices of the ranking, small ones other budgets of the same method.");
  }
  if (unlabelled > 0) notes.push(`${counted(unlabelled, "mark")} without a label: point at it, or see the ranking.`);
  return notes;
}

/**
 * The allowed error, and one below it that leaves the words of the zone beneath it their height.
 *
 * @param {number[]} errors
 * @param {State} state
 * @param {number} height
 * @param {boolean} narrow
 */
function roomForZone(errors, state, height, narrow) {
  const { allowed } = state;
  if (allowed === null) return [];
  const most = Math.max(allowed * 4, ...errors);
  return [allowed, allowed / (most / allowed) ** ((narrow ? 48 : 38) / (height - (narrow ? 80 : 54)))];
}

/**
 * @param {MethodRow} row
 * @param {State} state
 */
function isInPlane(row, state) {
  const error = errorOf(row, state);
  return error !== null && !error.rounding && error.worst.value > 0;
}

/**
 * @param {MethodRow} row
 * @param {State} state
 */
function isExactStrip(row, state) {
  return row.exactSoftmax || errorOf(row, state) !== null;
}

/**
 * @param {MethodRow | null} exact
 * @param {State} state
 */
function exactWords(exact, state) {
  if (exact === null) return "";
  const error = errorOf(exact, state);
  const known = error ? `error: ${shortError(error)}` : "error not measured";
  const heading = exactHeading(exact);
  return `${heading.charAt(0).toUpperCase()}${heading.slice(1)}: ${exact.attention}, ${exact.time.words}, ${known}.`;
}

/**
 * @param {number} count
 * @param {string} noun
 */
function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
