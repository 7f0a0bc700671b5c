// Messages about jobs, where ComfyUI has none of its own and the person would miss something.

import { app } from "../../../scripts/app.js";
import { toast } from "../toast.mjs";
import { watch, watchEnds } from "./state.mjs";
import { titleOf } from "./title.mjs";

/**
 * @typedef {import("./state.mjs").EndedJob} EndedJob
 * @typedef {import("./state.mjs").State} State
 * @typedef {import("../words.mjs").Words} Words
 */

/** Milliseconds for which an error of ComfyUI's own, of the same job, may still be on its way. */
const PATIENCE = 1000;

/** @param {Words} word */
export function addToasts(word) {
  /** @type {Set<string>} */
  const shownByComfyUI = new Set();
  /** @type {EndedJob[]} */
  let unseen = [];

  app.api.addEventListener("execution_error", ({ detail }) => void shownByComfyUI.add(detail?.prompt_id));

  /** @param {EndedJob} job */
  function tellFailure(job) {
    const { id, state, error } = job;
    if (shownByComfyUI.delete(id)) return;
    const summary = word("toast.failed", { job: titleOf(job, word) });
    toast("error", summary, error?.message ?? (state === "quarantined" ? word("job.quarantined") : undefined));
  }

  watchEnds((job, isNews) => {
    if (!isNews) return;
    if (job.state === "error" || job.state === "quarantined") setTimeout(tellFailure, PATIENCE, job);
    if (job.state === "done" && document.hidden) unseen.push(job);
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !unseen.length) return;
    const numbers = unseen.map(({ number }) => number).sort((a, b) => a - b);
    unseen = [];
    toast("success", word("toast.done", { count: numbers.length }), word("toast.numbers", { numbers: numbers.join(", ") }));
  });

  watch((state, before) => {
    if (!before?.store || !state.store) return;
    if (state.paused !== before.paused) {
      if (state.paused) toast("warn", word("toast.paused"), word("toast.paused.detail"));
      else toast("success", word("toast.goes_on"));
    }
  });

  app.api.addEventListener("comfyume.cancelled", ({ detail: { by, count, jobs } }) => {
    const named = jobs.map((/** @type {import("./title.mjs").Named} */ job) => titleOf(job, word)).join(", ");
    toast("warn", word("toast.cancelled", { count, name: by }), named);
  });

  /** @type {Set<string>} */
  const read = new Set();
  app.api.addEventListener("comfyume.message", ({ detail }) => {
    if (read.has(detail.id)) return;
    read.add(detail.id);
    toast("info", word("toast.message", { name: detail.from }), detail.text, { stays: true });
  });
}
