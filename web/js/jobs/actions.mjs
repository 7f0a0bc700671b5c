// What a person does with a job.

import { app } from "../../../scripts/app.js";
import { Problem, send } from "../client.mjs";
import { toast } from "../toast.mjs";

/** @typedef {import("../words.mjs").Words} Words */

/**
 * @param {unknown} error
 * @param {Words} word
 * @returns {string} what the person is told of it
 */
export function said(error, word) {
  if (error instanceof Problem && error.kind === "unreachable") return word("session.unreachable");
  return error instanceof Error ? error.message : String(error);
}

/**
 * @param {{id: string, number: number}} job
 * @param {"cancel" | "again"} action
 * @param {Words} word
 * @returns {Promise<boolean>} whether it is done
 */
export async function act({ id, number }, action, word) {
  try {
    // The events of a job that runs again come to this page.
    const query = action === "again" ? `?client=${encodeURIComponent(app.api.clientId ?? "")}` : "";
    await send("POST", `/comfyume/jobs/${id}/${action}${query}`);
    return true;
  } catch (error) {
    // Who cancels what has just ended sees its end.
    if (action === "cancel" && error instanceof Problem && error.status === 409) return true;
    toast("error", word(`job.${action}.failed`, { number }), said(error, word));
    return false;
  }
}

/**
 * Have a button do something once at a time. It stays focusable meanwhile, so that the focus is not lost.
 *
 * @param {HTMLButtonElement} button
 * @param {() => Promise<boolean>} work whether the button has done its part
 */
export function onceAtATime(button, work) {
  button.addEventListener("click", async () => {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    if (!(await work())) button.ariaDisabled = null;
  });
}
