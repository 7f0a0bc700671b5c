// One job that has ended.

import { element, icon } from "../elements.mjs";
import { duration, moment } from "../format.mjs";
import { act, onceAtATime } from "./actions.mjs";
import { isKept, zipAddress } from "./addresses.mjs";
import { fileItem } from "./files.mjs";
import { titleElement } from "./title.mjs";

/**
 * @typedef {import("./state.mjs").EndedJob} EndedJob
 * @typedef {import("../words.mjs").Words} Words
 */

/** Files that are shown before one asks for all. */
const FIRST_FILES = 6;

/** @type {Record<string, string>} */
const ICONS = { done: "check-circle", error: "times-circle", cancelled: "ban", quarantined: "exclamation-triangle" };

/**
 * @param {EndedJob} job
 * @param {Words} word
 */
export function endedCard(job, word) {
  const { number } = job;
  const label = word("job.again_this", { number });
  const again = element("button", { class: "cfm-button", "aria-label": label }, word("job.again"));
  onceAtATime(again, async () => {
    await act(job, "again", word);
    // It may be run as often as one likes.
    return false;
  });
  const state = element("span", { class: "cfm-state" }, icon(ICONS[job.state] ?? "circle"), word(`job.state.${job.state}`));
  const head = element("div", { class: "cfm-row" }, titleElement(job, word), state, again);
  const root = element(
    "li",
    { class: "cfm-job" },
    head,
    element("p", { class: "cfm-muted" }, when(job, word)),
    job.state === "quarantined" && !job.error && element("p", {}, word("job.quarantined")),
    errorText(job, word),
    files(job, word),
  );
  root.dataset.job = job.id;
  root.dataset.state = job.state;
  return root;
}

/**
 * @param {EndedJob} job
 * @param {Words} word
 */
function when({ started, finished, worker }, word) {
  const time = finished === null ? "" : moment(finished);
  if (started === null || finished === null) return time;
  const took = duration(Math.max(1, finished - started));
  return word(worker ? "job.took_on" : "job.took", { time, took, worker: worker ?? "" });
}

/**
 * @param {EndedJob} job
 * @param {Words} word
 */
function errorText({ error }, word) {
  if (!error) return null;
  const node = error.node_type || error.node_id;
  const text = node ? word("job.error_in", { node, message: error.message }) : error.message;
  return element("p", { class: "cfm-error", tabIndex: 0, role: "group", "aria-label": word("job.error") }, text);
}

/**
 * @param {EndedJob} job
 * @param {Words} word
 */
function files({ id, number, files: all }, word) {
  if (!all.length) return [];
  const list = element("ul", { class: "cfm-files" }, all.slice(0, FIRST_FILES).map((file) => fileItem(file, word)));
  const rest = all.slice(FIRST_FILES);
  const more = element("button", { class: "cfm-button" }, word("job.all_files", { count: all.length }));
  more.addEventListener("click", () => {
    const items = rest.map((file) => fileItem(file, word));
    list.append(...items);
    more.remove();
    items[0]?.querySelector("a")?.focus();
  });
  const named = { "aria-label": word("job.zip_this", { number }) };
  const zip = element("a", { class: "cfm-button", href: zipAddress(id), download: "", ...named }, word("job.zip"));
  return [list, element("div", { class: "cfm-row" }, rest.length > 0 && more, all.filter(isKept).length > 1 && zip)];
}
