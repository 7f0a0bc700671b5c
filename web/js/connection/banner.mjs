// A line at the top of the page while something is lost that the page cannot do without, and a short one when it is back.

import { app } from "../../../scripts/app.js";
import { element, icon } from "../elements.mjs";
import { watch } from "../jobs/state.mjs";
import { toast } from "../toast.mjs";

/**
 * @typedef {import("../words.mjs").Words} Words
 * @typedef {"frontend" | "store" | "workers"} Part
 */

/** Milliseconds for which a loss may last unsaid: most last no longer. */
const UNSAID = 1500;
/** Milliseconds for which it is said that something is back. */
const IS_BACK = 5000;
/** What one is told of: without the first, nothing is known of the others. */
const PARTS = /** @type {Part[]} */ (["frontend", "store", "workers"]);

const COMFYUIS_OWN = "Comfy.Toast.DisableReconnectingToast";

/** @param {Words} word */
export function addBanner(word) {
  /** @type {Record<Part, string>} */
  const lost = { frontend: "", store: "", workers: "" };
  let shown = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const root = element("div", { class: "cfm cfm-banner", role: "status" });
  app.bodyTop.prepend(root);

  /**
   * @param {string} text
   * @param {string} [sign]
   */
  function show(text, sign = "exclamation-triangle") {
    shown = text;
    root.dataset.kind = sign === "check" ? "back" : "lost";
    root.replaceChildren(...(text ? [icon(sign), element("span", {}, text)] : []));
  }

  /**
   * @param {Part} part
   * @param {string} text what to say while it is missed; nothing when it is not
   * @param {boolean} [isBack] whether it is there, or only missed no longer
   */
  function set(part, text, isBack = true) {
    const was = lost[part];
    lost[part] = text;
    if (was === text) return;
    const now = PARTS.map((each) => lost[each]).find(Boolean) ?? "";
    clearTimeout(timer);
    if (now) {
      timer = setTimeout(show, shown && root.dataset.kind === "lost" ? 0 : UNSAID, now);
    } else if (shown && root.dataset.kind === "lost") {
      show(isBack ? word(`banner.${part}.back`) : "", "check");
      timer = setTimeout(show, IS_BACK, "");
    }
  }

  watchFrontend((isLost) => set("frontend", isLost ? word("banner.frontend") : ""));
  watch((state, before) => {
    set("store", state.store ? "" : word("banner.store"));
    if (!state.store) return;
    const waiting = state.jobs.filter((job) => job.state === "queued").length;
    const wasSaid = Boolean(lost.workers);
    const text = !state.workers && waiting ? word("banner.workers", { count: waiting }) : "";
    set("workers", text, state.workers > 0);
    if (wasSaid || lost.workers || !before?.store || !state.workers === !before.workers) return;
    // Nobody of this page waits for it, so a short word is enough.
    if (state.workers) toast("success", word("toast.worker"));
    else toast("warn", word("toast.no_worker"), word("toast.no_worker.detail"));
  });
}

/**
 * ComfyUI tells of this loss in a message that says "Reconnecting". This banner says more, so it takes its place, unless
 * the person's settings ask for ComfyUI's.
 *
 * @param {(isLost: boolean) => void} tell
 */
function watchFrontend(tell) {
  const settings = app.extensionManager.setting;
  const setting = settings.settings[COMFYUIS_OWN];
  if (setting) setting.defaultValue = true;
  app.api.addEventListener("reconnecting", () => tell(settings.get(COMFYUIS_OWN) !== false));
  app.api.addEventListener("reconnected", () => tell(false));
}
