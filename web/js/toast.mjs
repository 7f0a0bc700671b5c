// Short messages in the corner, by ComfyUI's own means.

import { app } from "../../scripts/app.js";

/** Milliseconds for which a message is shown; what went wrong stays until it is closed. */
const LIFE = { success: 6000, info: 6000, warn: 12_000, error: undefined };
/** Characters of a detail: an error can be a whole page. */
const LONGEST = 240;

/**
 * @param {"success" | "info" | "warn" | "error"} severity
 * @param {string} summary
 * @param {string} [detail]
 * @param {{stays?: boolean}} [options]
 */
export function toast(severity, summary, detail, { stays = false } = {}) {
  const shown = detail && detail.length > LONGEST ? `${detail.slice(0, LONGEST)}…` : detail;
  const life = stays ? undefined : LIFE[severity];
  app.extensionManager.toast.add({ severity, summary, detail: shown, life, styleClass: "cfm-toast" });
}
