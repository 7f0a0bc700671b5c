// Lists call a job by its workflow. What ComfyUI's page sends with a prompt has no name, so it goes along as a header.

import { app } from "../../../scripts/app.js";

/** The server knows it by this name too. */
const HEADER = "Comfyume-Workflow";
/** Characters; the server keeps no more. */
const LONGEST = 120;
/** What ComfyUI calls a workflow that nobody has named, with its number behind. */
const NO_NAME = /^Unsaved Workflow\b/;

/** @returns {string} empty where nobody has named it */
function name() {
  const { filename = "", isTemporary } = app.extensionManager.workflow.activeWorkflow ?? {};
  return isTemporary && NO_NAME.test(filename) ? "" : [...filename].slice(0, LONGEST).join("");
}

/** From now on the server is told. */
export function tellName() {
  const fetchApi = app.api.fetchApi;
  app.api.fetchApi = function (path, options) {
    if (path !== "/prompt" || options?.method !== "POST") return fetchApi.call(this, path, options);
    // A half of a pair of surrogates has no encoding.
    const told = encodeURIComponent(name().toWellFormed());
    return fetchApi.call(this, path, { ...options, headers: { ...options.headers, [HEADER]: told } });
  };
}
