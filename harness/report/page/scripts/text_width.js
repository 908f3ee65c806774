/** How wide a text is before it is drawn, in the page's font; shortened or broken into lines where that is too wide. */

import { isolated, isolatedPart } from "report/isolated_names";

const context = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));
/** @type {Map<string, number>} */
const known = new Map();
let family = "";

/**
 * @param {string} text
 * @param {number} size In pixels.
 * @param {number} weight
 */
export function textWidth(text, size, weight = 400) {
  family ||= getComputedStyle(document.body).fontFamily;
  const key = `${weight} ${size} ${text}`;
  let width = known.get(key);
  if (width === undefined) {
    context.font = `${weight} ${size}px ${family}`;
    width = context.measureText(text).width;
    known.set(key, width);
  }
  return width;
}

/**
 * The text, or as much of it as fits, with an ellipsis.
 *
 * @param {string} text
 * @param {number} most In pixels.
 * @param {number} size
 * @param {number} weight
 */
export function clipped(text, most, size, weight = 400) {
  if (textWidth(text, size, weight) <= most) return text;
  const characters = Array.from(text);
  let [fits, tooMany] = [0, characters.length];
  while (tooMany - fits > 1) {
    const middle = (fits + tooMany) >> 1;
    const width = textWidth(`${characters.slice(0, middle).join("")}…`, size, weight);
    if (width <= most) fits = middle;
    else tooMany = middle;
  }
  return isolatedPart(`${characters.slice(0, fits).join("")}…`);
}

/**
 * Lines of words; what is between isolates stays in one line, because isolates end with the line.
 *
 * @param {string} words
 * @param {number} width
 * @param {number} size
 */
export function wrapped(words, width, size) {
  /** @type {string[]} */
  const lines = [];
  for (const word of isolated(words).split(/ (?![^\u2068\u2069]*\u2069)/)) {
    const last = lines[lines.length - 1];
    if (last !== undefined && textWidth(`${last} ${word}`, size) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
