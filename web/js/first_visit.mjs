// A person's first visit opens a template of this workshop, in place of ComfyUI's own first-visit dialog.
//
// ComfyUI remembers on the server, for each person, that their first visit is over (`Comfy.TutorialCompleted`), and
// so does this: another browser of the same person is no first visit, and neither is the first start of this extension
// for somebody who has used ComfyUI before.

import { app } from "../../scripts/app.js";
import { page } from "./page.mjs";

const FIRST_VISIT_IS_OVER = "Comfy.TutorialCompleted";

/** The name under which ComfyUI serves this extension: that of its folder. */
const EXTENSION = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2) ?? "");

/**
 * @param {string} address
 * @returns {Promise<any>} the JSON at this address, or null
 */
async function fetchJson(address) {
  try {
    const response = await fetch(address, { cache: "no-cache" });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** @returns {Promise<{name: string, graph: object} | null>} the template for a first visit, if there is one */
async function firstTemplate() {
  const name = (await page)?.first_template;
  if (!name) return null;
  const path = `/workflow_templates/${encodeURIComponent(EXTENSION)}/${encodeURIComponent(name)}.json`;
  const graph = await fetchJson(app.api.apiURL(path));
  return graph && { name, graph };
}

/**
 * Open the template when ComfyUI would open its default graph, once. Work that the browser still has goes first: then
 * ComfyUI opens that, and the template stays in the template browser.
 *
 * @param {{name: string, graph: object}} template
 */
function openInsteadOfDefaultGraph({ name, graph }) {
  const loadGraphData = app.loadGraphData;
  app.loadGraphData = function (...given) {
    app.loadGraphData = loadGraphData;
    const wanted = given[0] ? given : [graph, true, true, name, { openSource: "template" }];
    return loadGraphData.apply(this, wanted);
  };
}

app.registerExtension({
  name: "comfyume.FirstVisit",

  // ComfyUI opens the person's work, or its default graph, right after this.
  async setup() {
    const settings = app.extensionManager.setting;
    if (settings.get(FIRST_VISIT_IS_OVER)) return;
    const template = await firstTemplate();
    if (!template) return;
    try {
      await settings.set(FIRST_VISIT_IS_OVER, true);
    } catch (error) {
      console.warn("[comfyume] this visit could not be noted as the first one:", error);
      return;
    }
    openInsteadOfDefaultGraph(template);
  },
});
