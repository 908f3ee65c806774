/** Where labels go so that no two overlap: functions of boxes and text sizes alone, without the page. */

/**
 * @typedef {object} Box
 * @property {number} left
 * @property {number} top
 * @property {number} right
 * @property {number} bottom
 */

/** @typedef {{ width: number, height: number }} Size */

/**
 * @typedef {object} Anchored A label and the point that it names.
 * @property {number} x
 * @property {number} y
 * @property {Size[]} sizes The whole label, and shorter ones for where it has no room near its point.
 */

/** @typedef {{ box: Box, leader: boolean, size: number }} Beside Where a label is, and which of its sizes it has. */

/**
 * @param {Box} one
 * @param {Box} other
 */
export function overlap(one, other) {
  return one.left < other.right && one.right > other.left && one.top < other.bottom && one.bottom > other.top;
}

/** How far a label is from the middle of its point. From the second distance on it needs a line to the point. */
const DISTANCES = [11, 26, 44, 66, 92, 122];
/** Right, left, above, below and the corners: the sides that readers expect first. */
const SIDES = /** @type {const} */ ([
  [1, 0],
  [-1, 0],
  [0, -1],
  [0, 1],
  [1, -1],
  [1, 1],
  [-1, -1],
  [-1, 1],
]);

/**
 * A box beside each point, the nearest that is free; null where none is.
 *
 * @param {Anchored[]} labels The most important first: they choose first.
 * @param {Box[]} obstacles What no label may cover: marks and other text.
 * @param {Box[]} lines What a label avoids while there is room: curves, which stay readable under a label.
 * @param {Box} bounds
 * @returns {(Beside | null)[]}
 */
export function placeBeside(labels, obstacles, lines, bounds) {
  const taken = [...obstacles];
  return labels.map((label) => {
    const near = reachOf(label);
    const solid = taken.filter((box) => overlap(box, near));
    const avoided = lines.filter((box) => overlap(box, near));
    const found = nearestFree(label, [...solid, ...avoided], bounds) ?? nearestFree(label, solid, bounds);
    if (found === null) return null;
    taken.push(found.box);
    if (found.leader) taken.push(...alongLine(label, nearestPoint(found.box, label)));
    return found;
  });
}

/**
 * Where a label can be at all: of thousands of boxes only those that reach into it matter.
 *
 * @param {Anchored} label
 * @returns {Box}
 */
function reachOf({ x, y, sizes }) {
  const furthest = Math.max(...DISTANCES);
  const width = Math.max(...sizes.map((size) => size.width)) + furthest;
  const height = Math.max(...sizes.map((size) => size.height)) + furthest;
  return { left: x - width, right: x + width, top: y - height, bottom: y + height };
}

/**
 * @param {Anchored} label
 * @param {Box[]} taken
 * @param {Box} bounds
 * @returns {Beside | null}
 */
function nearestFree(label, taken, bounds) {
  const isFree = (/** @type {Box} */ box) => !taken.some((other) => overlap(box, other));
  for (const [index, distance] of DISTANCES.entries()) {
    for (const [size, extent] of label.sizes.entries()) {
      for (const [right, down] of SIDES) {
        const box = boxAt(label, extent, right, down, distance, bounds);
        const inside = box.left >= bounds.left && box.right <= bounds.right && box.top >= bounds.top;
        if (!inside || box.bottom > bounds.bottom || !isFree(box)) continue;
        const leader = index > 0;
        if (leader && !alongLine(label, nearestPoint(box, label)).every(isFree)) continue;
        return { box, leader, size };
      }
    }
  }
  return null;
}

/**
 * @param {{ x: number, y: number }} point
 * @param {Size} size
 * @param {number} right -1, 0 or 1
 * @param {number} down -1, 0 or 1
 * @param {number} distance
 * @param {Box} bounds A label above or below its point moves sideways to stay within.
 * @returns {Box}
 */
function boxAt({ x, y }, { width, height }, right, down, distance, bounds) {
  const centred = Math.max(bounds.left, Math.min(x - width / 2, bounds.right - width));
  const left = right === 0 ? centred : right > 0 ? x + distance : x - distance - width;
  const top = down === 0 ? y - height / 2 : down > 0 ? y + distance : y - distance - height;
  return { left, top, right: left + width, bottom: top + height };
}

/**
 * The point of a box that is nearest to a place.
 *
 * @param {Box} box
 * @param {{ x: number, y: number }} place
 */
export function nearestPoint(box, place) {
  return {
    x: Math.min(Math.max(place.x, box.left), box.right),
    y: Math.min(Math.max(place.y, box.top), box.bottom),
  };
}

/** How far apart the small boxes are that stand for a line, in pixels. */
const STEP = 6;

/**
 * Small boxes along a line, its first and last few pixels left out, so that they touch neither what it starts at nor
 * what it ends at.
 *
 * @param {{ x: number, y: number }} from
 * @param {{ x: number, y: number }} to
 * @returns {Box[]}
 */
