/**
 * The data of the page, which is gzipped and in base64 in its own elements: `page` for the first screens, `panels` for
 * the plots inside the folds, `data` for the download, and `plotly`. Each is unpacked when it is needed.
 */

import { byId } from "report/dom";
import { findNames } from "report/isolated_names";

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").PanelData} PanelData */

/**
 * @param {"page" | "panels" | "data" | "plotly"} id
 * @returns {Promise<string>}
 */
export async function unpack(id) {
  const packed = Uint8Array.from(atob(byId(id).textContent ?? ""), (character) => character.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/**
 * The page's data without the panels, which are large and only drawn in folds: `loadPanels` reads them.
 *
 * @returns {Promise<PageData>}
 */
export async function loadPage() {
  const text = await unpack("page");
  const data = { ...JSON.parse(text), panels: [] };
  findNames(data, text);
  return data;
}

/** @returns {Promise<PanelData[]>} */
export async function loadPanels() {
  return JSON.parse(await unpack("panels"));
}

/**
 * Everything that the page embeds as one JSON text: the runs, the report made from them, and the page's own data.
 *
 * @returns {Promise<string>}
 */
export async function wholeText() {
  const [data, page, panels] = await Promise.all([unpack("data"), unpack("page"), unpack("panels")]);
  return `${data.slice(0, -1)}, "page": ${page.slice(0, -1)}, "panels": ${panels}}}`;
}
