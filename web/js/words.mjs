// The sentences of the page, in the language that is chosen in ComfyUI's settings, or in English.

import { app } from "../../scripts/app.js";
import { get } from "./client.mjs";

/** @typedef {(key: string, values?: Record<string, string | number>) => string} Words */

let spoken = "en";

/** @returns {string} such as `en` or `pt-BR`: what the sentences are in, so that numbers and times among them are too */
export const language = () => spoken;

/** Where the server has the sentences of everybody's page. */
export const PAGE = "/comfyume/strings";
/** What is written from right to left, or turns the direction. */
const TURNING = /[\u0590-\u08ff\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc]/;

/** @type {Map<string, Promise<Words>>} */
const known = new Map();

/**
 * @param {string} address of the sentences, without the language
 * @returns {Promise<Words>} gives the sentence of a key, with values in place of `{name}`. A `count` among the values picks
 *   the form that the language has for it: `key.one`, `key.other`, ...
 */
export function words(address) {
  let found = known.get(address);
  if (!found) {
    found = load(address);
    known.set(address, found);
    // Another attempt may succeed.
    found.catch(() => known.delete(address));
  }
  return found;
}

/**
 * @param {string | number} value
 * @returns {string} the same, which does not turn the sentence around it: U+2068 and U+2069 set it apart
 */
function apart(value) {
  const text = String(value);
  return TURNING.test(text) ? `\u2068${text}\u2069` : text;
}

/**
 * @param {string} address
 * @returns {Promise<Words>}
 */
async function load(address) {
  const chosen = app.extensionManager.setting.get("Comfy.Locale") || "en";
  /** @type {Record<string, string>} */
  const texts = await get(`${address}/${encodeURIComponent(chosen)}.json`);
  // Not every language has been written.
  spoken = texts.language;
  const plurals = new Intl.PluralRules(spoken);
  return (key, values = {}) => {
    const form = "count" in values ? `${key}.${plurals.select(Number(values.count))}` : key;
    const text = texts[form] ?? texts[`${key}.other`] ?? texts[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => apart(values[name] ?? whole));
  };
}
