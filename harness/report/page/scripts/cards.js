/** The answer at the place of the bar: the fastest exact attention, the fastest within the allowed error, and yours. */

import { allowedWords } from "report/bar";
import { colourOf, inkOf } from "report/colours";
import { byId, element } from "report/dom";
import {
  currentSetting, errorOf, fastestComparable, fastestExact, isAllowed, isComparable, methods,
} from "report/selection";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/dom").Child} Child */
/** @typedef {import("report/state").State} State */

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const cards = byId("cards");
  const notices = byId("setting-notices");
  const setting = currentSetting(data, state);
  notices.replaceChildren(
    ...(setting?.notices ?? []).map(({ words }) => element("p", { class: "notice", role: "note" }, words)),
  );
  if (!setting) {
    cards.replaceChildren(element("p", { class: "nothing" }, nothing(data, state)));
    return;
  }
  const rows = methods(setting, state);
  const exact = fastestExact(rows, setting);
  const within = fastestComparable(rows.filter((row) => isAllowed(row, state)));
  const preferred = within && tiedWith(exact, within) && exact && isAllowed(exact, state) ? exact : within;
  const own = data.operation?.yours ?? null;
  const shown = own ?? "yoso";
  const yours = rows.find(({ attention }) => attention === shown) ?? null;
  const limit = allowedWords(state.allowed);
  cards.replaceChildren(
    card(judged("Fastest exact softmax", exact), exact, setting, state, "No attention that computes softmax exactly was timed here."),
    card(
      judged(state.allowed === null ? "Fastest at any error" : `Fastest within ${limit} error`, preferred),
      preferred,
      setting,
      state,
      `No attention with an error of at most ${limit} was timed here; where the error was not measured, none is assumed.`,
    ),
    card(own ? "Yours" : "YOSO", yours, setting, state, withoutTime(setting, shown)),
  );
}

/**
 * @param {string} title
 * @param {MethodRow | null} row
 */
function judged(title, row) {
  return row && !isComparable(row) ? title.replace("Fastest", "No verdict; shortest time,") : title;
}

/**
 * @param {MethodRow | null} a
 * @param {MethodRow} b
 */
function tiedWith(a, b) {
  return a !== null && a !== b && a.order === "reference" && (b.order === "tied" || b.order === "same kernel");
}

/**
 * @param {string} title
 * @param {MethodRow | null} row
 * @param {Setting} setting
 * @param {State} state
 * @param {string} without what is said where there is no such row
 */
function card(title, row, setting, state, without) {
  const heading = element("h2", {}, row?.knob ? `${title}, with ${row.knob}` : title);
  if (!row) return element("article", { class: "card" }, heading, element("p", {}, without));
  const style = `--c: ${colourOf(row.attention)}; --name: ${inkOf(row.attention)}`;
  const interval = [row.time.interval, samples(row)].filter(Boolean).join(", ");
  return element(
    "article",
    { class: "card", style },
    heading,
    element(
      "p",
      { class: "big" },
      element("bdi", { class: "name cut", "data-cut": row.attention }, row.attention),
      element("span", { class: "time" }, row.time.words),
      element("span", { class: "interval" }, interval),
    ),
    element("p", {}, ...sentence(row, setting, state)),
    ...flags(row, state).map((words) => element("p", { class: "flag" }, words)),
  );
}

/**
 * Speed, error, memory and score in one sentence, so that no speed stands without its error.
 *
 * @param {MethodRow} row
 * @param {Setting} setting
 * @param {State} state
 * @returns {Child[]}
 */
function sentence(row, setting, state) {
  return [
    element("b", {}, comparisonWords(row, setting)),
    ", ",
    ...errorWords(row, state),
    row.memory ? `; peak memory ${row.memory.words}` : "; memory not measured",
    row.score ? `; ${row.score.task} ${row.score.mean.words}` : "; not trained",
    ".",
  ];
}

/**
 * How fast the row is, as the beginning of a sentence that goes on with `errorWords`.
 *
 * @param {MethodRow} row
 * @param {Setting} setting
 */
export function comparisonWords(row, setting) {
  const comparison = row.series === setting.reference ? "the reference of the others" : row.comparison;
  const words = comparison || "without a reference to compare with";
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * The row's error as the end of a sentence about its speed.
 *
 * @param {MethodRow} row
 * @param {State} state
 * @returns {Child[]}
 */
export function errorWords(row, state) {
  const error = errorOf(row, state);
  if (!error) return [element("b", {}, "error not measured at this setting")];
  if (error.rounding) {
    const size = ` (${error.worst.words}) against ${error.reference}`;
    return ["with an error of ", element("b", {}, "rounding only"), size];
  }
  const draws = error.draws > 1 ? `, ${error.draws} draws` : "";
  const against = ` (${error.of}${draws}) against ${error.reference}`;
  return ["with an error of ", element("b", {}, error.worst.words), against];
}

/**
 * What a reader must know before trusting the row.
 *
 * @param {MethodRow} row
 * @param {State} state
 * @returns {string[]}
 */
export function flags(row, state) {
  const found = row.disturbance ? [row.disturbance] : [];
  const error = errorOf(row, state);
  if (state.allowed !== null && error && !isAllowed(row, state)) {
    found.push(`Above the allowed error of ${allowedWords(state.allowed)}.`);
  }
  if (state.allowed !== null && !error) {
    found.push(`Cannot be compared with the allowed error of ${allowedWords(state.allowed)}.`);
  }
  if (error?.rounding && !row.exactSoftmax) found.push("Exact by its own definition, which is not softmax.");
  if (row.order === "tied") found.push("The order is not clear: the difference is within what two runs of one kernel differ.");
  return found;
}

/** @param {MethodRow} row */
function samples(row) {
  return row.samples === 1 ? "1 sample" : `${row.samples} samples`;
}

/**
 * @param {Setting} setting
 * @param {string} attention
 */
function withoutTime(setting, attention) {
  const found = setting.withoutResult.find((one) => one.attention.split(", ").includes(attention));
  return found ? `${attention} has no time here (${found.status}): ${found.reason}` : `${attention} was not timed here.`;
}

/**
 * @param {PageData} data
 * @param {State} state
 */
function nothing(data, state) {
  if (!data.operation) {
    return "No attention was timed on its own in this run. What it measured is in the panels and folds below.";
  }
  const place = [...Object.values(state.facets), state.pass].join(", ");
  const measured = data.operation.settings.filter(
    ({ facets, pass }) => pass === state.pass && Object.entries(facets).every(([name, value]) => state.facets[name] === value),
  );
  const lengths = measured.map(({ lengthWords }) => lengthWords).join(", ");
  const here = data.operation.lengths.find(({ value }) => value === state.length)?.words ?? "";
  return lengths
    ? `Nothing was measured at ${here} tokens with ${place}. Lengths with a result: ${lengths}.`
    : `Nothing was measured with ${place}. Choose another value in the bar above.`;
}
