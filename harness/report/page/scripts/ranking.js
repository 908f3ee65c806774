/** The table of all attentions at the place of the bar. A row opens; the columns sort. */

import { comparisonWords, errorWords, flags } from "report/cards";
import { colourOf, inkOf } from "report/colours";
import { byId, element, setWords, svg } from "report/dom";
import { isolated } from "report/isolated_names";
import { intervalWords } from "report/method_words";
import { currentSetting, errorOf, fastestExact, isAllowed, isChosen, methods } from "report/selection";
import { change } from "report/state";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").SeriesLine} SeriesLine */
/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/dom").Child} Child */
/** @typedef {import("report/state").State} State */

/**
 * @typedef {object} Column
 * @property {string} id
 * @property {string} heading
 * @property {((row: MethodRow) => number | string | null) | null} key what the column sorts by; null does not sort
 * @property {boolean} [largestFirst] whether a larger value is better, so that the first click sorts downwards
 * @property {(row: MethodRow) => Child[]} cell
 * @property {(row: MethodRow) => string} [kind] the class of the cell
 */

const SPARK = { width: 44, height: 18 };
const BAR = { width: 46, height: 14 };
/** More rows than these are shown on request: a reader looks for the first, and a browser draws them at once. */
const FIRST_ROWS = 30;

let all = false;

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const panel = byId("ranking");
  const setting = currentSetting(data, state);
  panel.hidden = !setting || setting.rows.length + setting.withoutResult.length === 0;
  if (!setting || panel.hidden) return;
  const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.focus : undefined;
  const rows = methods(setting, state);
  const shown = columns(data, setting, rows, state);
  const sorted = sort(rows, shown.find(({ id }) => id === state.sort) ?? null, state.descending);
  const first = all ? sorted : sorted.filter((row, place) => place < FIRST_ROWS || isAskedFor(row, data, state));
  const tie = setting.tie?.explanation.words;
  const parts = [
    element("h2", { id: "ranking-title" }, `Ranking at ${setting.lengthWords} tokens, ${setting.pass}`),
    element("p", { class: "sub" }, element("span", { class: "on-screen" }, "A name opens its knobs, checks and command. "), tie),
    rows.length ? table(first, shown, setting, state) : element("p", {}, "No attention has a time here."),
    rows.length > FIRST_ROWS ? more(sorted, first, data, state) : null,
    ...footer(setting),
  ].filter((part) => part !== null);
  panel.replaceChildren(...parts);
  const again = focused && [...panel.querySelectorAll("button")].find(({ dataset }) => dataset.focus === focused);
  if (again) again.focus({ preventScroll: true });
}

/**
 * Whether a row is shown wherever it is in the order: the open one, the isolated attention, and the reader's own.
 *
 * @param {MethodRow} row
 * @param {PageData} data
 * @param {State} state
 */
function isAskedFor({ series, attention }, data, state) {
  return series === state.open || attention === state.isolated || attention === (data.operation?.yours ?? "yoso");
}

/**
 * How many rows there are, and the button that shows all of them or the first ones again. The focus goes to the first
 * row that it adds, so that who uses a keyboard or a screen reader reads on there.
 *
 * @param {MethodRow[]} sorted
 * @param {MethodRow[]} first
 * @param {PageData} data
 * @param {State} state
 */
function more(sorted, first, data, state) {
  const words = all ? `Show the first ${FIRST_ROWS}` : `Show all ${sorted.length}`;
  const button = element("button", { type: "button", class: "more", "data-focus": "more" }, words);
  button.addEventListener("click", () => {
    const added = sorted.find((row) => !first.includes(row));
    all = !all;
    draw(data, state);
    const names = [...byId("ranking").querySelectorAll("button")];
    names.find(({ dataset }) => dataset.focus === (added ? `open ${added.series}` : "more"))?.focus();
  });
  return element("p", { class: "foot" }, all ? "" : `${first.length} of ${sorted.length} attentions are shown. `, button);
}

/**
 * @param {MethodRow[]} sorted
 * @param {Column[]} shown
 * @param {Setting} setting
 * @param {State} state
 */
