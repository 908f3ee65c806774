/** The axes of the chart of error against time, and the line at the fastest exact method. */

import { LINE } from "report/chart_frame";
import { colourOf, inkOf } from "report/colours";
import { svg } from "report/dom";
import { logTicks, tickWords } from "report/log_axis";
import { methodTip, shortError } from "report/method_words";
import { errorOf } from "report/selection";
import { clipped, textWidth } from "report/text_width";

/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/chart_frame").Frame} Frame */

/** @param {Frame} frame */
export function drawErrorAxis(frame) {
  const { left, right, top, bottom, error, errorTicks, back } = frame;
  for (const value of errorTicks) {
    const y = error.place(value);
    back.push(
      svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
      svg("text", { class: "tick error", x: left - 6, y: y + 4, "text-anchor": "end" }, tickWords(value, "fraction")),
    );
  }
  back.push(
    svg("line", { class: "axis", x1: left, x2: left, y1: top, y2: bottom }),
    svg("text", { class: "soft", x: 0, y: 11 }, "error, log"),
  );
}

/**
 * The line of the allowed error, with its words where the line of the fastest exact method does not pass.
 *
 * @param {Frame} frame
 * @param {number} allowed
 * @param {MethodRow | null} exact
 */
export function drawAllowed(frame, allowed, exact) {
  const { left, right, top, error, back } = frame;
  const y = error.place(allowed);
  back.push(svg("line", { class: "allowed", x1: left, x2: right, y1: y, y2: y }));
  const words = `allowed ≤ ${tickWords(allowed, "fraction")}`;
  const width = textWidth(words, 12) + 2;
  const line = exact ? frame.time.place(exact.time.value) : left;
  const end = line > right - width - 8 ? line - 6 : right - 2;
  const above = y - top > 20;
  frame.avoided.push({ left, right, top: y - 1, bottom: y + 1 });
  frame.taken.push({ left: end - width, right: end, top: above ? y - 17 : y + 1, bottom: above ? y : y + 18 });
  back.push(svg("text", { class: "good halo", x: end, y: above ? y - 5 : y + 14, "text-anchor": "end" }, words));
}

/**
 * @param {Frame} frame
 * @param {number} y
 * @param {boolean} hasErrors
 */
export function drawTimeAxis(frame, y, hasErrors) {
  const { left, right, top, bottom, time, back } = frame;
  back.push(svg("line", { class: "axis", x1: left, x2: right, y1: y, y2: y }));
  for (const value of logTicks(time, Math.floor((right - left) / 74))) {
    const x = time.place(value);
    const words = tickWords(value, "s");
    const half = textWidth(words, 12) / 2;
    const middle = Math.min(Math.max(x, half), frame.width - half);
    if (hasErrors) back.push(svg("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom }));
    back.push(
      svg("line", { class: "axis", x1: x, x2: x, y1: y, y2: y + 4 }),
      svg("text", { class: "tick time", x: middle, y: y + 17, "text-anchor": "middle" }, words),
    );
  }
  back.push(
    svg("text", { class: "soft", x: right, y: y + 33, "text-anchor": "end" }, "time of a call, log; left is faster"),
  );
}

/**
 * What the exact method of the line is: the fastest, or only the shortest time where no exact one can be compared.
 *
 * @param {MethodRow} exact
 */
export function exactHeading(exact) {
  return exact.disturbance === null && exact.time.low !== undefined ? "fastest exact" : "no verdict; shortest exact";
}

/**
 * @param {Frame} frame
 * @param {MethodRow} exact
 * @param {State} state
 * @param {number} bottom
 */
export function drawExactLine(frame, exact, state, bottom) {
  const { narrow, top } = frame;
  const x = frame.time.place(exact.time.value);
  const error = errorOf(exact, state);
  const rest = `: ${exact.time.words}, ${error ? `error: ${shortError(error)}` : "error not measured"}`;
  // a phone has two lines for it, the upper one beside the name of the error's axis
  const prefix = `${exactHeading(exact)} `;
  const start = frame.left + textWidth("error, log", 12) - 20;
  const room = frame.width - (narrow ? 0 : start + textWidth(prefix, 12, 600));
  const name = clipped(exact.attention, room - textWidth(rest, 12, 600) - 8, 12, 600);
  const lines = narrow ? [prefix.trim(), `${name}${rest}`] : [`${prefix}${name}${rest}`];
  frame.back.push(
    svg("line", {
      class: "exact",
      x1: x,
      x2: x,
      y1: top - 5,
      y2: bottom,
      style: `stroke: ${colourOf(exact.attention)}`,
    }),
  );
  for (const [index, words] of lines.entries()) {
    const width = textWidth(words, 12, 600);
    const least = index === lines.length - 1 && narrow ? 0 : start;
    const left = Math.max(least, Math.min(x - width / 2, frame.width - width));
    const y = top - 9 - (lines.length - 1 - index) * LINE;
    const tip = name === exact.attention ? null : methodTip(exact, error);
    const style = `fill: ${inkOf(exact.attention)}`;
    frame.back.push(svg("text", { class: "name", x: left, y, style, "data-tip": tip }, words));
  }
  frame.avoided.push({ left: x - 1, right: x + 1, top, bottom: frame.bottom });
}
