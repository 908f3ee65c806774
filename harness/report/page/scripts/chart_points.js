/** The plane of the chart of error against time: a curve a method over its budget, its points and their labels. */

import { drawnAs, importance, mark } from "report/chart_frame";
import { svg } from "report/dom";
import { alongLine, nearestPoint, placeBeside } from "report/label_placement";
import { methodTip } from "report/method_words";
import { errorOf } from "report/selection";
import { clipped, textWidth } from "report/text_width";

/** @typedef {import("report/state").State} State */
/** @typedef {import("report/chart_frame").Frame} Frame */
/** @typedef {import("report/chart_frame").Point} Point */
/** @typedef {import("report/label_placement").Box} Box */

/** More labels would be a cloud of words; the rest have their names in tips and in the ranking. */
const MOST_LABELS = 40;

/**
 * One line for each method over its budget. Rows that differ in more than the budget are in lines of their own.
 *
 * @param {Frame} frame
 * @param {Point[]} points
 * @param {State} state
 */
export function drawCurves(frame, points, state) {
  for (const curve of curves(points)) {
    const path = curve.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    const attention = curve[0]?.row.attention ?? "";
    frame.back.push(svg("path", { d: path, ...drawnAs("curve", attention, state) }));
  }
}

/** @param {Point[]} points */
function curves(points) {
  /** @type {Map<string, Point[]>} */
  const found = new Map();
  for (const point of points) {
    const { attention, budget, knobs } = point.row;
    if (budget === null) continue;
    const key = JSON.stringify([attention, knobs.filter(([name]) => name !== budget.name)]);
    found.set(key, [...(found.get(key) ?? []), point]);
  }
  const budgetOf = (/** @type {Point} */ { row }) => row.budget?.value ?? 0;
  return [...found.values()]
    .filter((curve) => curve.length > 1)
    .map((curve) => curve.sort((one, other) => budgetOf(one) - budgetOf(other)));
}

/**
 * The points of the plane with their intervals and labels.
 *
 * @param {Frame} frame
 * @param {Point[]} points
 * @param {State} state
 * @returns {number} How many have no label although they are the choices of the ranking.
 */
export function drawPoints(frame, points, state) {
  const { time, error } = frame;
  for (const point of points) {
    const { row, x, y } = point;
    const worst = point.error.worst;
    const size = point.chosen ? 6 : 3.2;
    const parts = [];
    if (point.chosen) {
      const across = {
        x1: time.place(row.time.low ?? row.time.value),
        x2: time.place(row.time.high ?? row.time.value),
      };
      const along = { y1: error.place(worst.low ?? worst.value), y2: error.place(worst.high ?? worst.value) };
      parts.push(
        svg("line", { class: "interval", ...across, y1: y, y2: y }),
        svg("line", { class: "interval", x1: x, x2: x, ...along }),
      );
    }
    parts.push(
      svg("circle", { class: "target", cx: x, cy: y, r: Math.max(size + 2, 9) }),
      svg("circle", { class: "dot", cx: x, cy: y, r: size }),
    );
    frame.marks.push(mark(row, errorOf(row, state), state, x, parts));
  }
  const named = points
    .filter(({ chosen }) => chosen)
    .sort((one, other) => importance(other.row, state) - importance(one.row, state) || one.x - other.x);
  const texts = named.slice(0, MOST_LABELS).map(({ row, error, x, y }) => {
    const most = Math.min(200, frame.width * 0.42);
    const name = clipped(row.attention, most, 13, 600);
    const knob = clipped(row.knob, most - textWidth(` · ${error.worst.words}`, 11.5), 11.5);
    const detail = [knob, error.worst.words].filter(Boolean).join(" · ");
    const short = textWidth(name, 13, 600) + 2;
    const sizes = [
      { width: Math.max(short, textWidth(detail, 11.5) + 2), height: 30 },
      { width: short, height: 17 },
    ];
    return { row, name, detail, x, y, sizes };
  });
  const dots = points.map((point) => markBox(frame, point));
  for (const curve of curves(points)) {
    for (const [index, point] of curve.slice(1).entries())
      frame.avoided.push(...alongLine(curve[index] ?? point, point));
  }
  const bounds = { left: frame.left + 3, right: frame.width - 2, top: frame.top, bottom: frame.bottom - 2 };
  const places = placeBeside(texts, [...frame.taken, ...dots], frame.avoided, bounds);
  for (const [index, { row, name, detail, x, y }] of texts.entries()) {
    const place = places[index];
    if (!place) continue;
    const { left, top, right } = place.box;
    const atRight = right <= x;
    const anchor = { x: atRight ? right - 1 : left + 1, "text-anchor": atRight ? "end" : "start" };
    const group = svg("g", {
      ...drawnAs("label", row.attention, state),
      "data-tip": name === row.attention ? null : methodTip(row, errorOf(row, state)),
    });
    if (place.leader) {
      const end = nearestPoint(place.box, { x, y });
      group.append(svg("line", { class: "leader", x1: x, y1: y, x2: end.x, y2: end.y }));
    }
    group.append(svg("text", { class: "name halo", ...anchor, y: top + 13, style: "font-size: 13px" }, name));
    if (place.size === 0) group.append(svg("text", { class: "detail halo", ...anchor, y: top + 26 }, detail));
    frame.labels.push(group);
  }
  return named.length - places.filter((place) => place !== null).length;
}

/**
 * @param {Frame} frame
 * @param {Point} point
 * @returns {Box}
 */
export function markBox(frame, { row, error, x, y, chosen }) {
  if (!chosen) return { left: x - 4, right: x + 4, top: y - 4, bottom: y + 4 };
  const { worst } = error;
  return {
    left: Math.min(x - 7, frame.time.place(row.time.low ?? row.time.value)),
    right: Math.max(x + 7, frame.time.place(row.time.high ?? row.time.value)),
    top: Math.min(y - 7, frame.error.place(worst.high ?? worst.value)),
    bottom: Math.max(y + 7, frame.error.place(worst.low ?? worst.value)),
  };
}
