/** The small plot of one panel: lines over the length on axes that all panels share. */

import { svg } from "report/dom";
import { logAxis, logTicks, tickWords } from "report/log_axis";

/** @typedef {import("report/page_data").SeriesLine} SeriesLine */
/** @typedef {import("report/page_data").Amount} Amount */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/log_axis").LogAxis} LogAxis */
/** @typedef {SeriesLine["points"][number]} LinePoint */

/**
 * @typedef {object} Axes
 * @property {number} width Of every plot, in pixels.
 * @property {LogAxis} length
 * @property {LogAxis} amount
 * @property {LinePoint[]} lengthTicks
 * @property {number[]} amountTicks
 */

const HEIGHT = 34;
/** The space beneath the first panel's plot for the ticks of the length. */
const TICKS = 14;

/**
 * @param {SeriesLine[]} lines
 * @param {State} state
 * @param {number} width Of a panel, so that its text is as large as that of the page.
 * @returns {Axes}
 */
export function axesOf(lines, state, width) {
  const points = lines.flatMap((line) => line.points);
  const amounts = points.flatMap((point) => amountOf(point, state)?.value ?? []);
  const amount = logAxis(amounts, HEIGHT - 2, 2, 1.1);
  const ticks = logTicks(amount, 3, state.measure === "time" ? "decimal" : "binary");
  const length = logAxis(
    points.map((point) => point.length),
    3,
    width - 3,
  );
  const byLength = new Map(points.map((point) => [point.length, point]));
  const sorted = [...byLength.values()].sort((one, other) => one.length - other.length);
  return {
    width,
    length,
    amount,
    lengthTicks: [...sorted.slice(0, 1), ...sorted.slice(-1)],
    amountTicks: [...ticks.slice(0, 1), ...ticks.slice(-1)],
  };
}

/**
 * @param {LinePoint} point
 * @param {State} state
 * @returns {Amount | null}
 */
export function amountOf(point, state) {
  return state.measure === "time" ? point.time : point.memory;
}

/**
 * @param {SeriesLine} line
 * @param {Axes} axes
 * @param {State} state
 */
export function places(line, axes, state) {
  return line.points.flatMap((point) => {
    const amount = amountOf(point, state);
    return amount === null ? [] : [{ x: axes.length.place(point.length), y: axes.amount.place(amount.value) }];
  });
}

/** @param {{ x: number, y: number }[]} points */
export function pathOf(points) {
  return points.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/**
 * @param {Axes} axes
 * @returns {SVGElement[]}
 */
export function gridLines({ width, length, amount, lengthTicks, amountTicks }) {
  const rows = amountTicks.map((value) => {
    return svg("line", { class: "grid", x1: 0, x2: width, y1: amount.place(value), y2: amount.place(value) });
  });
  const columns = lengthTicks.map((point) => {
    return svg("line", {
      class: "grid",
      x1: length.place(point.length),
      x2: length.place(point.length),
      y1: 0,
      y2: HEIGHT,
    });
  });
  return [...rows, ...columns];
}

/**
 * @param {SVGElement[]} parts
 * @param {Axes} axes
 * @param {boolean} withTicks Whether it has room for the ticks of the length.
 */
export function plot(parts, { width }, withTicks = false) {
  const height = withTicks ? HEIGHT + TICKS : HEIGHT;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...parts);
}

/**
 * @param {Axes} axes
 * @param {State} state
 * @returns {SVGElement[]}
 */
export function tickLabels({ width, length, amount, lengthTicks, amountTicks }, state) {
  const unit = state.measure === "time" ? "s" : "B";
  return [
    ...amountTicks.map((value) => {
      const y = amount.place(value);
      // lines rise to the right, which leaves the upper left and the lower right corner free
      const side = y < HEIGHT / 2 ? { x: 6, y: y + 10 } : { x: width - 6, y: y - 2, "text-anchor": "end" };
      return svg("text", { class: "tick amount halo", ...side }, tickWords(value, unit));
    }),
    ...lengthTicks.map((point, index) => {
      const anchor = index === 0 ? "start" : "end";
      return svg(
        "text",
        { class: "tick length", x: length.place(point.length), y: HEIGHT + 11, "text-anchor": anchor },
        point.lengthWords,
      );
    }),
  ];
}

/**
 * The pixel of a line at a place between its points.
 *
 * @param {{ x: number, y: number }[]} points
 * @param {number} x
 */
export function heightAt(points, x) {
  const before = points.findLast((point) => point.x <= x);
  const after = points.find((point) => point.x > x);
  if (!before || !after) return (before ?? after)?.y ?? 0;
  return before.y + ((after.y - before.y) * (x - before.x)) / (after.x - before.x);
}
