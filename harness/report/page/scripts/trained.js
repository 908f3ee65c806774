/** Trained models: one row an attention with a dot for each seed, and the score over the budget of another attention. */

import { colourOf, inkOf } from "report/colours";
import { byId, element, svg } from "report/dom";
import { choice, fitting } from "report/part_choice";
import { clipped, textWidth } from "report/text_width";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").TrainedTask} TrainedTask */
/** @typedef {import("report/state").State} State */
/** @typedef {(value: number) => number} Scale */

const SIZE = 12;
const ROW = 24;
const TOP = 44;
const BOTTOM = 22;
const RADIUS = 3.6;
const GAP = 28;
/** Below this width the swaps are drawn below the rows. */
const WIDE = 480;
/** A plot narrower than this has ticks at its ends only. */
const NARROW = 110;
/** The least width of the drawing. */
const LEAST_WIDTH = 240;
const COLLISIONS = "< 1 collision";
const DASHES = ["", "5 3", "2 3", "7 3 2 3"];

/**
 * @param {PageData} data
 * @param {State} state
 */
export function draw(data, state) {
  const place = byId("trained");
  place.replaceChildren();
  const tasks = fitting(data.trained, state);
  place.hidden = tasks.length === 0;
  if (tasks.length === 0) return;
  const { part: task, list } = choice("Task", tasks, taskWords, () => draw(data, state));
  const drawing = element("div", { class: "drawing" });
  place.append(
    element("div", { class: "heading-row" }, element("h2", {}, task.heading), list),
    element("p", { class: "sub" }, task.finding.words),
    drawing,
  );
  /* after everything has been drawn, because an empty neighbour leaves its width to this panel */
  queueMicrotask(() => {
    if (drawing.isConnected) fill(task, drawing);
  });
  const rare = task.rows.some(({ rareRows }) => rareRows);
  const words = [
    "Dot: a seed. Bar: the mean.",
    task.swaps.length > 0 ? "Line: the mean over seeds." : "",
    rare ? `${COLLISIONS}: the share of rows that expect less than one collision, so that sampling often finds no key.` : "",
  ];
  place.append(element("p", { class: "foot" }, words.filter(Boolean).join(" ")));
}

/**
 * @param {TrainedTask} task
 * @param {HTMLElement} drawing
 */
function fill(task, drawing) {
  const width = Math.max(LEAST_WIDTH, drawing.clientWidth);
  const half = Math.round((width - GAP) * 0.52);
  const plot = columns(task, half);
  const beside = task.swaps.length > 0 && width >= WIDE && plot.right - plot.left >= NARROW;
  const left = beside ? half : width;
  drawing.append(element("div", { style: `width: ${left}px` }, rows(task, left)));
  if (task.swaps.length > 0) {
    const right = beside ? width - GAP - left : width;
    drawing.append(element("div", { style: `width: ${right}px` }, curves(task, right)));
  }
}

/** @param {TrainedTask} task */
const taskWords = ({ facets }) => [facets.Task, facets.Length].filter(Boolean).join(", ");

/**
 * Ticks of the axis of scores: some metrics go down to -1.
 *
 * @param {TrainedTask} task
 */
function ticks(task) {
  const all = [...task.rows, ...task.swaps.flatMap(({ points }) => points)].flatMap(({ scores }) => scores);
  return all.some(({ value }) => value < 0) ? [-1, 0, 1] : [0, 0.5, 1];
}

/**
 * @param {number[]} range
 * @param {number} from
 * @param {number} to
 * @returns {Scale}
 */
function scale(range, from, to) {
  const [low, high] = [range[0] ?? 0, range[range.length - 1] ?? 1];
  return (value) => from + ((to - from) * (value - low)) / (high - low);
}

/** @param {number} value */
const percent = (value) => `${100 * value}%`;

/**
 * The names, and where the plot between them and the columns of words begins and ends.
 *
 * @param {TrainedTask} task
 * @param {number} width
 */
function columns(task, width) {
  const names = task.rows.map(({ series }) => clipped(series, width * 0.3, SIZE, 600));
  const means = task.rows.map(({ mean }) => mean.words);
  const rare = task.rows.some(({ rareRows }) => rareRows);
  const nameWidth = Math.max(...names.map((name) => textWidth(name, SIZE, 600))) + 14;
  const meanWidth = Math.max(...means.map((words) => textWidth(words, SIZE))) + 14;
  const rareWidth = rare ? textWidth(COLLISIONS, SIZE) + 14 : 0;
  return { names, rare, meanWidth, left: nameWidth, right: width - meanWidth - rareWidth };
}

/**
 * @param {TrainedTask} task
 * @param {number} width
 */
