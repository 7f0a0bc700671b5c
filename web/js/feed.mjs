// What the server tells of itself, over ComfyUI's own socket. A subscription ends with its socket, so it is made again
// whenever ComfyUI has connected again, and whenever a change was missed.

import { app } from "../../scripts/app.js";
import { Problem, send } from "./client.mjs";

/** Milliseconds until the next attempt, if the server does not know this page's socket yet. */
const SOON = 1000;
/** Milliseconds until the next attempt, if it has no answer. */
const LATER = 5000;
/** Answers after which no other is to be expected. */
const FINAL = [400, 401, 403, 404, 405];

/**
 * @typedef {object} Listener
 * @property {(value: any) => void} snapshot gets the whole state
 * @property {(value: any) => void} [change] gets what is different, for topics that number their messages
 * @property {(problem: Problem | null) => void} [lost] nothing is told any more, until the next snapshot
 */

/** @returns {Promise<string>} ComfyUI's name for this page's socket */
async function clientId() {
  while (!app.api.clientId) {
    await new Promise((told) => app.api.addEventListener("status", told, { once: true }));
  }
  return app.api.clientId;
}

/**
 * @param {string} topic such as `jobs`
 * @param {Listener} listener
 * @returns {() => void} ends the subscription
 */
export function subscribe(topic, listener) {
  const event = `comfyume.${topic}`;
  let attempt = 0;
  let revision = 0;
  let isAsking = false;
  /** @type {any[]} */
  let early = [];

  async function ask() {
    const mine = ++attempt;
    isAsking = true;
    early = [];
    try {
      const path = `/comfyume/feeds/${topic}?client=${encodeURIComponent(await clientId())}`;
      const value = await send("PUT", path);
      if (mine !== attempt) return;
      isAsking = false;
      revision = value.revision;
      listener.snapshot(value);
      // What came before the answer may be newer than it.
      for (const message of early.splice(0)) take(message);
    } catch (error) {
      if (mine !== attempt) return;
      const problem = error instanceof Problem ? error : null;
      if (problem?.status !== 409) listener.lost?.(problem);
      if (!problem) console.error(`[comfyume] the feed ${topic} cannot be shown:`, error);
      if (problem && FINAL.includes(problem.status)) return;
      setTimeout(() => mine === attempt && ask(), problem?.status === 409 ? SOON : LATER);
    }
  }

  /** @param {any} message */
  function take(message) {
    if (isAsking) {
      early.push(message);
    } else if (message.revision === undefined) {
      listener.snapshot(message);
    } else if (message.revision === revision + 1) {
      revision = message.revision;
      listener.change?.(message);
    } else if (message.revision > revision) {
      ask();
    }
  }

  function lose() {
    attempt++;
    isAsking = true;
    listener.lost?.(null);
  }

  /** @param {CustomEvent} told */
  const hear = (told) => take(told.detail);
  app.api.addEventListener(event, hear);
  app.api.addEventListener("reconnecting", lose);
  app.api.addEventListener("reconnected", ask);
  ask();

  return () => {
    attempt++;
    app.api.removeEventListener(event, hear);
    app.api.removeEventListener("reconnecting", lose);
    app.api.removeEventListener("reconnected", ask);
    const path = `/comfyume/feeds/${topic}?client=${encodeURIComponent(app.api.clientId ?? "")}`;
    send("DELETE", path).catch(() => {});
  };
}
