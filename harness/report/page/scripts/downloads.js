/** What the reader can take away: all data as JSON, and the place of the bar as CSV. */

import { wholeText } from "report/data";
import { byId } from "report/dom";
import { currentSetting, errorOf } from "report/selection";
import { state } from "report/state";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").Setting} Setting */

/** @param {PageData} data */
export function offerDownloads(data) {
  byId("raw-data").hidden = false;
  onFirstUse("download", async () => new Blob([await wholeText()], { type: "application/json" }));
  const table = byId("download-csv");
  table.hidden = !data.operation;
  table.addEventListener("click", () => {
    const setting = currentSetting(data, state);
    const text = setting ? csv(setting) : "";
    const name = `attentions-${state.pass === "forward" ? "forward" : "training"}-${state.length}.csv`;
    save(new Blob([text], { type: "text/csv" }), name);
  });
}

/**
 * A link whose file is made when it is first used, because the data is large.
 *
 * @param {string} id
 * @param {() => Promise<Blob>} make
 */
function onFirstUse(id, make) {
  const link = byId(id);
  if (!(link instanceof HTMLAnchorElement)) return;
  link.addEventListener("click", (event) => {
    if (link.href.startsWith("blob:")) return;
    event.preventDefault();
    void make().then((blob) => {
      link.href = URL.createObjectURL(blob);
      link.click();
    });
  });
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
}

/**
 * All methods of a setting with every digit, and with the errors on the chosen inputs.
 *
 * @param {Setting} setting
 */
function csv(setting) {
  const names = [
    "series", "attention", "pass", "length", "seconds", "low", "high", "samples", "ratio to the reference",
    "peak bytes", "error", "error of", "draws", "error against", "inputs of the error", "score", "task", "case",
  ];
  const rows = setting.rows.map((row) => {
    const error = errorOf(row, state);
    return [
      row.series, row.attention, setting.pass, setting.length, row.time.value, row.time.low, row.time.high, row.samples,
      row.ratio?.value, row.memory?.value, error?.worst.value, error?.of, error?.draws, error?.reference,
      error ? state.inputs : "", row.score?.mean.value, row.score?.task, row.caseId,
    ];
  });
  return [names, ...rows].map((cells) => cells.map(quoted).join(",")).join("\r\n") + "\r\n";
}

/**
 * A cell. Text that a spreadsheet would read as a formula gets an apostrophe.
 *
 * @param {string | number | null | undefined} value
 */
function quoted(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return `"${text.replaceAll('"', '""')}"`;
}
