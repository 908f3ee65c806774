/**
 * The colours of at most six attentions; the others are grey. An attention has the same colour at every setting unless
 * two would share one.
 */

import { currentSetting, errorOf, fastestExact, methods } from "report/selection";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/state").State} State */

const COLOURS = 6;
/** The colour of the style sheet that an attention has wherever it can. @type {Record<string, number>} */
const HOME = { sdpa: 1, yoso: 2, yoso_e: 3, nystromformer: 4, performer_softmax: 5, linear: 6 };

/** @type {Map<string, number>} */
let colours = new Map();

/**
 * Choose who is in colour: the fastest exact one, yours, those that no other beats in both time and error, and then
 * those with an error and those with a colour of their own.
 *
 * @param {PageData} data
 * @param {State} state
 */
export function assignColours(data, state) {
  const names = preferred(data, state).slice(0, COLOURS);
  const all = [...new Set(data.operation?.settings.flatMap((one) => one.rows.map(({ attention }) => attention)))].sort();
  const free = new Set(Array.from({ length: COLOURS }, (_, i) => i + 1));
  colours = new Map();
  for (const name of names.sort((a, b) => Number(b in HOME) - Number(a in HOME))) {
    const home = HOME[name] ?? (Math.max(0, all.indexOf(name)) % COLOURS) + 1;
    const colour = free.has(home) ? home : Math.min(...free);
    free.delete(colour);
    colours.set(name, colour);
  }
}

/**
 * The attentions in the order in which they get a colour. Where nothing was timed, those of the models.
 *
 * @param {PageData} data
 * @param {State} state
 * @returns {string[]}
 */
function preferred(data, state) {
  const setting = currentSetting(data, state);
  if (!setting) {
    const models = [...data.trained, ...data.wholeModels.flatMap(({ lengths }) => lengths)];
    const names = [...new Set(models.flatMap(({ rows }) => rows.map(({ attention }) => attention)))];
    return [...names.filter((name) => name in HOME), ...names.filter((name) => !(name in HOME))];
  }
  const rows = methods(setting, state);
  const exact = fastestExact(setting, state);
  const measured = rows.filter((row) => errorOf(row, state));
  const front = measured.filter((row) => measured.every((other) => !beats(other, row, state)));
  const estimates = measured.filter((row) => !errorOf(row, state)?.rounding);
  const own = [data.operation?.yours ?? "yoso", "yoso"];
  const mine = rows.filter(({ attention }) => own.includes(attention));
  const usual = rows.filter(({ attention }) => attention in HOME);
  const wanted = [exact, ...mine, ...front, ...estimates, ...usual, ...rows];
  return [...new Set(wanted.flatMap((row) => row?.attention ?? []))];
}

/**
 * Whether `a` is at least as fast and as accurate as `b`, and better in one of them.
 *
 * @param {MethodRow} a
 * @param {MethodRow} b
 * @param {State} state
 */
function beats(a, b, state) {
  const [of_a, of_b] = [size(a, state), size(b, state)];
  const [time_a, time_b] = [a.time.value, b.time.value];
  return time_a <= time_b && of_a <= of_b && (time_a < time_b || of_a < of_b);
}

/**
 * The error by which a row is on the front or not: errors of rounding are equal.
 *
 * @param {MethodRow} row
 * @param {State} state
 */
function size(row, state) {
  const error = errorOf(row, state);
  if (!error) return Infinity;
  return error.rounding ? 0 : error.worst.value;
}

/**
 * The colour of an attention's marks, or the grey of the rest. It has a contrast of at least 4.5 as text, too, except
 * for the grey.
 *
 * @param {string} attention
 */
export function colourOf(attention) {
  const colour = colours.get(attention);
  return colour ? `var(--series-${colour})` : "var(--rest)";
}

/**
 * Whether the attention is one of those in colour.
 *
 * @param {string} attention
 */
export function isColoured(attention) {
  return colours.has(attention);
}

/**
 * The colour of an attention's name: that of its marks, or the usual ink.
 *
 * @param {string} attention
 */
export function inkOf(attention) {
  return isColoured(attention) ? colourOf(attention) : "var(--ink)";
}
