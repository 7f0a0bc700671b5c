// The jobs that have ended, newest first, and what they made.

import { get } from "../client.mjs";
import { arrange, element, write } from "../elements.mjs";
import { said } from "./actions.mjs";
import { isKept, zipAddress } from "./addresses.mjs";
import { endedCard } from "./ended_card.mjs";

/**
 * @typedef {import("./state.mjs").EndedJob} EndedJob
 * @typedef {import("../words.mjs").Words} Words
 */

/** Jobs that are asked for at once. */
const PAGE = 20;

/**
 * @param {Words} word
 * @param {() => void} onChange
 */
export function endedList(word, onChange) {
  /** @type {Map<string, HTMLElement>} */
  const cards = new Map();
  /** @type {Set<string>} */
  const withFiles = new Set();
  /** @type {string | null} */
  let next = null;
  let isLoaded = false;

  const list = element("ol", { class: "cfm-list" });
  const problem = element("p", { class: "cfm-error", role: "alert" });
  const more = element("button", { class: "cfm-button", hidden: true, onclick: () => load() }, word("jobs.older"));
  const zip = element("a", { class: "cfm-button", hidden: true, href: zipAddress(), download: "" }, word("jobs.zip"));
  const heading = element("div", { class: "cfm-row" }, element("h3", {}, word("jobs.ended")), zip);
  const root = element("section", { "aria-label": word("jobs.ended"), hidden: true }, heading, list, problem, more);

  /** @param {EndedJob} job */
  function keep(job) {
    if (cards.has(job.id)) return;
    cards.set(job.id, endedCard(job, word));
    if (job.files.some(isKept)) withFiles.add(job.id);
  }

  function show() {
    arrange(list, [...cards.values()]);
    zip.hidden = !withFiles.size;
    more.hidden = isLoaded && !next && !problem.textContent;
    root.hidden = !cards.size && !problem.textContent;
    write(more, word(problem.textContent ? "jobs.try_again" : "jobs.older"));
    onChange();
  }

  /** The next older ones; the newest at first. */
  async function load() {
    const before = next ? `&before=${encodeURIComponent(next)}` : "";
    try {
      const answer = await get(`/comfyume/jobs?state=ended&limit=${PAGE}${before}`);
      isLoaded = true;
      next = answer.next;
      for (const job of answer.jobs) keep(job);
      write(problem, "");
    } catch (error) {
      write(problem, said(error, word));
    }
    show();
  }

  /** @param {EndedJob} job */
  function add(job) {
    if (cards.has(job.id)) return;
    const older = [...cards];
    cards.clear();
    keep(job);
    for (const [id, card] of older) cards.set(id, card);
    show();
  }

  return { root, load, add, isEmpty: () => isLoaded && !cards.size };
}
