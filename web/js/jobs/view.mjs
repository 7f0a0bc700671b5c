// What the tab "My jobs" shows.

import { app } from "../../../scripts/app.js";
import { element, icon, write } from "../elements.mjs";
import { toast } from "../toast.mjs";
import { activeList } from "./active_list.mjs";
import { endedList } from "./ended_list.mjs";
import { current, watch, watchEnds } from "./state.mjs";

/**
 * @typedef {import("./state.mjs").State} State
 * @typedef {import("../words.mjs").Words} Words
 */

/** @param {Words} word */
export function jobsView(word) {
  const active = activeList(word);
  const ended = endedList(word, show);
  const paused = element("p", { class: "cfm-note", hidden: true }, word("jobs.paused"));
  const empty = emptyState(word);
  // For those who do not see the cards move.
  const told = element("p", { class: "cfm-unseen", role: "status" });
  const models = element("button", { class: "cfm-button", onclick: showModels }, icon("box"), " ", word("models.title"));
  const title = element("div", { class: "cfm-row cfm-head" }, element("h2", {}, word("jobs.title")), models);
  const root = element("div", { class: "cfm cfm-jobs" }, title, told, paused, empty, active.root, ended.root);

  function show() {
    const state = current();
    const jobs = state?.jobs ?? [];
    active.update(jobs);
    paused.hidden = !state?.paused;
    empty.hidden = jobs.length > 0 || !ended.isEmpty();
  }

  /**
   * @param {State} state
   * @param {State | null} before
   */
  function take(state, before) {
    const ran = new Set(before?.jobs.filter((job) => job.state === "running").map((job) => job.id));
    const started = state.jobs.find((job) => job.state === "running" && !ran.has(job.id));
    if (before && started) write(told, word("jobs.told.running", { number: started.number }));
    show();
  }

  async function showModels() {
    try {
      const { openModels } = await import("../models/dialog.mjs");
      openModels(word);
    } catch {
      toast("error", word("models.title"), word("session.unreachable"));
    }
  }

  const stop = watch(take);
  const stopEnds = watchEnds((job, isNews) => {
    if (isNews) write(told, word(`jobs.told.${job.state}`, { number: job.number }));
    ended.add(job);
  });
  show();
  ended.load();

  function dispose() {
    stop();
    stopEnds();
    active.dispose();
  }
  return { root, dispose };
}

/** @param {Words} word */
function emptyState(word) {
  const open = () => app.extensionManager.command.execute("Comfy.BrowseTemplates");
  const button = element("button", { class: "cfm-button cfm-primary", onclick: open }, word("jobs.empty.templates"));
  const steps = ["jobs.empty.open", "jobs.empty.run", "jobs.empty.look"].map((key) => element("li", {}, word(key)));
  return element(
    "div",
    { class: "cfm-empty", hidden: true },
    element("p", {}, word("jobs.empty.title")),
    element("ol", {}, steps),
    button,
  );
}
