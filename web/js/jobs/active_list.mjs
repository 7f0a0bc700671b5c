// The jobs that run and wait.

import { arrange, element, icon, write } from "../elements.mjs";
import { moment } from "../format.mjs";
import { act, onceAtATime } from "./actions.mjs";
import { now } from "./state.mjs";
import { titleElement } from "./title.mjs";
import { waiting } from "./waiting.mjs";

/**
 * @typedef {import("./state.mjs").Job} Job
 * @typedef {import("../words.mjs").Words} Words
 * @typedef {{root: HTMLElement, update: (job: Job) => void}} Card
 */

/** Milliseconds after which "about 3 minutes" is written anew, though the server told nothing. */
const MOVES_ON = 10_000;

/** @param {Words} word */
export function activeList(word) {
  /** @type {Map<string, Card>} */
  const cards = new Map();
  /** @type {Job[]} */
  let jobs = [];
  const heading = element("h3", { tabIndex: -1 }, word("jobs.active"));
  const list = element("ol", { class: "cfm-list" });
  const root = element("section", { "aria-label": word("jobs.active"), hidden: true }, heading, list);

  /** @param {Job[]} next */
  function update(next) {
    const hadFocus = list.contains(document.activeElement);
    jobs = next;
    const here = new Set(jobs.map((job) => job.id));
    for (const id of [...cards.keys()]) if (!here.has(id)) cards.delete(id);
    for (const job of jobs) {
      const card = cards.get(job.id) ?? activeCard(job, word);
      cards.set(job.id, card);
      card.update(job);
    }
    root.hidden = !jobs.length;
    arrange(list, jobs.map((job) => /** @type {Card} */ (cards.get(job.id)).root));
    // Whoever has cancelled a job by keyboard goes on from here.
    if (hadFocus && !list.contains(document.activeElement)) heading.focus();
  }

  const clock = setInterval(() => update(jobs), MOVES_ON);
  return { root, update, dispose: () => clearInterval(clock) };
}

/**
 * @param {Job} first
 * @param {Words} word
 * @returns {Card}
 */
function activeCard({ id, number, name }, word) {
  const state = element("span", { class: "cfm-state" });
  const bar = element("progress", { "aria-label": word("job.progress", { number }) });
  const step = element("p", {});
  const since = element("p", { class: "cfm-muted" });
  const label = word("job.cancel_this", { number });
  const cancel = element("button", { class: "cfm-button", "aria-label": label }, word("job.cancel"));
  onceAtATime(cancel, () => act({ id, number }, "cancel", word));
  const head = element("div", { class: "cfm-row" }, titleElement({ name, number }, word), state, cancel);
  const root = element("li", { class: "cfm-job" }, head, bar, step, since);
  root.dataset.job = id;

  /** @param {Job} job */
  function update(job) {
    const isRunning = job.state === "running";
    if (root.dataset.state !== job.state) {
      root.dataset.state = job.state;
      state.replaceChildren(icon(isRunning ? "play-circle" : "clock"), word(`job.state.${job.state}`));
    }
    bar.hidden = !isRunning;
    if (!isRunning) {
      write(step, waiting(job, now(), word));
      write(since, word("job.submitted", { time: moment(job.submitted) }));
      return;
    }
    showProgress(job);
    const running = { time: moment(job.started ?? job.submitted), worker: job.worker ?? "" };
    write(since, word(job.worker ? "job.running_on" : "job.running_since", running));
  }

  /** @param {Job} job */
  function showProgress({ progress }) {
    if (!progress) {
      bar.removeAttribute("value");
      write(step, word("job.starting"));
      return;
    }
    bar.max = progress.max || 1;
    bar.value = progress.value;
    const node = progress.title || progress.node;
    write(step, progress.max > 1 ? word("job.step", { node, value: progress.value, max: progress.max }) : node);
  }

  return { root, update };
}
