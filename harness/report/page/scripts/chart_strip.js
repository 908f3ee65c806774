/** A strip beneath the chart of error against time: methods that have no place on its error axis, on its time axis. */

import { drawnAs, importance, mark } from "report/chart_frame";
import { isColoured } from "report/colours";
import { svg } from "report/dom";
import { stackBelow } from "report/label_placement";
import { methodTip } from "report/method_words";
import { clipped, textWidth } from "report/text_width";

/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/chart_frame").Frame} Frame */
/** @typedef {import("report/chart_frame").Tick} Tick */

/** The height of the strip's heading, where the ticks begin. */
export const HEADING = 17;
const TICK = 17;
const ROW = 14;
/** More names than these do not fit into the rows of a strip in any case, and placing them takes long. */
const MOST_LABELS = 80;

/**
 * A strip of ticks on the time axis, with their names in rows beneath.
 *
 * @param {Frame} frame
 * @param {string} heading
 * @param {Tick[]} ticks
 * @param {number} top
 * @param {State} state
 * @param {MethodRow | null} exact
 */
export function drawStrip(frame, heading, ticks, top, state, exact) {
  const { left, right } = frame;
  const named = ticks
    .filter(({ chosen }) => chosen)
    .sort((one, other) => importance(other.row, state) - importance(one.row, state))
    .slice(0, MOST_LABELS);
  const texts = named.map(({ row, error, x }) => {
    const weight = isColoured(row.attention) ? 600 : 400;
    const name = clipped(row.attention, frame.narrow ? 130 : 190, 11.5, weight);
    return { row, error, name, x, width: textWidth(name, 11.5, weight) + 1, important: importance(row, state) > 0 };
  });
  const places = stackBelow(texts, { left: left + 4, right: right - 2 }, frame.narrow ? 9 : 6);
  const rows = Math.max(0, ...places.map((place) => (place === null ? 0 : place.row + 1)));
  const line = top + HEADING;
  const bottom = line + TICK + rows * ROW + 3;
  const exactAt = exact ? frame.time.place(exact.time.value) : -1;
  const wide = textWidth(heading, 11.5) + 10;
  const atEnd = exactAt > left && exactAt < left + wide + 4;
  frame.back.push(
    svg("rect", { class: "strip", x: left, y: top, width: right - left, height: bottom - top, rx: 4 }),
    svg(
      "text",
      {
        class: "soft strip-heading",
        ...(atEnd ? { x: right - 6, "text-anchor": "end" } : { x: left + 6 }),
        y: top + 12,
      },
      heading,
    ),
  );
  for (const tick of ticks) {
    const { row, error, x } = tick;
    const parts = [
      svg("rect", { class: "target", x: x - 6, y: line, width: 12, height: TICK }),
      svg("line", { class: "stroke", x1: x, x2: x, y1: line + 2, y2: line + (tick.chosen ? 14 : 9) }),
    ];
    frame.marks.push(mark(row, error, state, x + line * 1e5, parts));
  }
  for (const [index, { row, error, name, x }] of texts.entries()) {
    const place = places[index];
    if (!place) continue;
    const y = line + TICK + place.row * ROW + 10;
    const group = svg("g", {
      ...drawnAs("label", row.attention, state),
      "data-tip": name === row.attention ? null : methodTip(row, error),
    });
    if (place.row > 0) group.append(svg("line", { class: "leader", x1: x, x2: x, y1: line + 14, y2: y - 9 }));
    const look = isColoured(row.attention) ? "name" : "detail";
    group.append(svg("text", { class: `${look} on-strip`, x: place.left, y, style: "font-size: 11.5px" }, name));
    frame.labels.push(group);
  }
  const labelled = places.filter((place) => place !== null).length;
  return { bottom, unlabelled: ticks.filter(({ chosen }) => chosen).length - labelled };
}
