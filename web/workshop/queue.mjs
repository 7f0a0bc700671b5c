// The waiting jobs in their order, and what is done to those that are selected.

import { jobRow } from "./job_row.mjs";
import { rowList } from "./rows.mjs";

/** Pixels; the style sheet has the same. */
const ROW = 56;
const LEVELS = /** @type {const} */ (["front", "0", "1", "2", "3"]);

/** @type {Workshop.MakeScrolled} */
export function queueList(kit, scroller) {
  const { actions, board, button, element, make, word, write } = kit;
  /** @type {Set<string>} */
  const selected = new Set();
  let last = "";

  const chosen = () => board.order.filter((id) => selected.has(id));
  const selectAll = () => select(board.order, all.checked);
  const all = element("input", { type: "checkbox", ariaLabel: word("queue.all"), onchange: selectAll });
  const count = make("span", "");
  const levels = LEVELS.map((each) => new Option(word(`level.${each}`), each));
  const level = element("select", { ariaLabel: word("queue.level") }, new Option(word("queue.level"), ""), levels);
  level.addEventListener("change", () => {
    actions.setLevel(chosen(), LEVELS[level.selectedIndex - 1]);
    level.value = "";
  });
  const tools = element(
    "span",
    { class: "cfm-row", role: "group", ariaLabel: word("queue.selected") },
    button(word("queue.hold"), () => actions.hold(chosen(), true)),
    button(word("queue.release"), () => actions.hold(chosen(), false)),
    level,
    button(word("queue.cancel"), () => actions.cancel(chosen()), "cfm-danger"),
  );
  const bar = make("div", "cfw-bar cfm-row", make("label", "cfw-fill", all, count), tools);
  const grid = element("div", { ariaLabel: word("queue.label"), ariaMultiSelectable: "true", onclick: click });
  grid.addEventListener("keydown", press);
  const empty = make("p", "cfm-muted", word("queue.empty"));
  const root = make("div", "", bar, grid, empty);
  const rows = rowList(kit, grid, scroller, ROW, (id) => jobRow(kit, id, () => selected.has(id)));

  /** @type {(ids: string[], isOn: boolean) => void} */
  function select(ids, isOn) {
    for (const id of ids) selected[isOn ? "add" : "delete"](id);
    draw();
  }

  /** @param {string} id */
  const toggle = (id) => select([id], !selected.has(id));

  /** @param {MouseEvent} event */
  function click({ target, shiftKey }) {
    const row = /** @type {Element} */ (target).closest(".cfw-job");
    const id = /** @type {HTMLElement | null} */ (row)?.dataset.job;
    if (!id) return;
    const [from, to] = [last, id].map((each) => board.order.indexOf(each)).sort((a, b) => a - b);
    if (shiftKey && from >= 0) select(board.order.slice(from, to + 1), true);
    else toggle(id);
    last = id;
  }

  /** @param {KeyboardEvent} event */
  function press(event) {
    const { key, target } = event;
    const id = rows.active();
    // The buttons of a row have a space bar of their own.
    if (key === " " && /** @type {Element} */ (target).role === "row") toggle(id);
    else if (key === "Delete") actions.cancel(selected.has(id) ? chosen() : [id]);
    else return;
    event.preventDefault();
    // ComfyUI would do the same to nodes.
    event.stopPropagation();
  }

  function draw() {
    for (const id of selected) if (board.jobs.get(id)?.state !== "queued") selected.delete(id);
    const total = board.order.length;
    write(count, word(selected.size ? "queue.count" : "queue.waiting", { count: selected.size || total }));
    all.checked = selected.size === total;
    all.indeterminate = selected.size > 0 && !all.checked;
    tools.hidden = !selected.size;
    bar.hidden = grid.hidden = !total;
    empty.hidden = total > 0;
    rows.draw(board.order);
  }

  return { root, draw, dispose: rows.dispose };
}
