/** Pointer and keyboard on the chart of error against time: point at a method, step from mark to mark, isolate one. */

import { change, state as now } from "report/state";

/** @param {HTMLElement} figure */
export function listen(figure) {
  const marks = /** @type {SVGGElement[]} */ ([...figure.querySelectorAll(".mark")]);
  const found = (/** @type {Event} */ event) => /** @type {Element} */ (event.target).closest("[data-attention]");
  const isolate = (/** @type {Element} */ which) => {
    const attention = which.getAttribute("data-attention");
    change({ isolated: attention === now.isolated ? null : attention });
  };
  const raise = (/** @type {Element | null} */ which) => {
    const attention = which?.getAttribute("data-attention");
    for (const one of figure.querySelectorAll("[data-attention]")) {
      one.classList.toggle("raised", one.getAttribute("data-attention") === attention);
    }
  };
  figure.addEventListener("click", (event) => {
    const which = found(event);
    if (which) isolate(which);
  });
  figure.addEventListener("pointerover", (event) => raise(found(event)));
  figure.addEventListener("pointerleave", () => raise(null));
  figure.addEventListener("focusin", (event) => raise(found(event)));
  figure.addEventListener("focusout", () => raise(null));
  figure.addEventListener("keydown", (event) => {
    const at = marks.findIndex((one) => one === document.activeElement);
    const steps = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: marks.length - 1,
    };
    const focused = marks[at];
    if (!focused) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      isolate(focused);
    } else if (event.key in steps) {
      event.preventDefault();
      const next = marks[steps[/** @type {keyof typeof steps} */ (event.key)]];
      if (!next) return;
      focused.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    }
  });
}

/**
 * @param {Element} figure
 * @param {string} key
 * @returns {SVGGElement | null}
 */
export function markOf(figure, key) {
  return figure.querySelector(`.mark[data-key="${CSS.escape(key)}"]`);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && now.isolated !== null) change({ isolated: null });
});
