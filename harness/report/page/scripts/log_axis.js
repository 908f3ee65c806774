/** A logarithmic axis: from values to pixels, and ticks at round values. Both charts of the page use it. */

/**
 * @typedef {object} LogAxis
 * @property {number} low
 * @property {number} high
 * @property {(value: number) => number} place The pixel of a value; values outside are kept at the ends.
 */

/** Any interval this wide contains two of 1, 2, 5, 10, 20, 50 and so on, so that no axis has fewer than two ticks. */
const LEAST_RATIO = 5;
/** Beyond these a quotient of two values, or a margin, would not be a number. */
const [LEAST, GREATEST] = [1e-150, 1e150];

/**
 * An axis that contains all `values`, with a margin.
 *
 * @param {number[]} values Positive numbers; others cannot be on a logarithmic axis and are left out.
 * @param {number} start The pixel of the low end.
 * @param {number} end The pixel of the high end.
 * @param {number} margin The factor by which the axis goes beyond the values on either side.
 * @returns {LogAxis}
 */
export function logAxis(values, start, end, margin = 1) {
  let low = Infinity;
  let high = 0;
  for (const value of values) {
    if (!(value > 0) || !Number.isFinite(value)) continue;
    const kept = Math.min(Math.max(value, LEAST), GREATEST);
    low = Math.min(low, kept);
    high = Math.max(high, kept);
  }
  if (high === 0) [low, high] = [1, 1];
  low /= margin;
  high *= margin;
  const missing = LEAST_RATIO / (high / low);
  if (missing > 1) {
    low /= Math.sqrt(missing);
    high *= Math.sqrt(missing);
  }
  const place = (/** @type {number} */ value) => {
    const share = Math.log(Math.min(Math.max(value, low), high) / low) / Math.log(high / low);
    return start + (end - start) * share;
  };
  return { low, high, place };
}

/**
 * Round values on the axis, at most `most` of them where that leaves two.
 *
 * @param {LogAxis} axis
 * @param {number} most
 * @param {"decimal" | "binary"} numbers Binary ticks are powers of two, for sizes in bytes.
 * @returns {number[]}
 */
export function logTicks(axis, most, numbers = "decimal") {
  const base = numbers === "decimal" ? 10 : 2;
  let best = multiples(axis, base, numbers === "decimal" ? [1, 2, 5] : [1]);
  let sparser = numbers === "decimal" ? multiples(axis, base, [1, 3]) : best;
  for (let power = 1; best.length > Math.max(2, most) && sparser.length >= 2; power++) {
    best = sparser;
    sparser = multiples(axis, base ** power, [1]);
  }
  return best.length > Math.max(2, most) ? [...best.slice(0, 1), ...best.slice(-1)] : best;
}

/**
 * @param {LogAxis} axis
 * @param {number} base
 * @param {number[]} steps
 */
function multiples(axis, base, steps) {
  const found = [];
  const first = Math.floor(Math.log(axis.low) / Math.log(base)) - 1;
  const last = Math.ceil(Math.log(axis.high) / Math.log(base));
  for (let exponent = first; exponent <= last; exponent++) {
    for (const step of steps) {
      const value = Number((step * base ** exponent).toPrecision(12));
      if (value >= axis.low && value <= axis.high) found.push(value);
    }
  }
  return found;
}

const TIMES = /** @type {const} */ ([
  [1, "s"],
  [1e-3, "ms"],
  [1e-6, "µs"],
  [1e-9, "ns"],
]);
const SIZES = /** @type {const} */ ([
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
  [1, "B"],
]);

/**
 * The words of a tick. A tick is a round number that nobody measured, so it is the one number that a script words.
 *
 * @param {number} value
 * @param {"s" | "B" | "fraction"} unit
 */
export function tickWords(value, unit) {
  if (unit === "fraction") return value < 1e-4 ? value.toExponential(0) : `${round(value * 100)}%`;
  const units = unit === "s" ? TIMES : SIZES;
  const [size, name] = units.find(([size]) => value >= size * 0.9995) ?? units[units.length - 1] ?? [1, ""];
  return `${round(value / size)} ${name}`;
}

/**
 * All digits of a number that has few, else a power.
 *
 * @param {number} value
 */
function round(value) {
  const rounded = Number(value.toPrecision(6));
  if (rounded >= 1e-3 && rounded < 1e6) return rounded.toLocaleString("en-US", { maximumFractionDigits: 6 });
  return Number(value.toPrecision(3)).toExponential().replace("+", "");
}
