/**
 * Elements built from text. What a record says is set as text and never parsed as HTML, so that no record can add an
 * element or run a script, and names that are written from right to left leave the order of the words around them.
 */

import { isolated, pieces } from "report/isolated_names";

/** @typedef {Node | string | null | undefined | false} Child  Nothing is added for null, undefined and false. */
/** @typedef {Record<string, string | number | boolean | null | undefined>} Attributes  Left out where false or absent. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {HTMLElement | SVGElement} E
 * @param {E} made
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (typeof child === "string") made.append(...texts(made, child));
    else if (child) made.append(child);
  }
  return made;
}

/**
 * @param {HTMLElement | SVGElement} parent
 * @param {string} words
 * @returns {(Node | string)[]}
 */
function texts(parent, words) {
  if (parent instanceof SVGElement) return [isolated(words)];
  // an option has no elements inside, and stands alone
  if (parent instanceof HTMLOptionElement) return [words];
  if (parent.localName === "bdi") return [pieces(words).join("")];
  return pieces(words).map((piece, place) => {
    if (place % 2 === 0) return piece;
    const name = document.createElement("bdi");
    name.textContent = piece;
    return name;
  });
}

/**
 * Put words in the place of what an element contains.
 *
 * @param {HTMLElement} place
 * @param {string} words
 */
export function setWords(place, words) {
  place.replaceChildren(...texts(place, words));
}

/**
 * An HTML element.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * An SVG element.
 *
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * The element with this id, which the template of the page has.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}
