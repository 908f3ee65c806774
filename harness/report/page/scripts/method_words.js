/** The words of a method at a setting: its time never without its error. */

/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").ErrorAtSetting} ErrorAtSetting */

/**
 * @param {MethodRow} row
 * @param {ErrorAtSetting | null} error
 * @returns {string} Lines, the first of which is the heading.
 */
export function methodTip(row, error) {
  const time = [row.time.words, row.time.interval].filter(Boolean).join(" ");
  const lines = [
    [row.attention, row.knob].filter(Boolean).join(" · "),
    `${time}, ${row.samples} sample${row.samples === 1 ? "" : "s"}`,
    error ? errorWords(error) : "error not measured on these inputs",
    row.comparison,
    row.memory ? `peak memory ${row.memory.words}` : "",
    row.kernel,
    row.disturbance ?? "",
  ];
  return lines.filter(Boolean).join("\n");
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
