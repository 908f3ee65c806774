/** The answer at the place of the bar: the fastest exact attention, the fastest within the allowed error, and yours. */

import { allowedWords } from "report/bar";
import { colourOf, inkOf } from "report/colours";
import { byId, element } from "report/dom";
import { disturbanceWords, intervalWords } from "report/method_words";
import { best, currentSetting, errorOf, hasTime, isAllowed, methods, winningRow } from "report/selection";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/page_data").Sentence} Sentence */
/** @typedef {import("report/page_data").Winner} Winner */
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
  const { exact, chosen } = best(setting, state);
  const own = data.operation?.yours ?? null;
  const shown = own ?? "yoso";
  const yours = methods(setting, state).find(({ attention }) => attention === shown) ?? null;
  const limit = allowedWords(state.allowed);
  cards.replaceChildren(
    won("Fastest exact softmax", exact, setting, state, "No attention that computes softmax exactly was timed here.", []),
    won(
      state.allowed === null ? "Fastest with a known error against softmax" : `Fastest within ${limit} error`,
      chosen.winner,
      setting,
      state,
      state.allowed === null
        ? "No attention with a measured error against softmax was timed here."
        : `No attention with an error of at most ${limit} against softmax was timed here; where the error was not measured, none is assumed.`,
      chosen.remarks,
      exact,
    ),
    card(own ? "Yours" : "YOSO", yours, setting, state, withoutTime(setting, shown), yours ? flags(yours, state) : [], []),
    element("p", { class: "foot rule" }, data.operation?.rule ?? ""),
  );
}

/**
 * The card of a winner, with what is tied with it. Where it is the winner of the card before, it leaves out the memory,
 * the score and the other names of its kernel, which that has, and does not mark the same ties once more.
 *
 * @param {string} title
 * @param {Winner | null} winner
 * @param {Setting} setting
 * @param {State} state
 * @param {string} without
 * @param {Sentence[]} remarks
 * @param {Winner | null} [before]
 */
function won(title, winner, setting, state, without, remarks, before = null) {
  const row = winningRow(setting, winner);
  const heading = winner && !winner.verdict ? title.replace("Fastest", "No verdict; shortest time,") : title;
  const isAgain = winner !== null && winner.row === before?.row;
  const ties = winner?.tiedWords ? [winner.tiedWords] : [];
  const areMarked = isAgain && winner.tiedWords?.words === before?.tiedWords?.words;
  const warnings = [...(areMarked ? [] : ties.map(({ words }) => words)), ...(row ? ownFlags(row, state) : [])];
  const kernel = winner?.sameKernelWords && !isAgain ? [winner.sameKernelWords] : [];
  const notes = [...(areMarked ? ties : []), ...kernel, ...remarks];
  return card(heading, row, setting, state, without, warnings, notes, isAgain);
}

/**
 * @param {string} title
 * @param {MethodRow | null} row
 * @param {Setting} setting
 * @param {State} state
 * @param {string} without what is said where there is no such row
 * @param {string[]} warnings
 * @param {Sentence[]} remarks
 * @param {boolean} [isAgain] the row is that of the card before, which has its memory and score
 */
function card(title, row, setting, state, without, warnings, remarks, isAgain = false) {
  const heading = element("h2", {}, row?.knob ? `${title}, with ${row.knob}` : title);
  const notes = remarks.length ? [element("p", { class: "foot" }, remarks.map(({ words }) => words).join(" "))] : [];
  if (!row) return element("article", { class: "card" }, heading, element("p", {}, without), ...notes);
  const style = `--c: ${colourOf(row.attention)}; --name: ${inkOf(row.attention)}`;
  return element(
    "article",
    { class: "card", style },
    heading,
    element(
      "p",
      { class: "big" },
      element("bdi", { class: "name cut", "data-cut": row.attention }, row.attention),
      element("span", { class: "time" }, row.time.words),
      element("span", { class: "interval", "data-tip": intervalWords(row) }, intervalWords(row, true)),
    ),
    element("p", {}, ...sentence(row, setting, state, !isAgain)),
    ...warnings.map((words) => element("p", { class: "flag" }, words)),
    ...notes,
  );
}

