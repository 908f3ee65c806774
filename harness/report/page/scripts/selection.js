/** Which of the measured rows the bar selects. */

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").ErrorAtSetting} ErrorAtSetting */
/** @typedef {import("report/state").State} State */

/**
 * Whether everything that `facets` names is as the bar has chosen.
 *
 * @param {Record<string, string>} facets
 * @param {State} state
 */
export function isChosen(facets, state) {
  return Object.entries(facets).every(([name, value]) => (state.facets[name] ?? value) === value);
}

/**
 * What was measured at the place of the bar; null where nothing was.
 *
 * @param {PageData} data
 * @param {State} state
 * @returns {Setting | null}
 */
export function currentSetting(data, state) {
  const found = data.operation?.settings.find(
    ({ facets, pass, length }) => pass === state.pass && length === state.length && isChosen(facets, state),
  );
  return found ?? null;
}

/**
 * Whether any attention has a time at any place of the bar.
 *
 * @param {PageData} data
 */
export function hasTime(data) {
  return (data.operation?.settings ?? []).some(({ rows }) => rows.length > 0);
}

/**
 * The error on the chosen kind of inputs; null where it was not measured.
 *
 * @param {MethodRow} row
 * @param {State} state
 * @returns {ErrorAtSetting | null}
 */
export function errorOf(row, state) {
  return row.errors[state.inputs] ?? null;
}

/**
 * Whether the row may be chosen: its error was measured and is within the allowed one, or any error is allowed.
 *
 * @param {MethodRow} row
 * @param {State} state
 */
export function isAllowed(row, state) {
  if (state.allowed === null) return true;
  const error = errorOf(row, state);
  return error !== null && error.worst.value <= state.allowed;
}

/**
 * One row for each attention, the fastest first. Of several knobs it is the fastest within the allowed error; where
 * none is, what the attention does by default.
 *
 * @param {Setting} setting
 * @param {State} state
 * @returns {MethodRow[]}
 */
export function methods(setting, state) {
  /** @type {Map<string, MethodRow[]>} */
  const byAttention = new Map();
  for (const row of setting.rows) {
    byAttention.set(row.attention, [...(byAttention.get(row.attention) ?? []), row]);
  }
  const chosen = [...byAttention.values()].flatMap((rows) => {
    const usual = rows.find(({ isDefault }) => isDefault) ?? fastest(rows);
    const allowed = state.allowed === null ? usual : fastestComparable(rows.filter((row) => isAllowed(row, state)));
    return allowed ?? usual ?? [];
  });
  return chosen.sort((a, b) => a.time.value - b.time.value);
}

/**
 * @param {MethodRow[]} rows
 * @returns {MethodRow | null}
 */
export function fastest(rows) {
  return rows.reduce((/** @type {MethodRow | null} */ best, row) => {
    return best !== null && best.time.value <= row.time.value ? best : row;
  }, null);
}

/**
 * Whether other times can be compared with this one: no other processes disturbed it, and it was taken more than once.
 *
 * @param {MethodRow} row
 */
export function isComparable(row) {
  return row.disturbance === null && row.time.low !== undefined;
}

/**
 * The fastest of the rows whose times can be compared; of all rows where there are none.
 *
 * @param {MethodRow[]} rows
 * @returns {MethodRow | null}
 */
export function fastestComparable(rows) {
  return fastest(rows.filter(isComparable)) ?? fastest(rows);
}

/**
 * The fastest attention that computes softmax exactly. Where it is the same kernel as the reference, or no clearly
 * faster, it is the reference.
 *
 * @param {MethodRow[]} rows
 * @param {Setting} setting
 * @returns {MethodRow | null}
 */
export function fastestExact(rows, setting) {
  const exact = rows.filter(({ exactSoftmax }) => exactSoftmax);
  const best = fastestComparable(exact);
  if (best?.order !== "same kernel" && best?.order !== "tied") return best;
  return exact.find(({ series }) => series === setting.reference) ?? best;
}
