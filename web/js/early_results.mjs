// A page that is loaded while a job runs is told by the server what the job has done so far. ComfyUI opens its socket
// before it has loaded the graph, and an `executed` that comes in between is lost: there are no nodes yet to show the
// result in. So such results are kept until the graph is there.

import { app } from "../../scripts/app.js";

/** Milliseconds between two looks whether the graph is there. */
const PAUSE = 50;
/** Milliseconds after which the results are handed on, with or without a graph. */
const PATIENCE = 30_000;

/** @type {object[]} */
const kept = [];

/** @param {CustomEvent} event */
function keep(event) {
  event.stopImmediatePropagation();
  kept.push(event.detail);
}

function handOn() {
  app.api.removeEventListener("executed", keep);
  for (const detail of kept.splice(0)) app.api.dispatchCustomEvent("executed", detail);
  // ComfyUI draws on `executing`, which has long been told.
  app.canvas?.setDirty(true, true);
}

// This module is loaded before ComfyUI's own listener is there, so this one comes first.
app.api.addEventListener("executed", keep);

app.registerExtension({
  name: "comfyume.EarlyResults",

  setup() {
    const begin = performance.now();
    const look = setInterval(() => {
      const loaded = app.extensionManager.workflow.activeWorkflow && app.graph?.nodes?.length;
      if (!loaded && performance.now() - begin < PATIENCE) return;
      clearInterval(look);
      handOn();
    }, PAUSE);
  },
});
