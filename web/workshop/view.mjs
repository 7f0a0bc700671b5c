// The panel: what is wrong, the tabs, and the bar with the way back. It listens to the server and draws once a frame.

import { actionsOf } from "./actions.mjs";
import { kitOf } from "./kit.mjs";
import { notLoaded } from "./loading.mjs";
import { nowSection } from "./now.mjs";
import { Board } from "./state.mjs";
import { tabRow } from "./tabs.mjs";
import { troubles } from "./trouble.mjs";
import { undoBar } from "./undo.mjs";

/** Milliseconds after which times are written anew though nothing was told. */
const TICK = 5000;
const ICONS = {
  now: "bolt",
  people: "users",
  models: "box",
  history: "chart-line",
  backups: "history",
  cost: "wallet",
};

/** @type {Workshop.MakeView} */
export function workshopView(tools, word) {
  const board = new Board();
  const kit = kitOf(tools, word, board);
  const { element, make, format, write } = kit;
  const panel = element("div", { class: "cfw-panel", tabIndex: -1 });
  const undo = undoBar(kit, panel);
  kit.told = undo.told;
  kit.actions = actionsOf(kit);
  kit.go = go;

  /** @type {Map<string, Promise<Workshop.Section>>} */
  const sections = new Map([["now", Promise.resolve(nowSection(kit, panel))]]);
  /** @type {Workshop.Section | undefined} */
  let shown;
  let wanted = "";
  /** @type {string | undefined} */
  let person;

  const lines = element("div", { class: "cfw-lines", role: "status", tabIndex: 0 });
  const tabs = tabRow(kit, ICONS, panel, open);
  const root = make("div", "cfm cfm-workshop", lines, tabs.root, panel, undo.root);

  /** @param {string} name */
  async function load(name) {
    if (name === "people") return (await import("./people.mjs")).peopleSection(kit);
    if (name === "models") return (await import("./models.mjs")).modelsSection(kit);
    if (name === "backups") return (await import("./backups.mjs")).backupsSection(kit);
    if (name === "cost") return (await import("./cost.mjs")).costSection(kit);
    return (await import("./history.mjs")).historySection(kit);
  }

  /** @type {Workshop.Kit["go"]} */
  function go(name, user) {
    person = user;
    tabs.select(name);
    panel.focus();
  }

  /** @param {string} name */
  async function open(name) {
    wanted = name;
    const loading = sections.get(name) ?? load(name);
    sections.set(name, loading);
    const section = await loading.catch((error) => {
      console.error(`[comfyume] ${name} cannot be shown:`, error);
      sections.delete(name);
      return undefined;
    });
    if (wanted !== name) return;
    if (!section) {
      shown = undefined;
      panel.replaceChildren(notLoaded(tools, word, () => void open(name)));
      return;
    }
    if (shown !== section) panel.replaceChildren(section.root);
    shown = section;
    section.show?.(person);
    person = undefined;
    redraw();
  }

  let due = 0;
  function redraw() {
    due ||= requestAnimationFrame(() => {
      due = 0;
      if (!board.isKnown && !board.lostAt) return;
      drawLines();
      shown?.draw();
    });
  }

  function drawLines() {
    const found = troubles(board);
    const signs = ["exclamation-triangle", "times-circle"];
    const told = found.map(({ key, values, isGrave }) => [signs[Number(isGrave)], sentence(key, values)]);
    const queued = board.order.length;
    if (!told.length) told.push(["check-circle", word("well", { queued, running: board.jobs.size - queued })]);
    root.dataset.mood = found.some(({ isGrave }) => isGrave) ? "grave" : found.length ? "warn" : "well";
    while (lines.children.length > told.length) lines.lastElementChild?.remove();
    told.forEach(([icon, text], index) => {
      const line = lines.children[index] ?? lines.appendChild(make("p", "", kit.icon(""), make("span", "")));
      line.children[0].className = `pi pi-${icon}`;
      write(line.children[1], text);
    });
  }

  /** @type {(key: string, values: Workshop.Trouble["values"]) => string} */
  function sentence(key, values) {
    const need = Number(values.need);
    const memory = Number.isFinite(need) ? format.gib(need) : "?";
    return word(`trouble.${key}`, { ...values, time: format.moment(Number(values.at ?? 0)), memory });
  }

  const stop = kit.feed.subscribe("workshop", {
    snapshot(value) {
      board.take(value);
      redraw();
    },
    change(value) {
      board.change(value);
      redraw();
    },
    lost(problem) {
      if (problem?.kind === "store-unavailable") board.store = false;
      else board.lose();
      redraw();
    },
  });
  const clock = setInterval(redraw, TICK);
  tabs.select("now");

  function dispose() {
    stop();
    clearInterval(clock);
    cancelAnimationFrame(due);
    for (const section of sections.values()) section.then((each) => each.dispose?.(), () => {});
  }
  return { root, dispose };
}
