/** The bar of filters, which stays at the top of the window and which everything below obeys. */

import { byId, element } from "report/dom";
import { ALLOWED, change } from "report/state";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").OperationData} OperationData */
/** @typedef {import("report/state").State} State */

/**
 * @typedef {object} Choice
 * @property {string} value
 * @property {string} words
 * @property {boolean} [marked]  with a dot: errors were measured there
 */

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {string} legend
 * @property {Choice[]} choices
 * @property {(state: State) => string} current
 * @property {(value: string) => void} choose
 */

/** More choices than this are a list to choose from and not buttons side by side. */
const MOST_BUTTONS = 10;
/** The words of all buttons of a field together have at most this many characters. */
const MOST_CHARACTERS = 72;

/** @type {Field[] | null} */
let fields = null;

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const operation = data.operation;
  if (!operation) return;
  if (!fields) {
    fields = allFields(operation, state).filter(({ choices }) => choices.length > 1);
    build(fields);
  }
  for (const field of fields) show(field, state);
  const open = byId("filters");
  const current = fields.map((field) => words(field, state));
  open.replaceChildren(element("span", {}, current.join(" · ")), element("span", { class: "soft" }, "change"));
}

/**
 * @param {OperationData} operation
 * @param {State} state
 * @returns {Field[]}
 */
function allFields(operation, state) {
  const facets = Object.entries(operation.facets).map(([name, choices]) => ({
    name: `facet-${name}`,
    legend: name,
    choices: choices.map((value) => ({ value, words: value })),
    current: (/** @type {State} */ now) => now.facets[name] ?? "",
    choose: (/** @type {string} */ value) => change({ facets: nearest(operation, state, name, value) }),
  }));
  return [
    ...facets,
    {
      name: "pass",
      legend: "Pass",
      choices: operation.passes.map((value) => ({ value, words: value })),
      current: ({ pass }) => pass,
      choose: (value) => change({ pass: value === "forward" ? "forward" : "forward + backward" }),
    },
    {
      name: "length",
      legend: "Length",
      choices: operation.lengths.map(({ value, words: length, hasErrors }) => ({
        value: String(value),
        words: length,
        marked: hasErrors,
      })),
      current: ({ length }) => String(length),
      choose: (value) => change({ length: Number(value) }),
    },
    {
      name: "inputs",
      legend: "Inputs of errors",
      choices: operation.inputs.map((value) => ({ value, words: value })),
      current: ({ inputs }) => inputs,
      choose: (value) => change({ inputs: value }),
    },
    {
      name: "allowed",
      legend: "Error allowed",
      choices: ALLOWED.map((allowed) => ({ value: String(allowed), words: allowedWords(allowed) })),
      current: ({ allowed }) => String(allowed),
      choose: (value) => change({ allowed: value === "null" ? null : Number(value) }),
    },
  ];
}

/**
 * The facets with a new value of one of them. Where nothing was measured with all of them (another run is on another
 * device), the others change to those that agree most.
 *
 * @param {OperationData} operation
 * @param {State} state
 * @param {string} name
 * @param {string} value
 */
function nearest(operation, state, name, value) {
  const wanted = Object.entries({ ...state.facets, [name]: value });
  const agreeing = (/** @type {Record<string, string>} */ facets) => wanted.filter(([one, of]) => facets[one] === of).length;
  const measured = operation.settings.map(({ facets }) => facets).filter((facets) => facets[name] === value);
  const [first, ...others] = measured;
  return { ...others.reduce((best, facets) => (agreeing(facets) > agreeing(best) ? facets : best), first ?? state.facets) };
}

/** @param {number | null} allowed */
export function allowedWords(allowed) {
  return allowed === null ? "any" : `${100 * allowed}%`;
}

/** @param {Field[]} built */
function build(built) {
  const bar = byId("bar");
  const form = byId("choices");
  form.replaceChildren(...built.map((field) => (isList(field) ? list(field) : buttons(field))));
  if (built.some(({ choices }) => choices.some(({ marked }) => marked))) {
    form.append(element("span", { class: "key" }, "• errors of estimates measured"));
  }
  const open = byId("filters");
  open.addEventListener("click", () => {
    open.setAttribute("aria-expanded", String(bar.classList.toggle("open")));
  });
  bar.hidden = false;
}

/** @param {Field} field */
function isList({ choices }) {
  const characters = choices.reduce((sum, { words: choice }) => sum + choice.length, 0);
  return choices.length > MOST_BUTTONS || characters > MOST_CHARACTERS;
}

/** @param {Field} field */
function list({ name, legend, choices, choose }) {
  const options = choices.map(({ value, words: choice, marked }) => {
    return element("option", { value }, marked ? `${choice} •` : choice);
  });
  const select = element("select", { name }, ...options);
  select.addEventListener("change", () => choose(select.value));
  return element("label", { class: "field" }, element("span", { class: "soft" }, legend), select);
}

/** @param {Field} field */
function buttons({ name, legend, choices, choose }) {
  const labels = choices.map(({ value, words: choice, marked }) => {
    const input = element("input", { type: "radio", name, value });
    input.addEventListener("change", () => choose(value));
    const hint = marked ? element("span", { class: "hidden-text" }, ", errors measured") : null;
    return element("label", {}, input, element("span", { class: marked ? "marked" : null }, choice, hint));
  });
  const group = element("div", { class: "segments" }, ...labels);
  return element("fieldset", { class: "field" }, element("legend", { class: "soft" }, legend), group);
}

/**
 * @param {Field} field
 * @param {State} state
 */
function show({ name, current }, state) {
  const value = current(state);
  for (const control of byId("choices").querySelectorAll("input, select")) {
    if (control instanceof HTMLInputElement && control.name === name) control.checked = control.value === value;
    if (control instanceof HTMLSelectElement && control.name === name) control.value = value;
  }
}

/**
 * The choice in words, for the button that stands for the bar on a phone.
 *
 * @param {Field} field
 * @param {State} state
 */
function words({ name, choices, current }, state) {
  const chosen = choices.find(({ value }) => value === current(state))?.words ?? "";
  if (name === "allowed") return `error ${chosen === "any" ? "any" : `≤ ${chosen}`}`;
  return name === "length" ? `${chosen} tokens` : chosen;
}
