// The sentences of the page, in the language that is chosen in ComfyUI's settings.

import { app } from "../../scripts/app.js";
import { get } from "./client.mjs";

/** @typedef {(key: string, values?: Record<string, string | number>) => string} Words */

/** @returns {string} such as `en` or `pt-BR` */
export const language = () => app.extensionManager.setting.get("Comfy.Locale") || "en";

/** @type {Map<string, Promise<Words>>} */
const known = new Map();

/**
 * @param {"page" | "workshop"} scope
 * @returns {Promise<Words>} gives the sentence of a key, with values in place of `{name}`. A `count` among the values picks
 *   the form that the language has for it: `key.one`, `key.other`, ...
 */
export function words(scope) {
  let found = known.get(scope);
  if (!found) {
    found = load(scope);
    known.set(scope, found);
    // Another attempt may succeed.
    found.catch(() => known.delete(scope));
  }
  return found;
}

/**
 * @param {"page" | "workshop"} scope
 * @returns {Promise<Words>}
 */
async function load(scope) {
  const folder = scope === "page" ? "" : `/${scope}`;
  /** @type {Record<string, string>} */
  const texts = await get(`/comfyume${folder}/strings/${encodeURIComponent(language())}.json`);
  const plurals = new Intl.PluralRules(language());
  return (key, values = {}) => {
    const form = "count" in values ? `${key}.${plurals.select(Number(values.count))}` : key;
    const text = texts[form] ?? texts[`${key}.other`] ?? texts[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  };
}
