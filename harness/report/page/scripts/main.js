/** Draws the whole page, and again after each change of the state, the window's width or its colours. */

import { draw as drawBar } from "report/bar";
import { draw as drawCards } from "report/cards";
import { assignColours } from "report/colours";
import { loadPage } from "report/data";
import { byId } from "report/dom";
import { offerDownloads } from "report/downloads";
import { draw as drawErrorTimeChart } from "report/error_time_chart";
import { draw as drawModels } from "report/models";
import { draw as drawMultiples } from "report/multiples";
import { draw as drawPanels } from "report/panels";
import { draw as drawRanking } from "report/ranking";
import { begin, state } from "report/state";
import "report/tooltip";
import { draw as drawTrained } from "report/trained";

/** @typedef {import("report/page_data").PageData} PageData */

const DRAWINGS = [
  drawBar,
  drawCards,
  drawErrorTimeChart,
  drawRanking,
  drawMultiples,
  drawTrained,
  drawModels,
  drawPanels,
];

/** @param {PageData} data */
function drawAll(data) {
  assignColours(data, state);
  for (const draw of DRAWINGS) {
    try {
      draw(data, state);
    } catch (error) {
      showError(error);
    }
  }
}

/** @param {unknown} error */
function showError(error) {
  const message = byId("error");
  message.hidden = false;
  const reason = error instanceof Error ? error.message : String(error);
  message.textContent = `Not everything could be drawn (${reason}). The text and tables in the folds are complete.`;
  console.error(error);
}

/**
 * On paper every fold is open, and everything is drawn in light colours at the paper's width.
 *
 * @param {PageData} data
 */
function followPrinting(data) {
  /** @type {HTMLDetailsElement[]} */
  let opened = [];
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    opened = [.../** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("#folds > details:not([open])"))];
    for (const fold of opened) fold.open = true;
    drawAll(data);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    for (const fold of opened) fold.open = false;
    drawAll(data);
  });
}

async function start() {
  const data = await loadPage();
  // it is open for readers without JavaScript, to whom it is the answer
  byId("summary").removeAttribute("open");
  begin(data, () => drawAll(data));
  drawAll(data);
  offerDownloads(data);
  followPrinting(data);
  let width = innerWidth;
  let pending = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => drawAll(data));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(data));
  document.documentElement.dataset.ready = "yes";
}

start().catch(showError);
