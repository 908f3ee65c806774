/** Which of several tasks or models a panel shows: the reader's choice among those that fit the bar. */

import { element } from "report/dom";

/** @typedef {import("report/state").State} State */

/** @type {Record<string, string>} */
const chosen = {};

/**
 * Those of one run whose device and type are those of the bar; all of the run where none is.
 *
 * @template {{ facets: Record<string, string> }} T
 * @param {T[]} parts
 * @param {State} state
 * @returns {T[]}
 */
export function fitting(parts, state) {
  const agree = (/** @type {T} */ { facets }, /** @type {string[]} */ names) =>
    names.every((name) => (facets[name] ?? state.facets[name]) === (state.facets[name] ?? facets[name]));
  const ofRun = parts.filter((part) => agree(part, ["Run"]));
  const alike = ofRun.filter((part) => agree(part, ["Device", "Type"]));
  return alike.length > 0 ? alike : ofRun;
}

/**
 * The chosen part and, where there are several, a list to choose from.
 *
 * @template {{ id: string; facets: Record<string, string> }} T
 * @param {string} what  the name of the list, which also stores the choice
 * @param {T[]} parts  at least one
 * @param {(part: T) => string} words  the name of a part in the list
 * @param {() => void} redraw
 * @returns {{ part: T; list: HTMLElement | null }}
 */
export function choice(what, parts, words, redraw) {
  const names = parts.map((part) => distinct(part, parts, words));
  const place = Math.max(0, names.indexOf(chosen[what] ?? ""));
  const part = /** @type {T} */ (parts[place]);
  if (parts.length === 1) return { part, list: null };
  const options = names.map((name, i) => element("option", { selected: i === place }, name));
  const select = element("select", { name: what, "aria-label": what }, ...options);
  select.addEventListener("change", () => {
    chosen[what] = select.value;
    redraw();
    const again = document.querySelector(`select[name="${what}"]`);
    if (again instanceof HTMLElement) again.focus();
  });
  return { part, list: select };
}

/**
 * The words of a part, with the facets that tell it apart from others with the same words.
 *
 * @template {{ facets: Record<string, string> }} T
 * @param {T} part
 * @param {T[]} parts
 * @param {(part: T) => string} words
 */
function distinct(part, parts, words) {
  const same = parts.filter((other) => words(other) === words(part));
  const differing = Object.keys(part.facets).filter((name) =>
    same.some((other) => other.facets[name] !== part.facets[name]),
  );
  return [words(part), ...differing.map((name) => part.facets[name])].join(", ");
}