function rows(task, width) {
  const { names, rare, meanWidth, left, right } = columns(task, width);
  const range = ticks(task);
  const shown = right - left < NARROW ? [range[0] ?? 0, range[range.length - 1] ?? 1] : range;
  const x = scale(range, left, right - RADIUS);
  const bottom = TOP + ROW * task.rows.length;
  const label = `${task.heading}, trained and tested with the same attention: the ${task.metric} of each seed`;
  const chart = svg(
    "svg",
    { width, height: bottom + BOTTOM, viewBox: `0 0 ${width} ${bottom + BOTTOM}`, role: "group", "aria-label": label },
    text(0, 13, "Trained and tested with", { "font-weight": 600 }),
    rare && text(width, 13, COLLISIONS, { class: "soft", "text-anchor": "end" }),
    ...range.map((value) => grid({ x1: x(value), x2: x(value), y1: TOP - 6, y2: bottom })),
    ...shown.map((value) =>
      text(x(value), bottom + 15, percent(value), { class: "soft", "text-anchor": value === range[0] ? "start" : "middle" }),
    ),
  );
  if (task.chance) {
    const words = `guess ${task.chance.words}`;
    const at = x(task.chance.value);
    const fits = at + textWidth(words, SIZE) < right;
    chart.append(
      chanceLine({ x1: at, x2: at, y1: TOP - 8, y2: bottom }),
      text(at, TOP - 12, words, { class: "bad", "text-anchor": fits ? "start" : "end" }),
    );
  }
  task.rows.forEach((row, i) => {
    const y = TOP + ROW * (i + 0.5);
    const colour = colourOf(row.attention);
    const rareWords = row.rareRows ? `, ${row.rareRows.words} of its rows expect less than one collision` : "";
    const seeds = row.scores.map(({ words }) => words).join(", ");
    const tip = `${row.series}: mean ${row.mean.words} ${row.mean.interval}; seeds ${seeds}${rareWords}`;
    chart.append(
      svg(
        "g",
        { class: "mark", tabindex: 0, role: "img", "aria-label": tip, "data-tip": tip },
        svg("rect", { x: 0, y: y - ROW / 2, width, height: ROW, fill: "transparent" }),
        text(0, y + 4, names[i] ?? "", { "font-weight": 600, style: `fill: ${inkOf(row.attention)}` }),
        line({ x1: x(Math.min(0, range[0] ?? 0)), x2: x(row.mean.value), y1: y, y2: y, stroke: colour, "stroke-width": 6, "stroke-opacity": 0.25 }),
        line({ x1: x(row.mean.value), x2: x(row.mean.value), y1: y - 8, y2: y + 8, stroke: colour, "stroke-width": 2 }),
        ...dots(row.scores.map(({ value }) => x(value)), y, colour),
        text(right + meanWidth - 2, y + 4, row.mean.words, { "text-anchor": "end" }),
        row.rareRows && text(width, y + 4, row.rareRows.words, { class: "soft", "text-anchor": "end" }),
      ),
    );
  });
  return chart;
}

/**
 * Dots in one row; those at the same place are stacked.
 *
 * @param {number[]} places
 * @param {number} y
 * @param {string} colour
 */
function dots(places, y, colour) {
  const stacks = new Map();
  for (const x of places) stacks.set(Math.round(x / RADIUS), [...(stacks.get(Math.round(x / RADIUS)) ?? []), x]);
  return [...stacks.values()].flatMap((/** @type {number[]} */ stack) => {
    const step = Math.min(5, (ROW - 2 * RADIUS) / Math.max(1, stack.length - 1));
    return stack.map((x, i) => dot(x, y + (i - (stack.length - 1) / 2) * step, RADIUS, colour, 1));
  });
}

/**
 * @param {TrainedTask} task
 * @param {number} width
 */
