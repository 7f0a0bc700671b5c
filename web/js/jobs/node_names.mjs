// What the nodes of a running job are called, which may be a job of another tab, or of a graph that is changed by now.

import { app } from "../../../scripts/app.js";

/** @type {Map<string, Promise<Record<string, {class_type: string, _meta?: {title?: string}}>>>} */
const prompts = new Map();
const MOST_KEPT = 20;

/**
 * @param {string} job
 * @param {string} node its id
 * @returns {Promise<string>}
 */
export async function nodeName(job, node) {
  let prompt = prompts.get(job);
  if (!prompt) {
    prompt = fetchPrompt(job).catch(() => ({}));
    prompts.set(job, prompt);
    if (prompts.size > MOST_KEPT) prompts.delete(/** @type {string} */ (prompts.keys().next().value));
  }
  const known = (await prompt)[node];
  return known?._meta?.title || known?.class_type || node;
}

/** @param {string} job */
async function fetchPrompt(job) {
  const { queue_running: running } = await (await app.api.fetchApi("/queue")).json();
  return running.find((/** @type {unknown[]} */ [, id]) => id === job)[2];
}
