/** The words of a method at a setting: its time never without its error. */

/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").ErrorAtSetting} ErrorAtSetting */

/**
 * @param {MethodRow} row
 * @param {ErrorAtSetting | null} error
 * @returns {string} Lines, the first of which is the heading.
 */
export function methodTip(row, error) {
  const lines = [
    [row.attention, row.knob].filter(Boolean).join(" · "),
    `${row.time.words} ${intervalWords(row)}`,
    error ? errorWords(error) : "error not measured on these inputs",
    row.comparison,
    row.memory ? `peak memory ${row.memory.words}` : "",
    row.kernel,
    disturbanceWords(row),
  ];
  return lines.filter(Boolean).join("\n");
}

/**
 * The interval of the time, what it is between, and how many samples it is of.
 *
 * @param {MethodRow} row
 * @param {boolean} [isShort] only intervals between several processes, whose number is an amount, say so
 */
export function intervalWords({ time, intervalScope, samples }, isShort = false) {
  const isSaid = !isShort || (intervalScope?.amounts.length ?? 0) > 0;
  const interval = [time.interval, isSaid ? intervalScope?.words : ""].filter(Boolean).join(" ");
  return [interval, samples === 1 ? "1 sample" : `${samples} samples`].filter(Boolean).join(", ");
}

/**
 * How other processes disturbed the time, as a sentence; empty where they did not.
 *
 * @param {MethodRow} row
 */
export function disturbanceWords({ disturbance }) {
  return disturbance ? `Other processes disturbed this time: ${disturbance}.` : "";
}

/** @param {ErrorAtSetting} error */
function errorWords(error) {
  const { worst, of, draws, reference, rounding } = error;
  const amount = [worst.words, worst.interval].filter(Boolean).join(" ");
  const repeated = draws > 1 ? `, ${draws} draws` : "";
  return `error ${amount}${rounding ? ", rounding only" : ""} (${of}${repeated}) against ${reference}`;
}

/** @param {ErrorAtSetting} error */
export function shortError(error) {
  return error.rounding ? `rounding (${error.worst.words})` : error.worst.words;
}
