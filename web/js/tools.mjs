// What further scripts, of other folders of the server, get of these modules; and the loading of those scripts.

import { app } from "../../scripts/app.js";
import { get, Problem, send } from "./client.mjs";
import { ask } from "./dialog.mjs";
import { arrange, element, icon, write } from "./elements.mjs";
import { subscribe } from "./feed.mjs";
import { bytes, duration, gib, moment } from "./format.mjs";
import { toast } from "./toast.mjs";
import { words } from "./words.mjs";

/** @typedef {typeof tools} Tools */

export const tools = {
  app,
  client: { get, send, Problem },
  feed: { subscribe },
  words,
  arrange,
  element,
  icon,
  write,
  toast,
  format: { duration, moment, bytes, gib },
  dialog: { ask },
};

/** @param {string[]} addresses modules that export `start(tools)` */
export async function load(addresses) {
  for (const address of addresses) {
    try {
      const module = await import(app.api.fileURL(address));
      await module.start(tools);
    } catch (error) {
      console.error(`[comfyume] ${address} cannot be started:`, error);
    }
  }
}
