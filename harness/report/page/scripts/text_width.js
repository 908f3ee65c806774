/** How wide a text is, so that labels can be placed and shortened before they are drawn. */

/** @type {CanvasRenderingContext2D | null} */
let canvas = null;

/**
 * The width in pixels of `words` in the page's font.
 *
 * @param {string} words
 * @param {number} size  in pixels
 * @param {number} [weight]
 */
export function textWidth(words, size, weight = 400) {
  canvas ??= document.createElement("canvas").getContext("2d");
  if (!canvas) return words.length * size * 0.6;
  canvas.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  return canvas.measureText(words).width;
}

/**
 * `words`, cut at the end with an ellipsis where they are wider than `width` pixels.
 *
 * @param {string} words
 * @param {number} width
 * @param {number} size
 * @param {number} [weight]
 */
export function shortened(words, width, size, weight = 400) {
  if (textWidth(words, size, weight) <= width) return words;
  let end = words.length - 1;
  while (end > 1 && textWidth(`${words.slice(0, end)}…`, size, weight) > width) end -= 1;
  return `${words.slice(0, end)}…`;
}

/**
 * Places for labels near `wanted`, at least `gap` apart, between `low` and `high` as far as they fit. The order stays.
 *
 * @param {number[]} wanted
 * @param {number} gap
 * @param {number} low
 * @param {number} high
 */
export function spread(wanted, gap, low, high) {
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
