// The tab "My jobs" in ComfyUI's side bar, with the number of jobs that wait or run on its icon.

import { app } from "../../../scripts/app.js";
import { watch } from "./state.mjs";
import { jobsView } from "./view.mjs";

export const TAB = "comfyume.jobs";

/** @param {import("../words.mjs").Words} word */
export function addTab(word) {
  /** @type {ReturnType<typeof jobsView> | null} */
  let view = null;
  app.extensionManager.registerSidebarTab({
    id: TAB,
    icon: "pi pi-list-check",
    iconBadge: "",
    title: word("jobs.title"),
    tooltip: word("jobs.title"),
    type: "custom",
    // ComfyUI calls this again whenever it draws the side bar.
    render(container) {
      view ??= jobsView(word);
      if (view.root.parentElement !== container) container.replaceChildren(view.root);
    },
    destroy() {
      view?.dispose();
      view = null;
    },
  });
  // Only the tab in ComfyUI's store is watched by its page, not the one that was handed over.
  const tab = app.extensionManager.sidebarTab.sidebarTabs.find(({ id }) => id === TAB);
  watch(({ jobs }) => {
    if (!tab) return;
    tab.iconBadge = jobs.length ? String(jobs.length) : "";
    tab.tooltip = word(jobs.length ? "jobs.badge" : "jobs.title", { count: jobs.length });
  });
}
