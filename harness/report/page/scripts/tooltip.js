/** Not shown yet. */

export {};
