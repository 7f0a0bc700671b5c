// Where the files of a job are.

import { app } from "../../../scripts/app.js";

/** @typedef {import("./state.mjs").JobFile} JobFile */

/**
 * @param {JobFile} file
 * @param {Record<string, string>} [more]
 */
export function fileAddress({ filename, subfolder, type }, more = {}) {
  return app.api.fileURL(`/view?${new URLSearchParams({ filename, subfolder, type, ...more })}`);
}

/** @param {JobFile} file */
export const previewAddress = (file) => fileAddress(file, { preview: "webp;75" });

/** @param {string[]} jobs ids; none means all that the person has */
export function zipAddress(...jobs) {
  const query = new URLSearchParams(jobs.map((job) => ["job", job]));
  return app.api.fileURL(`/comfyume/results.zip${jobs.length ? `?${query}` : ""}`);
}

/**
 * @param {JobFile} file
 * @returns {boolean} whether it goes into a zip: what nodes only show is kept for a while only
 */
export const isKept = ({ type }) => type === "output";
