// Why a job waits, and for how long, in words.

import { duration, gib } from "../format.mjs";

/**
 * @typedef {import("./state.mjs").Job} Job
 * @typedef {import("../words.mjs").Words} Words
 */

/** Seconds below which there is nothing to wait for. */
const SOON = 5;

/**
 * @param {Job} job
 * @param {number} now the server's clock
 * @param {Words} word
 * @returns {string} one or two sentences
 */
export function waiting(job, now, word) {
  const place = job.position === null ? "" : word("job.position", { position: job.position });
  return [place, reason(job, word) || start(job, now, word)].filter(Boolean).join(" ");
}

/**
 * @param {Job} job
 * @param {Words} word
 */
function reason(job, word) {
  if (job.held) return word("job.why.held");
  if (!job.why) return "";
  if (job.why === "memory" && job.need === null) return word("job.why.memory_unknown");
  const known = job.lacks && (job.why === "models" || job.why === "nodes") ? "_known" : "";
  return word(`job.why.${job.why}${known}`, { memory: job.need === null ? "" : gib(job.need), name: job.lacks });
}

/**
 * @param {Job} job
 * @param {number} now
 * @param {Words} word
 */
function start(job, now, word) {
  if (job.starts_at === null) return "";
  const seconds = job.starts_at - now;
  if (seconds < SOON) return word("job.starts_soon");
  // Nobody needs the second of something that is only expected.
  const coarse = seconds < 60 ? Math.ceil(seconds / 10) * 10 : seconds;
  return word("job.starts_in", { time: duration(coarse) });
}
