// "My models": a person's own models, how to bring further ones, and what the room has.

import { app } from "../../../scripts/app.js";
import { get, send } from "../client.mjs";
import { ask } from "../dialog.mjs";
import { element, icon, write } from "../elements.mjs";
import { bytes } from "../format.mjs";
import { said } from "../jobs/actions.mjs";
import { toast } from "../toast.mjs";
import { upload } from "./upload.mjs";

/**
 * @typedef {import("../words.mjs").Words} Words
 * @typedef {{user: string, folder: string, name: string, size: number, in_graphs: string}} Model
 * @typedef {Model & {offered: boolean, in_room: boolean}} OwnModel
 * @typedef {{largest: number, folders: string[], models: OwnModel[], room: Model[]}} Shelves
 */

const PATH = "/comfyume/my-models";
/** What most people bring. */
const USUAL = "loras";

/** @type {ReturnType<typeof modelsDialog> | undefined} */
let dialog;

/** @param {Words} word */
export function openModels(word) {
  // An upload goes on while it is closed.
  dialog ??= modelsDialog(word);
  dialog.open();
}

/** @param {Words} word */
function modelsDialog(word) {
  const folder = element("select", { name: "folder" });
  const file = element("input", { type: "file", accept: ".safetensors,.sft", required: true });
  const start = element("button", { class: "cfm-button cfm-primary" }, word("models.upload"));
  const form = element(
    "form",
    { class: "cfm-row", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), void bring()) },
    element("label", {}, word("models.file"), " ", file),
    element("label", {}, word("models.folder"), " ", folder),
    start,
  );
  const bar = element("progress", { max: 1, value: 0 });
  const amount = element("span", { class: "cfm-muted" });
  const stop = element("button", { type: "button", class: "cfm-button" }, word("models.stop"));
  const underWay = element("div", { class: "cfm-row", hidden: true }, bar, amount, stop);
  const told = element("p", { role: "status", class: "cfm-note", hidden: true });
  const own = element("ul", { class: "cfm-list", "aria-label": word("models.title") });
  const none = element("p", { class: "cfm-muted" }, word("models.none"));
  const room = element("ul", { class: "cfm-list" });
  const ofRoom = element("section", { hidden: true }, element("h3", {}, word("models.room")), room);
  const about = element("p", { class: "cfm-muted" });
  const close = element("button", { type: "button", class: "cfm-button" }, word("models.close"));
  const root = element(
    "dialog",
    { class: "cfm cfm-dialog cfm-models", tabIndex: -1, "aria-labelledby": "cfm-models-title" },
    element("h2", { id: "cfm-models-title" }, word("models.title")),
    about,
    form,
    underWay,
    told,
    own,
    none,
    ofRoom,
    element("div", { class: "cfm-row cfm-end" }, close),
  );
  // ComfyUI's page would act on the graph.
  root.addEventListener("keydown", (event) => event.stopPropagation());
  close.addEventListener("click", () => root.close());
  root.addEventListener("close", () => root.remove());

  function open() {
    document.body.append(root);
    if (!root.open) root.showModal();
    void load();
  }

  /** @param {string} text */
  function tell(text) {
    told.hidden = !text;
    write(told, text);
  }

  /**
   * @param {() => Promise<unknown>} work
   * @returns {Promise<boolean>} whether it is done
   */
  async function attempt(work) {
    try {
      await work();
      return true;
    } catch (error) {
      tell(said(error, word));
      return false;
    }
  }

  const load = () => attempt(async () => show(await get(PATH)));

  /** @param {Shelves} shelves */
  function show(shelves) {
    const chosen = folder.value || USUAL;
    folder.replaceChildren(...shelves.folders.map((name) => element("option", {}, name)));
    folder.value = shelves.folders.includes(chosen) ? chosen : (shelves.folders[0] ?? "");
    form.hidden = !shelves.largest;
    write(about, word(shelves.largest ? "models.about" : "models.off", { size: bytes(shelves.largest) }));
    none.hidden = shelves.models.length > 0;
    own.replaceChildren(...shelves.models.map(ownItem));
    ofRoom.hidden = !shelves.room.length;
    room.replaceChildren(...shelves.room.map((model) => item(model)));
    // The button that was pressed may be gone, and a key that nothing in here has is ComfyUI's.
    if (root.open && !root.contains(document.activeElement)) root.focus();
  }

  /**
   * @param {Model} model
   * @param {...Node} more
   */
  function item(model, ...more) {
    const name = element("strong", { class: "cfm-title", title: model.in_graphs }, model.in_graphs);
    const where = element("span", { class: "cfm-muted" }, `${model.folder} · ${bytes(model.size)}`);
    return element("li", { class: "cfm-job" }, element("div", { class: "cfm-row" }, name, where), ...more);
  }

  /** @param {OwnModel} model */
  function ownItem(model) {
    const { folder, name, offered, in_room } = model;
    const path = `${PATH}/${encodeURIComponent(folder)}/${encodeURIComponent(name)}`;
    const state = offered ? "models.offered" : in_room ? "models.in_room" : "";
    /** @type {(label: string, work: () => Promise<unknown>) => HTMLButtonElement} */
    const act = (label, work) => {
      const onclick = () => void attempt(work).then((isDone) => (isDone ? changed() : undefined));
      const made = element("button", { type: "button", class: "cfm-button", onclick }, word(label));
      made.setAttribute("aria-label", `${word(label)}: ${name}`);
      return made;
    };
    const offer = offered
      ? act("models.withdraw", () => send("DELETE", `${path}/offer`))
      : !in_room && act("models.offer", () => send("PUT", `${path}/offer`));
    const remove = act("models.delete", async () => {
      const title = word("models.delete.ask", { name });
      const question = { title, text: word("models.delete.text"), action: word("models.delete"), danger: true };
      if (await ask(question)) await send("DELETE", path);
    });
    const mark = state && element("span", { class: "cfm-muted" }, icon(offered ? "clock" : "users"), " ", word(state));
    return item(model, element("div", { class: "cfm-row" }, mark || null, offer, remove));
  }

  async function changed() {
    tell("");
    await load();
    // So that the lists of the nodes that are open have it too.
    await app.refreshComboInNodes();
  }

  async function bring() {
    const chosen = file.files?.[0];
    if (!chosen) return;
    const ending = new AbortController();
    const path = `${PATH}/${encodeURIComponent(folder.value)}/${encodeURIComponent(chosen.name)}`;
    const name = chosen.name;
    bar.setAttribute("aria-label", word("models.progress", { name }));
    stop.onclick = () => ending.abort();
    const progress = (/** @type {number} */ arrived) => {
      bar.value = chosen.size ? arrived / chosen.size : 0;
      write(amount, word("models.arrived", { name, arrived: bytes(arrived), size: bytes(chosen.size) }));
    };
    progress(0);
    tell("");
    start.disabled = true;
    underWay.hidden = false;
    try {
      const model = await upload(path, chosen, progress, ending.signal);
      file.value = "";
      await changed();
      done("success", word("models.is_there", { name: model.in_graphs }));
    } catch (error) {
      const isStopped = error instanceof DOMException && error.name === "AbortError";
      done(isStopped ? "info" : "error", isStopped ? word("models.stopped", { name }) : said(error, word));
    } finally {
      start.disabled = false;
      underWay.hidden = true;
    }
  }

  /** @type {(severity: "success" | "info" | "error", text: string) => void} */
  function done(severity, text) {
    if (root.open) tell(text);
    else toast(severity, word("models.title"), text);
  }

  return { open };
}