export function alongLine(from, to) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const boxes = [];
  for (let at = 10; at < length - 2; at += STEP) {
    const x = from.x + ((to.x - from.x) * at) / length;
    const y = from.y + ((to.y - from.y) * at) / length;
    boxes.push({ left: x - 1, right: x + 1, top: y - 1, bottom: y + 1 });
  }
  return boxes;
}

/** @typedef {{ x: number, width: number, important: boolean }} TickLabel */
/** @typedef {{ x: number, left: number, right: number, row: number }} Stacked */

/**
 * Rows of labels beneath ticks on one line. A label starts or ends at its tick, or at the bound where it would not fit.
 * No label overlaps another. Of several ways it is the one that leaves out fewest, passes fewest labels with the line
 * from a tick down to its label, and needs fewest rows.
 *
 * @param {TickLabel[]} labels The important ones are left out last.
 * @param {{ left: number, right: number }} bounds
 * @param {number} rows The most rows.
 * @returns {({ left: number, row: number } | null)[]} In the order of `labels`; null where no row has room.
 */
export function stackBelow(labels, bounds, rows) {
  const fromLeft = labels.map((_, index) => index).sort((one, other) => xOf(labels, one) - xOf(labels, other));
  const fromRight = [...fromLeft].reverse();
  const first = (/** @type {number[]} */ order) => {
    return [true, false].flatMap((wanted) => order.filter((index) => labels[index]?.important === wanted));
  };
  // labels that start at their ticks never pass one another when the rightmost choose first, and the other way round
  const ways = [
    stack(labels, fromRight, "start", bounds, rows),
    stack(labels, fromLeft, "end", bounds, rows),
    stack(labels, first(fromRight), "start", bounds, rows),
    stack(labels, first(fromLeft), "end", bounds, rows),
  ];
  const best = ways.map((way) => ({ way, cost: costOf(way, labels) })).sort((one, other) => one.cost - other.cost)[0];
  return best ? best.way.map((place) => (place === null ? null : { left: place.left, row: place.row })) : [];
}

/**
 * @param {TickLabel[]} labels
 * @param {number} index
 */
function xOf(labels, index) {
  return labels[index]?.x ?? 0;
}

/**
 * @param {(Stacked | null)[]} way
 * @param {TickLabel[]} labels
 */
function costOf(way, labels) {
  const placed = way.filter((place) => place !== null);
  const passed = placed.reduce(
    (sum, one) => sum + placed.filter((other) => other.row < one.row && passes(one, other)).length,
    0,
  );
  const missing = way.reduce((sum, place, index) => sum + (place ? 0 : labels[index]?.important ? 1000 : 1), 0);
  return missing * 1e6 + passed * 100 + Math.max(0, ...placed.map(({ row }) => row));
}

/**
 * Whether the line down to `lower` touches the label `upper`.
 *
 * @param {Stacked} lower
 * @param {Stacked} upper
 */
function passes(lower, upper) {
  return lower.x >= upper.left - 1 && lower.x <= upper.right + 1;
}

/**
 * @param {TickLabel[]} labels
 * @param {number[]} order
 * @param {"start" | "end"} side What of a label is at its tick where there is room for either.
 * @param {{ left: number, right: number }} bounds
 * @param {number} rows
 */
function stack(labels, order, side, bounds, rows) {
  /** @type {(Stacked | null)[]} */
  const places = labels.map(() => null);
  /** @type {Stacked[]} */
  const placed = [];
  for (const index of order) {
    const label = labels[index];
    if (!label || label.width > bounds.right - bounds.left) continue;
    const sides = [label.x - 2, label.x + 2 - label.width];
    if (side === "end") sides.reverse();
    const found =
      firstFree(label, sides, placed, bounds, rows, true) ?? firstFree(label, sides, placed, bounds, rows, false);
    if (found === null) continue;
    placed.push(found);
    places[index] = found;
  }
  return places;
}

/** The least space between two labels of a row. */
const GAP = 8;

/**
 * @param {TickLabel} label
 * @param {number[]} lefts
 * @param {Stacked[]} placed
 * @param {{ left: number, right: number }} bounds
 * @param {number} rows
 * @param {boolean} clearLines Whether no line may pass a label.
 * @returns {Stacked | null}
 */
function firstFree({ x, width }, lefts, placed, bounds, rows, clearLines) {
  for (let row = 0; row < rows; row++) {
    for (const wanted of lefts) {
      const left = Math.max(bounds.left, Math.min(wanted, bounds.right - width));
      const own = { x, left, right: left + width, row };
      const free = placed.every((other) => {
        if (other.row === row) return own.left >= other.right + GAP || own.right + GAP <= other.left;
        return !clearLines || !(other.row < row ? passes(own, other) : passes(other, own));
      });
      if (free) return own;
    }
  }
  return null;
}