function curves(task, width) {
  const [first] = task.swaps;
  if (!first) return null;
  const single = task.swaps.length === 1;
  const sameBudget = task.swaps.every(({ budget }) => budget === first.budget);
  const names = task.swaps.map(({ trainedWith, testedWith }) =>
    single ? "" : clipped(`${trainedWith} → ${testedWith}`, width * 0.36, SIZE, 600),
  );
  const nameWidth = single ? 10 : Math.max(...names.map((name) => textWidth(name, SIZE, 600))) + 12;
  const height = Math.min(8, Math.max(4, task.rows.length)) * ROW;
  const [left, right, bottom] = [42, width - nameWidth, TOP + height];
  const range = ticks(task);
  const y = scale(range, bottom, TOP);
  const budgets = task.swaps.flatMap(({ points }) => points.map(({ budget }) => budget));
  const values = budgets.map(({ value }) => Math.log(value));
  const x = scale([Math.min(...values), Math.max(...values)], left + 6, right - 6);
  const full = `Trained with ${first.trainedWith}, tested with ${first.testedWith}`;
  const short = `Trained → tested: ${first.trainedWith} → ${first.testedWith}`;
  const title = !single ? "Trained → tested with" : textWidth(full, SIZE, 600) <= width ? full : short;
  const shownTitle = clipped(title, width, SIZE, 600);
  const axis = sameBudget ? `${first.budget} at test time` : "budget at test time";
  const chart = svg(
    "svg",
    {
      width, height: bottom + BOTTOM + 16, viewBox: `0 0 ${width} ${bottom + BOTTOM + 16}`,
      role: "group", "aria-label": `${task.heading}: ${title}, over ${axis}`,
    },
    text(0, 13, shownTitle, { "font-weight": 600, ...(shownTitle === title ? {} : { "data-tip": title, role: "img", "aria-label": title }) }),
    ...range.map((value) => grid({ x1: left, x2: right, y1: y(value), y2: y(value) })),
    ...range.map((value) => text(left - 6, y(value) + 4, percent(value), { class: "soft", "text-anchor": "end" })),
    task.chance && chanceLine({ x1: left, x2: right, y1: y(task.chance.value), y2: y(task.chance.value) }),
    ...budgetTicks(budgets, x, bottom),
    text(left, bottom + 32, axis, { class: "soft" }),
  );
  const ends = task.swaps.map(({ points }) => y(points[points.length - 1]?.mean.value ?? 0));
  const places = spread(ends, 15, TOP, bottom);
  const trainedAlike = task.swaps.every(({ trainedWith }) => trainedWith === first.trainedWith);
  task.swaps.forEach((curve, i) => {
    const who = trainedAlike ? curve.testedWith : curve.trainedWith;
    const attention = who.split(" (")[0] ?? who;
    const colour = colourOf(attention);
    const words = curve.points.map(({ budget, mean }) => `${budget.words} ${curve.budget} ${mean.words}`).join(", ");
    const about = `trained with ${curve.trainedWith}, tested with ${curve.testedWith}: ${words}`;
    const path = curve.points.map(({ budget, mean }) => `${x(Math.log(budget.value))} ${y(mean.value)}`).join("L");
    const alike = task.swaps.slice(0, i).filter((other) => colourOf(trainedAlike ? other.testedWith : other.trainedWith) === colour);
    chart.append(
      svg(
        "g",
        { class: "mark", tabindex: 0, role: "img", "aria-label": about, "data-tip": about },
        ...curve.points.flatMap(({ budget, scores }) =>
          scores.map((score) => dot(x(Math.log(budget.value)), y(score.value), 3, colour, 0.55)),
        ),
        svg("path", { d: `M${path}`, fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": DASHES[alike.length % DASHES.length] }),
        text(right + 4, (places[i] ?? 0) + 4, names[i] ?? "", { "font-weight": 600, style: `fill: ${inkOf(attention)}` }),
      ),
    );
  });
  return chart;
}

/**
 * A tick at each budget that has room for its words.
 *
 * @param {import("report/page_data").Amount[]} budgets
 * @param {Scale} x
 * @param {number} bottom
 */
function budgetTicks(budgets, x, bottom) {
  const distinct = [...new Map(budgets.map((budget) => [budget.value, budget])).values()].sort((a, b) => a.value - b.value);
  const [first, last] = [distinct[0], distinct[distinct.length - 1]];
  /** @type {import("report/page_data").Amount[]} */
  const kept = [];
  const room = (/** @type {import("report/page_data").Amount} */ a, /** @type {import("report/page_data").Amount} */ b) =>
    x(Math.log(b.value)) - x(Math.log(a.value)) > (textWidth(a.words, SIZE) + textWidth(b.words, SIZE)) / 2 + 6;
  for (const budget of distinct) {
    const before = kept[kept.length - 1];
    const fits = !before || room(before, budget);
    if (budget === first || budget === last || (fits && last && room(budget, last))) {
      if (budget === last && before && before !== first && !fits) kept.pop();
      kept.push(budget);
    }
  }
  return kept.map((budget) => text(x(Math.log(budget.value)), bottom + 15, budget.words, { class: "soft", "text-anchor": "middle" }));
}

/**
 * Places near `wanted`, at least `gap` apart, between `low` and `high` as far as they fit. The order stays.
 *
 * @param {number[]} wanted
 * @param {number} gap
 * @param {number} low
 * @param {number} high
 */
function spread(wanted, gap, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => (wanted[a] ?? 0) - (wanted[b] ?? 0));
  const places = wanted.slice();
  let next = low;
  for (const i of order) {
    places[i] = Math.max(places[i] ?? low, next);
    next = (places[i] ?? low) + gap;
  }
  next = high;
  for (const i of order.reverse()) {
    places[i] = Math.min(places[i] ?? high, next);
    next = (places[i] ?? high) - gap;
  }
  return places;
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} words
 * @param {Record<string, string | number>} [attributes]
 */
function text(x, y, words, attributes = {}) {
  return svg("text", { x, y, "font-size": SIZE, ...attributes }, words);
}

/** @param {Record<string, string | number>} attributes */
const line = (attributes) => svg("line", attributes);

/** @param {Record<string, number>} ends */
const grid = (ends) => line({ ...ends, stroke: "var(--grid)" });

/** @param {Record<string, number>} ends */
const chanceLine = (ends) => line({ ...ends, stroke: "var(--bad)", "stroke-dasharray": "3 3" });

/**
 * @param {number} cx
 * @param {number} cy
 * @param {number} r
 * @param {string} fill
 * @param {number} opacity
 */
const dot = (cx, cy, r, fill, opacity) => svg("circle", { cx, cy, r, fill, "fill-opacity": opacity, stroke: "var(--card)" });