function table(sorted, shown, setting, state) {
  const head = element("tr", {}, ...shown.map((column) => heading(column, state)));
  const body = sorted.flatMap((row) => [line(row, shown, state), ...opened(row, shown, setting, state)]);
  const made = element(
    "table",
    { class: "ranking", "aria-labelledby": "ranking-title" },
    element("thead", {}, head),
    element("tbody", {}, ...body),
  );
  return element("div", { class: "wide" }, made);
}

/**
 * @param {Column} column
 * @param {State} state
 */
function heading({ id, heading: words, key, largestFirst = false }, state) {
  const now = state.sort === id;
  const order = now ? (state.descending ? "descending" : "ascending") : null;
  const cell = element("th", { scope: "col", class: id, "aria-sort": order });
  if (!key) {
    setWords(cell, words);
    return cell;
  }
  const button = element("button", { type: "button", "data-focus": `sort ${id}`, "data-cut": words }, words);
  button.addEventListener("click", () => change({ sort: id, descending: now ? !state.descending : largestFirst }));
  cell.append(button);
  return cell;
}

/**
 * @param {MethodRow} row
 * @param {Column[]} shown
 * @param {State} state
 */
function line(row, shown, state) {
  const cells = shown.map((column) => {
    const kind = [column.id, column.kind?.(row)].filter(Boolean).join(" ");
    return element("td", { class: kind, "data-label": isolated(column.heading) }, ...column.cell(row));
  });
  const kind = state.isolated === row.attention ? "row isolated" : "row";
  return element("tr", { class: kind, "data-attention": row.attention }, ...cells);
}

/**
 * @param {PageData} data
 * @param {Setting} setting
 * @param {MethodRow[]} rows
 * @param {State} state
 * @returns {Column[]}
 */
function columns(data, setting, rows, state) {
  const lines = (data.operation?.lines ?? []).filter(({ facets, pass }) => pass === state.pass && isChosen(facets, state));
  const spark = sparklines(lines, state);
  const mark = intervals(rows, fastestExact(setting, state));
  const task = rows.find(({ score }) => score)?.score?.task ?? "";
  /** @type {Column[]} */
  const all = [
    {
      id: "attention",
      heading: "attention",
      key: ({ attention }) => attention,
      cell: (row) => [
        element("div", { class: "who" }, nameButton(row, state), row.knob ? element("small", { "data-cut": row.knob }, row.knob) : null),
      ],
    },
    { id: "spark", heading: "time over length", key: null, cell: (row) => [spark(row)] },
    {
      id: "time",
      heading: "time a call",
      key: ({ time }) => time.value,
      kind: ({ disturbance }) => (disturbance ? "bad" : ""),
      cell: (row) => [
        element("span", { "data-tip": `${row.time.words} ${row.time.interval}`.trim() }, row.time.words),
        mark(row),
        row.disturbance ? element("span", { class: "hidden-text" }, `disturbed: ${row.disturbance}`) : null,
      ],
    },
    {
      id: "ratio",
      heading: setting.reference ? `ratio to ${setting.reference}` : "ratio",
      key: ({ ratio }) => ratio?.value ?? null,
      kind: ({ ratio, order }) => (ratio && order !== "tied" && order !== "same kernel" ? "" : "missing"),
      cell: (row) => ratioCell(row),
    },
    {
      id: "error",
      heading: "error",
      key: (row) => errorOf(row, state)?.worst.value ?? null,
      kind: (row) => (errorOf(row, state) ? (isAllowed(row, state) ? "" : "bad") : "missing"),
      cell: (row) => errorCell(row, state),
    },
    {
      id: "memory",
      heading: "peak memory",
      key: ({ memory }) => memory?.value ?? null,
      kind: ({ memory }) => (memory ? "" : "missing"),
      cell: ({ memory }) => [memory?.words ?? "not measured"],
    },
    {
      id: "score",
      heading: task,
      key: ({ score }) => score?.mean.value ?? null,
      largestFirst: true,
      kind: ({ score }) => (score ? "" : "missing"),
      cell: ({ score }) => (score ? [score.mean.words] : ["–", element("span", { class: "hidden-text" }, "not trained")]),
    },
    {
      id: "samples",
      heading: "samples",
      key: ({ samples }) => samples,
      largestFirst: true,
      cell: ({ samples }) => [String(samples)],
    },
  ];
  const filled = {
    spark: lines.some(({ points }) => points.length > 1),
    ratio: rows.some(({ ratio }) => ratio),
    memory: rows.some(({ memory }) => memory),
    score: rows.some(({ score }) => score),
  };
  return all.filter(({ id }) => /** @type {Record<string, boolean>} */ (filled)[id] ?? true);
}

