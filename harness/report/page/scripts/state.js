/**
 * What the reader has chosen: the bar, the sorting and the open row. The hash of the address stores it, and the buttons
 * of the browser step through the choices of what the page is about.
 */

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").Pass} Pass */

/**
 * @typedef {object} State
 * @property {Record<string, string>} facets  the choice of each facet of the bar
 * @property {Pass} pass
 * @property {number} length  in tokens
 * @property {string} inputs  the kind of inputs on which errors are read
 * @property {number | null} allowed  the largest error as a fraction of 1; null allows any, a missing one too
 * @property {string | null} isolated  the attention that is drawn alone in colour
 * @property {string} sort  the column of the ranking
 * @property {boolean} descending
 * @property {"time" | "memory"} measure  what is drawn over the length
 * @property {string | null} open  the series whose row of the ranking is open
 */

/** Allowed errors of the bar. @type {readonly (number | null)[]} */
export const ALLOWED = [null, 0.5, 0.1, 0.01];

/** The columns of the ranking by which it sorts. */
const SORTED_BY = ["attention", "time", "ratio", "error", "memory", "score", "samples"];

/** Words for the address of a page; the words of the page have signs that an address would encode. */
const PASSES = /** @type {const} */ ({ training: "forward + backward", forward: "forward" });

/** @type {State} */
export const state = {
  facets: {},
  pass: "forward",
  length: 0,
  inputs: "",
  allowed: 0.1,
  isolated: null,
  sort: "time",
  descending: false,
  measure: "time",
  open: null,
};

/** What the page is about: "back" undoes a change of these, and leaves what is only a way of looking at it. */
const STEPS = /** @type {const} */ (["facets", "pass", "length", "inputs", "allowed", "isolated"]);

/** @type {PageData | null} */
let page = null;
/** The hash that the state was read from or written to. */
let known = "";
let redraw = () => {};

/**
 * Read the address and from now on call `draw` after each change. Nothing is drawn yet.
 *
 * @param {PageData} data
 * @param {() => void} draw
 */
export function begin(data, draw) {
  page = data;
  redraw = draw;
  restore();
  // a step back is the first event, a link that was pasted into the open page is both
  for (const event of ["popstate", "hashchange"]) {
    addEventListener(event, () => {
      if (location.hash.slice(1) === known) return;
      restore();
      redraw();
    });
  }
}

/**
 * Set a part of the state, write the address and draw everything again.
 *
 * @param {Partial<State>} part
 */
export function change(part) {
  const before = place();
  Object.assign(state, part);
  const written = hash();
  if (written !== location.hash.slice(1)) {
    const address = `${location.href.split("#")[0]}${written ? `#${written}` : ""}`;
    if (place() === before) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
  known = location.hash.slice(1);
  redraw();
}

const place = () => JSON.stringify(STEPS.map((name) => state[name]));

/** Read the state from the address. What it leaves out, or what this page does not have, is at its first value. */
export function restore() {
  known = location.hash.slice(1);
  const read = new URLSearchParams(known);
  Object.assign(state, first());
  const operation = page?.operation;
  for (const [name, choices] of Object.entries(operation?.facets ?? {})) {
    const chosen = read.get(name);
    if (chosen !== null && choices.includes(chosen)) state.facets[name] = chosen;
  }
  for (const [word, pass] of Object.entries(PASSES)) {
    if (read.get("pass") === word && operation?.passes.includes(pass)) state.pass = pass;
  }
  const length = Number(read.get("length"));
  if (operation?.lengths.some(({ value }) => value === length)) state.length = length;
  const inputs = read.get("inputs");
  if (inputs !== null && operation?.inputs.includes(inputs)) state.inputs = inputs;
  const allowed = ALLOWED.find((choice) => allowedWord(choice) === read.get("allowed"));
  if (allowed !== undefined) state.allowed = allowed;
  const isolated = read.get("isolated");
  if (operation?.settings.some(({ rows }) => rows.some(({ attention }) => attention === isolated))) state.isolated = isolated;
  const sort = read.get("sort");
  if (sort !== null && SORTED_BY.includes(sort)) state.sort = sort;
  state.descending = read.get("descending") === "yes";
  if (read.get("measure") === "memory") state.measure = "memory";
  state.open = read.get("open");
}

/** @returns {State} */
function first() {
  const start = page?.operation?.start;
  return {
    facets: { ...start?.facets },
    pass: start?.pass ?? "forward",
    length: start?.length ?? 0,
    inputs: start?.inputs ?? "",
    allowed: 0.1,
    isolated: null,
    sort: "time",
    descending: false,
    measure: "time",
    open: null,
  };
}

/** @param {number | null} allowed */
const allowedWord = (allowed) => (allowed === null ? "any" : String(allowed));

/** The state as an address; what is at its first value is left out. */
function hash() {
  const start = first();
  const written = new URLSearchParams();
  for (const [name, choice] of Object.entries(state.facets)) {
    if (choice !== start.facets[name]) written.set(name, choice);
  }
  if (state.pass !== start.pass) written.set("pass", state.pass === "forward" ? "forward" : "training");
  if (state.length !== start.length) written.set("length", String(state.length));
  if (state.inputs !== start.inputs) written.set("inputs", state.inputs);
  if (state.allowed !== start.allowed) written.set("allowed", allowedWord(state.allowed));
  if (state.isolated !== null) written.set("isolated", state.isolated);
  if (state.sort !== start.sort) written.set("sort", state.sort);
  if (state.descending) written.set("descending", "yes");
  if (state.measure !== start.measure) written.set("measure", state.measure);
  if (state.open !== null) written.set("open", state.open);
  return written.toString();
}
