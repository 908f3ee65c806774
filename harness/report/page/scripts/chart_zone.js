/** The green zone of the chart of error against time: what is faster than exact and within the allowed error. */

import { LINE } from "report/chart_frame";
import { markBox } from "report/chart_points";
import { svg } from "report/dom";
import { overlap } from "report/label_placement";
import { tickWords } from "report/log_axis";
import { best, errorOf, rowsAt } from "report/selection";
import { clipped, textWidth, wrapped } from "report/text_width";

/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/chart_frame").Frame} Frame */
/** @typedef {import("report/chart_frame").Point} Point */
/** @typedef {import("report/label_placement").Box} Box */

/**
 * What is clearly faster than the fastest exact one and within the allowed error.
 *
 * @param {Setting} setting
 * @param {State} state
 * @returns {{ words: string, full: string }} `words` has long names shortened.
 */
export function zoneFinding(setting, state) {
  const { exact, chosen } = best(setting, state);
  if (exact === null) return alike("No exact method was timed here.");
  if (!exact.verdict) return alike("No time here can be compared with that of an exact method.");
  const listed = (/** @type {(name: string) => string} */ shorten) => {
    const names = rowsAt(setting, chosen.faster).map((row) => {
      const what = [row.knob, errorOf(row, state)?.worst.words].filter(Boolean).join(", ");
      return `${shorten(row.attention)} (${what})`;
    });
    return names.slice(0, 3).join(", ") + (names.length > 3 ? ` and ${names.length - 3} more` : "");
  };
  const within =
    state.allowed === null
      ? "at any measured error against"
      : `and within ${tickWords(state.allowed, "fraction")} of`;
  const others = chosen.notCounted.length > 0 ? "; what does not count is named above" : "";
  const sentence = (/** @type {string} */ names) =>
    `Faster than exact ${within} softmax: ${names || "nothing measured"}${others}.`;
  return { words: sentence(listed((name) => clipped(name, 140, 12.5))), full: sentence(listed((name) => name)) };
}

/** @param {string} words */
const alike = (words) => ({ words, full: words });

/**
 * The green zone.
 *
 * @param {Frame} frame
 * @param {MethodRow | null} exact
 * @param {State} state
 * @param {boolean} hasErrors
 * @returns {Box | null}
 */
export function drawZone(frame, exact, state, hasErrors) {
  if (exact === null || !hasErrors) return null;
  const zone = {
    left: frame.left + 1,
    right: frame.time.place(exact.time.value),
    top: state.allowed === null ? frame.top : frame.error.place(state.allowed),
    bottom: frame.bottom,
  };
  const { left, top } = zone;
  const size = { width: Math.max(0, zone.right - left), height: zone.bottom - top };
  frame.back.push(svg("rect", { class: "zone", x: left, y: top, ...size }));
  return zone;
}

/**
 * The words of the green zone, in the first corner of it that no mark is in.
 *
 * @param {Frame} frame
 * @param {Box | null} zone
 * @param {Point[]} points
 * @param {{ words: string, full: string }} finding
 * @returns {boolean} Whether there was room.
 */
export function drawZoneWords(frame, zone, points, finding) {
  if (zone === null) return false;
  const marks = [...frame.taken, ...points.map((point) => markBox(frame, point))];
  const lines = wrapped(finding.words, zone.right - zone.left - 16, 12.5);
  const width = Math.max(...lines.map((line) => textWidth(line, 12.5)));
  const height = lines.length * LINE;
  if (zone.right - zone.left < 110 || height > zone.bottom - zone.top - 6) return false;
  for (const top of [zone.bottom - height - 4, zone.top + 3]) {
    for (const left of [zone.left + 8, zone.right - width - 8]) {
      const box = { left, right: left + width, top, bottom: top + height };
      if (marks.some((other) => overlap(box, other))) continue;
      frame.taken.push(box);
      for (const [index, line] of lines.entries()) {
        const place = { x: left, y: top + 12 + index * LINE };
        const tip = finding.words === finding.full ? null : finding.full;
        frame.back.push(svg("text", { class: "good zone-words", ...place, "data-tip": tip }, line));
      }
      return true;
    }
  }
  return false;
}