/**
 * @param {MethodRow} row
 * @param {State} state
 */
function nameButton(row, state) {
  const isOpen = state.open === row.series;
  const style = `color: ${inkOf(row.attention)}`;
  const button = element(
    "button",
    { type: "button", class: "name", "aria-expanded": String(isOpen), "data-focus": `open ${row.series}`, style },
    element("bdi", { class: "cut", "data-cut": row.attention }, row.attention),
  );
  button.addEventListener("click", () => change({ open: isOpen ? null : row.series }));
  return button;
}

/**
 * @param {MethodRow} row
 * @returns {Child[]}
 */
function ratioCell({ ratio, order, comparison }) {
  if (order === "same kernel" || order === "tied") return [element("span", { "data-tip": comparison }, order)];
  if (!ratio) return [element("span", { "data-tip": comparison }, "\u2013")];
  return [element("span", { "data-tip": `${ratio.words} ${ratio.interval}, ${comparison}` }, ratio.words)];
}

/**
 * @param {MethodRow} row
 * @param {State} state
 * @returns {Child[]}
 */
function errorCell(row, state) {
  const error = errorOf(row, state);
  if (!error) return ["not measured"];
  const tip = `${error.worst.words} ${error.worst.interval} (${error.of}) against ${error.reference}`;
  const words = row.exactSoftmax ? "rounding" : "own definition";
  return [element("span", { "data-tip": tip }, error.rounding ? words : error.worst.words)];
}

/**
 * What a row tells when it is open: everything that the table has no column for.
 *
 * @param {MethodRow} row
 * @param {Column[]} shown
 * @param {Setting} setting
 * @param {State} state
 */
function opened(row, shown, setting, state) {
  if (state.open !== row.series) return [];
  const others = setting.rows.filter((other) => other.attention === row.attention && other !== row);
  /** @type {[string, Child[]][]} */
  const pairs = [
    ["speed", [comparisonWords(row, setting), ", ", ...errorWords(row, state), "."]],
    ["time", [row.time.words, " ", intervalWords(row)]],
    ["knobs", [row.knobs.map(([name, words]) => `${name} ${words}`).join(", ") || "none"]],
    ["checks", [`${row.checks.passed} of ${row.checks.total} passed`]],
    ["kernel", [row.kernel]],
    ["case", [element("code", {}, row.caseId)]],
    ["command", [element("code", {}, row.command)]],
  ];
  const also = others.map((other) => {
    const words = [other.knob || other.series, ": ", other.time.words, " ", other.time.interval, ", "];
    return element("li", {}, ...words, ...errorWords(other, state));
  });
  const cell = element(
    "td",
    { colspan: shown.length },
    ...flags(row, state).map((words) => element("p", { class: "flag" }, words)),
    element("dl", {}, ...pairs.map(([name, words]) => pair(name, words))),
    also.length ? element("p", {}, "With other knobs:") : null,
    also.length ? element("ul", {}, ...also) : null,
  );
  return [element("tr", { class: "detail" }, cell)];
}

/**
 * @param {string} name
 * @param {Child[]} words
 */
const pair = (name, words) => element("div", {}, element("dt", {}, name), element("dd", {}, ...words));

