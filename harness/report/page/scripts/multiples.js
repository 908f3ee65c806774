/** Not drawn yet. */

/** @typedef {import("report/page_data").PageData} PageData */
/** @typedef {import("report/state").State} State */

/**
 * @param {PageData} _data
 * @param {State} _state
 */
export function draw(_data, _state) {}
