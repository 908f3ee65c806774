/**
 * Names that would reorder the words around them: those in Arabic or Hebrew, and those with a control such as the
 * right-to-left override. Each is isolated wherever the page shows it, inside a sentence, too.
 */

/** @typedef {import("report/page_data").PageData} PageData */

const REORDERS =
  /[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
/** The same in JSON, which may have escapes in their place. */
const REORDERS_IN_JSON = /\\u(?:0[5-8]|200f|202[a-e]|206[6-9]|fb|fd|fe|d80[23]|d83a)/i;
const ISOLATES = /[\u2066-\u2069]/g;
/** The properties of the page's data that are names, or texts of records. */
const NAMED = new Set(["attention", "kernel", "trainedWith", "testedWith", "task", "reason", "disturbance", "yours"]);

/** @type {RegExp | null} */
let names = null;

/**
 * Find the names of a page in its data.
 *
 * @param {PageData} data
 * @param {string} json  the text of the data, which says quickly that there are none
 */
export function findNames(data, json) {
  names = null;
  if (!REORDERS.test(json) && !REORDERS_IN_JSON.test(json)) return;
  /** @type {Set<string>} */
  const found = new Set();
  collect(data, false, found);
  const longestFirst = [...found].sort((one, other) => other.length - one.length);
  if (longestFirst.length === 0) return;
  const patterns = longestFirst.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  names = new RegExp(`(?<!\u2068)(${patterns.join("|")})`); // those behind an isolate are isolated already
}

/**
 * @param {unknown} value
 * @param {boolean} isName
 * @param {Set<string>} found
 */
function collect(value, isName, found) {
  if (typeof value === "string") {
    // several names in one text are joined with commas
    for (const name of isName && REORDERS.test(value) ? [value, ...value.split(", ")] : []) {
      if (REORDERS.test(name)) found.add(name);
    }
  } else if (Array.isArray(value)) {
    for (const each of value) collect(each, isName, found);
  } else if (value !== null && typeof value === "object") {
    for (const [key, each] of Object.entries(value)) {
      const isText = NAMED.has(key) || key === "facets" || key === "knobs";
      collect(each, isText || (isName && typeof each !== "object"), found);
    }
  }
}

/**
 * The text in pieces: every second one is a name that must be isolated. Isolates of its own could end that and go.
 *
 * @param {string} text
 */
export function pieces(text) {
  if (names === null) return [text];
  return text.split(names).map((piece, place) => (place % 2 === 0 ? piece : piece.replace(ISOLATES, "")));
}

/**
 * The text with Unicode's isolates around such names, for what cannot have elements inside.
 *
 * @param {string} text
 */
export function isolated(text) {
  return pieces(text)
    .map((piece, place) => (place % 2 === 0 ? piece : `\u2068${piece}\u2069`))
    .join("");
}

/**
 * A part of a name, which is no name of the page, isolated where it needs to be.
 *
 * @param {string} part
 */
export function isolatedPart(part) {
  return REORDERS.test(part) ? `\u2068${part.replace(ISOLATES, "")}\u2069` : part;
}