/** @param {Setting} setting */
function footer(setting) {
  const floor = setting.floor;
  /** @type {Map<string, string[]>} */
  const byStatus = new Map();
  for (const { status, attention } of setting.withoutResult) {
    byStatus.set(status, [...new Set([...(byStatus.get(status) ?? []), attention])]);
  }
  const memory = floor?.memory ? `, ${floor.memory.words}` : "";
  const without = [...byStatus].map(([status, names]) => `${status}: ${names.join(", ")}`).join("; ");
  return [
    floor ? `Floor, a call without any attention: ${floor.time.words}${memory}.` : "",
    without ? `Without a result: ${without}. The reasons are in the folds.` : "",
  ].flatMap((words) => (words ? [element("p", { class: "foot" }, words)] : []));
}

/**
 * The rows in the order of a column; those without a value are last in both directions.
 *
 * @param {MethodRow[]} rows
 * @param {Column | null} column
 * @param {boolean} descending
 */
function sort(rows, column, descending) {
  const key = column?.key;
  if (!key) return rows;
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [of_a, of_b] = [key(a), key(b)];
    if (of_a === null || of_b === null) return Number(of_a === null) - Number(of_b === null);
    return sign * (of_a < of_b ? -1 : of_a > of_b ? 1 : 0);
  });
}

/**
 * Small drawings of time over length, all with the same two logarithmic axes; a dot is the length of the bar.
 *
 * @param {SeriesLine[]} lines
 * @param {State} state
 * @returns {(row: MethodRow) => Child}
 */
function sparklines(lines, state) {
  const points = lines.flatMap((line) => line.points);
  const x = logarithmic(points.map(({ length }) => length), 3, SPARK.width - 3);
  const y = logarithmic(points.map(({ time }) => time.value), SPARK.height - 3, 3);
  return (row) => {
    const found = lines.find(({ series }) => series === row.series);
    if (!found || found.points.length < 2) return null;
    const here = found.points.find(({ length }) => length === state.length);
    const path = found.points.map(({ length, time }) => `${x(length)} ${y(time.value)}`).join("L");
    const colour = colourOf(row.attention);
    return svg(
      "svg",
      { ...SPARK, viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, role: "img", "aria-label": found.comparison || "time over length" },
      svg("path", { d: `M${path}`, fill: "none", stroke: colour, "stroke-width": 1.6 }),
      here ? svg("circle", { cx: x(here.length), cy: y(here.time.value), r: 2.4, fill: colour }) : null,
    );
  };
}

/**
 * A small drawing of each time with its interval on one logarithmic axis; the line is the fastest exact attention.
 *
 * @param {MethodRow[]} rows
 * @param {MethodRow | null} exact
 * @returns {(row: MethodRow) => Child}
 */
function intervals(rows, exact) {
  const place = logarithmic(rows.flatMap(({ time }) => [time.low ?? time.value, time.high ?? time.value]), 3, BAR.width - 3);
  return ({ attention, time }) => {
    const [low, high] = [place(time.low ?? time.value), place(time.high ?? time.value)];
    const line = exact ? place(exact.time.value) : null;
    const middle = BAR.height / 2;
    return svg(
      "svg",
      { ...BAR, viewBox: `0 0 ${BAR.width} ${BAR.height}`, "aria-hidden": "true" },
      svg("line", { x1: 0, x2: BAR.width, y1: middle, y2: middle, stroke: "var(--grid)" }),
      line === null ? null : svg("line", { x1: line, x2: line, y1: 0, y2: BAR.height, stroke: "var(--axis)", "stroke-dasharray": "2 2" }),
      svg("rect", {
        x: Math.min(low, (low + high) / 2 - 1.5),
        width: Math.max(3, high - low),
        y: middle - 5,
        height: 10,
        rx: 1.5,
        fill: colourOf(attention),
      }),
    );
  };
}

/**
 * A logarithmic axis from the least value at `from` to the greatest at `to`.
 *
 * @param {number[]} values
 * @param {number} from
 * @param {number} to
 * @returns {(value: number) => number}
 */
function logarithmic(values, from, to) {
  const [least, greatest] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
  const span = Math.log(greatest / least) || 1;
  return (value) => Math.round(10 * (from + ((to - from) * Math.log(value / least)) / span)) / 10;
}
