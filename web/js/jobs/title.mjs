// What a job is called.

import { element } from "../elements.mjs";

/**
 * @typedef {{name: string, number: number}} Named
 * @typedef {import("../words.mjs").Words} Words
 */

/**
 * @param {Named} job
 * @param {Words} word
 * @returns {string} the name of its workflow, where that is known, and its number
 */
export const titleOf = ({ name, number }, word) => word(name ? "job.named" : "job.name", { name, number });

/**
 * The same at the head of a card; where it is cut, the whole is shown where the mouse rests.
 *
 * @param {Named} job
 * @param {Words} word
 */
export function titleElement(job, word) {
  const title = titleOf(job, word);
  return element("strong", { class: "cfm-title", title }, title);
}
