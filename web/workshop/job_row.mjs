// One waiting job in the queue's list.

import { name, writeName } from "./kit.mjs";

/** Seconds below which nobody is told when a job starts. */
const SOON = 5;

/** @type {Workshop.MakeJobRow} */
export function jobRow(kit, id, isSelected) {
  const { actions, board, element, make, format, icon, iconButton, short, word, write } = kit;
  const cell = (/** @type {string} */ kind, /** @type {HTMLElement[]} */ ...inside) =>
    element("span", { role: "gridcell", class: `cfw-${kind}` }, inside);

  const place = cell("place");
  const who = make("strong", "cfw-name");
  const what = make("span", "cfw-name cfm-muted");
  const mark = make("span", "cfw-mark");
  const waited = cell("waited");
  const why = cell("why");
  const front = iconButton("angle-double-up", "-", () => actions.setLevel([id], "front"));
  const hold = iconButton("pause", "-", () => actions.hold([id], !board.jobs.get(id)?.held));
  const cancel = iconButton("times", "-", () => actions.cancel([id]));
  const buttons = cell("buttons", front, hold, cancel);
  // What is pressed in a row does not select it.
  buttons.addEventListener("click", (event) => event.stopPropagation());
  const root = element("div", { role: "row", class: "cfw-job" }, place, cell("who", who, what, mark), waited, why, buttons);
  root.dataset.job = id;

  /** @param {number} index */
  function update(index) {
    const job = board.jobs.get(id);
    root.ariaSelected = String(isSelected());
    if (!job) return;
    const { user, number, level, held, submitted, need } = job;
    const time = short(board.now() - submitted);
    write(place, String(index + 1));
    writeName(who, user);
    writeName(what, job.name);
    write(mark, held ? word("job.held") : level === "2" ? "" : word(`level.${level}`));
    write(waited, time);
    waited.title = word("job.waited", { time, number });
    const parts = [reason(job)];
    if (need !== null) parts.push(format.gib(need));
    writeName(why, parts.filter(Boolean).join(" · "));
    name(front, word("job.front", { user, number }));
    const steer = word(held ? "job.release" : "job.hold", { user, number });
    if (hold.title !== steer) hold.replaceChildren(icon(held ? "play" : "pause"));
    name(hold, steer);
    name(cancel, word("job.cancel", { user, number }));
  }

  /** @param {Workshop.Job} job */
  function reason({ why: kind, lacks, starts_at }) {
    if (kind) return word(`why.${kind}`, { lacks });
    if (starts_at === null) return "";
    const left = starts_at - board.now();
    return left < SOON ? word("job.starts_soon") : word("job.starts", { time: short(left) });
  }

  return { root, update };
}
