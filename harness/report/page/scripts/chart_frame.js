/** What the parts of the chart of error against time share: axes, what is drawn so far, and the look of a method. */

import { colourOf, inkOf, isColoured } from "report/colours";
import { svg } from "report/dom";
import { methodTip, shortError } from "report/method_words";

/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").ErrorAtSetting} ErrorAtSetting */
/** @typedef {import("report/state").State} State */
/** @typedef {import("report/label_placement").Box} Box */
/** @typedef {import("report/log_axis").LogAxis} LogAxis */

/** @typedef {{ row: MethodRow, error: ErrorAtSetting, x: number, y: number, chosen: boolean }} Point */
/** @typedef {{ row: MethodRow, error: ErrorAtSetting | null, x: number, chosen: boolean }} Tick */

/**
 * Everything that the parts of the drawing share.
 *
 * @typedef {object} Frame
 * @property {number} width
 * @property {boolean} narrow
 * @property {number} left The pixel of the time axis's low end.
 * @property {number} right
 * @property {number} top
 * @property {number} bottom Of the plane.
 * @property {LogAxis} time
 * @property {LogAxis} error
 * @property {number[]} errorTicks
 * @property {Element[]} back Axes, zones and words: a picture with a text alternative.
 * @property {Element[]} marks What has tips and the keyboard's focus.
 * @property {Element[]} labels
 * @property {Box[]} taken What no label may cover.
 * @property {Box[]} avoided What labels avoid while there is room: lines, which stay readable under a label.
 */

/** The height of a line of text. */
export const LINE = 15;

/**
 * Who chooses a place for a label first.
 *
 * @param {MethodRow} row
 * @param {State} state
 */
export function importance(row, state) {
  if (row.attention === state.isolated) return 2;
  return isColoured(row.attention) ? 1 : 0;
}

/**
 * What has a tip, the keyboard's focus, and isolates its method.
 *
 * @param {MethodRow} row
 * @param {ErrorAtSetting | null} error
 * @param {State} state
 * @param {number} order The place in the order of reading.
 * @param {Element[]} parts
 */
export function mark(row, error, state, order, parts) {
  const name = [row.attention, row.knob, row.time.words, error ? `error: ${shortError(error)}` : "error not measured"];
  return svg(
    "g",
    {
      ...drawnAs("mark", row.attention, state),
      role: "button",
      "aria-pressed": String(row.attention === state.isolated),
      "aria-label": name.filter(Boolean).join(", "),
      "data-tip": methodTip(row, error),
      "data-key": row.caseId,
      "data-order": order,
    },
    ...parts,
  );
}

/**
 * The attributes of what belongs to one method: its colour, and whether another one is isolated.
 *
 * @param {string} kind
 * @param {string} attention
 * @param {State} state
 */
export function drawnAs(kind, attention, state) {
  const alone = attention === state.isolated;
  const colour = alone && !isColoured(attention) ? "var(--ink)" : colourOf(attention);
  const ink = isColoured(attention) || alone ? inkOf(attention) : "var(--soft)";
  const away = state.isolated !== null && !alone ? " away" : "";
  const rest = isColoured(attention) || alone ? "" : " rest";
  return {
    class: `${kind}${rest}${away}`,
    "data-attention": attention,
    style: `--series: ${colour}; --series-ink: ${ink}`,
  };
}