/**
 * Speed, error, memory and score in one sentence, so that no speed stands without its error.
 *
 * @param {MethodRow} row
 * @param {Setting} setting
 * @param {State} state
 * @param {boolean} isWhole with memory and score
 * @returns {Child[]}
 */
function sentence(row, setting, state, isWhole) {
  const memory = row.memory ? `; peak memory ${row.memory.words}` : "; memory not measured";
  const score = row.score ? `; ${row.score.task} ${row.score.mean.words}` : "; not trained";
  const speed = [element("b", {}, comparisonWords(row, setting)), ", ", ...errorWords(row, state)];
  return [...speed, ...(isWhole ? [memory, score] : []), "."];
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
  const tied = row.tiedBecause ? [`The order beside the reference is not clear: ${row.tiedBecause.words}.`] : [];
  return [...ownFlags(row, state), ...tied];
}

/**
 * What a reader must know of the row itself.
 *
 * @param {MethodRow} row
 * @param {State} state
 * @returns {string[]}
 */
function ownFlags(row, state) {
  const found = row.disturbance ? [disturbanceWords(row)] : [];
  const error = errorOf(row, state);
  if (state.allowed !== null && error && !isAllowed(row, state)) {
    found.push(`Above the allowed error of ${allowedWords(state.allowed)}.`);
  }
  if (state.allowed !== null && !error) {
    found.push(`Cannot be compared with the allowed error of ${allowedWords(state.allowed)}.`);
  }
  if (error?.rounding && !row.exactSoftmax) found.push("Exact by its own definition, which is not softmax.");
  return found;
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
    return "No attention was timed on its own in this run. What else it has is in the panels and folds below.";
  }
  const place = placeOf(state);
  const measured = data.operation.settings.filter(
    ({ facets, pass }) => pass === state.pass && Object.entries(facets).every(([name, value]) => state.facets[name] === value),
  );
  const lengths = measured.filter(({ rows }) => rows.length > 0).map(({ lengthWords }) => lengthWords).join(", ");
  const here = data.operation.lengths.find(({ value }) => value === state.length)?.words ?? "";
  if (!hasTime(data)) return "No attention has a time in this run: the reasons are in the folds below.";
  if (!lengths) return `No attention has a time with ${place}. Choose another value in the bar above.`;
  return `${elsewhere(data.operation.settings, state, here, place)} Lengths with a time: ${lengths}.`;
}

/**
 * What there is at the chosen length where nothing was measured at the rest of the choice: times, or why there are none.
 *
 * @param {Setting[]} settings
 * @param {State} state
 * @param {string} here
 * @param {string} place
 */
function elsewhere(settings, state, here, place) {
  const samePass = (/** @type {Setting} */ { pass }) => (pass === state.pass ? 0 : 1);
  const all = settings.filter(({ length }) => length === state.length).sort((a, b) => samePass(a) - samePass(b));
  const timed = all.find(({ rows }) => rows.length > 0);
  if (timed) {
    return `Nothing was measured at ${here} tokens with ${place}; this length has times with ${placeOf(timed)}.`;
  }
  const tried = all.find(({ withoutResult }) => withoutResult.length > 0);
  if (!tried) return `Nothing was measured at ${here} tokens with ${place}.`;
  const reasons = tried.withoutResult.map(({ attention, status, reason }) => `${attention} (${status}: ${reason})`);
  return `At ${here} tokens no attention has a time. Without one, with ${placeOf(tried)}: ${reasons.join("; ")}.`;
}

/** @param {{ facets: Record<string, string>, pass: string }} chosen */
const placeOf = ({ facets, pass }) => [...Object.values(facets), pass].join(", ");
