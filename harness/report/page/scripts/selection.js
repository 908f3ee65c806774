/** Which of the measured rows the bar selects. */

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/page_data").Setting} Setting */
/** @typedef {import("report/page_data").MethodRow} MethodRow */
/** @typedef {import("report/page_data").ErrorAtSetting} ErrorAtSetting */
/** @typedef {import("report/page_data").BestMethods} BestMethods */
/** @typedef {import("report/page_data").BestWithin} BestWithin */
/** @typedef {import("report/page_data").Winner} Winner */
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
 * The winners at the chosen kind of inputs, and those within the allowed error.
 *
 * @param {Setting} setting
 * @param {State} state
 * @returns {BestMethods & { chosen: BestWithin }}
 */
export function best(setting, state) {
  const found = setting.best[state.inputs];
  const chosen = found?.within.find(({ allowed }) => allowed === state.allowed);
  if (!found || !chosen) throw new Error(`no winners for inputs "${state.inputs}" and the error ${state.allowed}`);
  return { ...found, chosen };
}

/**
 * The rows with these indices.
 *
 * @param {Setting} setting
 * @param {number[]} indices
 * @returns {MethodRow[]}
 */
export function rowsAt(setting, indices) {
  return indices.flatMap((index) => setting.rows[index] ?? []);
}

/**
 * One row for each attention, the fastest first.
 *
 * @param {Setting} setting
 * @param {State} state
 * @returns {MethodRow[]}
 */
export function methods(setting, state) {
  return rowsAt(setting, best(setting, state).chosen.methods);
}

/**
 * The row that wins; null where nothing does.
 *
 * @param {Setting} setting
 * @param {Winner | null} winner
 * @returns {MethodRow | null}
 */
export function winningRow(setting, winner) {
  return (winner && setting.rows[winner.row]) ?? null;
}

/**
 * The fastest attention that computes softmax exactly; where none can be compared, the one with the shortest time.
 *
 * @param {Setting} setting
 * @param {State} state
 * @returns {MethodRow | null}
 */
export function fastestExact(setting, state) {
  return winningRow(setting, best(setting, state).exact);
}
