/**
 * The text of an element's `data-tip`, shown beside it while the pointer or the keyboard's focus is on it; of an element
 * with `data-cut`, that text where the element has no room for all of it.
 *
 * The first line of several is the heading. The tip is kept inside the window, stays while the pointer is on the tip
 * itself, so that its text can be read under magnification and be selected, and Escape closes it.
 */

import { element } from "report/dom";

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Box */

const DISTANCE = 10;
const MARGIN = 6;
/** Time for the pointer to get from the element to its tip. */
const GRACE_MS = 180;

/** @type {HTMLElement | null} */
let tip = null;
/** @type {Element | null} */
let owner = null;
let closing = 0;

/** @param {Element} found */
function open(found) {
  clearTimeout(closing);
  const text = tipOf(found);
  if (found === owner || text === "") return;
  close();
  tip ??= document.body.appendChild(element("div", { id: "tip", role: "tooltip" }));
  const [heading, ...rest] = text.split("\n");
  // each line has its own direction, so that a name in Arabic or Hebrew does not reorder the numbers beside it
  const lines = [element(rest.length ? "strong" : "span", { dir: "auto" }, heading)];
  for (const line of rest) lines.push(element("span", { dir: "auto" }, line));
  tip.replaceChildren(...lines);
  tip.hidden = false;
  owner = found;
  found.setAttribute("aria-describedby", "tip");
  const place = placeTip(found.getBoundingClientRect(), tip.getBoundingClientRect(), {
    width: document.documentElement.clientWidth,
    height: innerHeight,
  });
  tip.style.left = `${place.left}px`;
  tip.style.top = `${place.top}px`;
}

/** @param {Element} found */
function tipOf(found) {
  const isCut = found.scrollWidth > found.clientWidth;
  return found.getAttribute("data-tip") ?? (isCut ? found.getAttribute("data-cut") : null) ?? "";
}

function closeSoon() {
  clearTimeout(closing);
  closing = window.setTimeout(close, GRACE_MS);
}

function close() {
  clearTimeout(closing);
  owner?.removeAttribute("aria-describedby");
  owner = null;
  if (tip) tip.hidden = true;
}

/**
 * Below the element, or above it where there is no room below, or at the window's edge where there is none either;
 * never beyond the window's edges.
 *
 * @param {Box} target
 * @param {{ width: number, height: number }} size
 * @param {{ width: number, height: number }} window
 */
export function placeTip(target, size, window) {
  const centred = (target.left + target.right - size.width) / 2;
  const below = target.bottom + DISTANCE;
  const above = target.top - DISTANCE - size.height;
  const top = below + size.height <= window.height - MARGIN ? below : above;
  return {
    left: Math.max(MARGIN, Math.min(centred, window.width - MARGIN - size.width)),
    top: Math.max(MARGIN, Math.min(top, window.height - MARGIN - size.height)),
  };
}

// one set of listeners for the whole page, so that elements that are drawn later have tips, too
document.addEventListener("pointerover", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (tip?.contains(target)) {
    clearTimeout(closing);
    return;
  }
  const found = target.closest("[data-tip], [data-cut]");
  if (found) open(found);
  else if (owner) closeSoon();
});
document.addEventListener("pointerout", (event) => {
  if (owner && event.relatedTarget === null) closeSoon();
});
document.addEventListener("focusin", (event) => {
  const target = /** @type {Element} */ (event.target);
  const found = target.closest("[data-tip], [data-cut]") ?? target.querySelector("[data-cut]");
  if (found && target.matches(":focus-visible")) open(found);
  else close();
});
document.addEventListener("focusout", () => close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
});
addEventListener("scroll", () => close(), { passive: true, capture: true });
