// What this page knows of its person's jobs: those that wait or run, and which have ended meanwhile.

import { app } from "../../../scripts/app.js";
import { subscribe } from "../feed.mjs";
import { findEnds } from "./ends.mjs";

/**
 * @typedef {object} Job one that waits or runs; times in seconds, moments as Unix times, sizes in bytes
 * @property {string} id
 * @property {"queued" | "running"} state
 * @property {number} number
 * @property {string} name of its workflow; empty where nobody has told
 * @property {number} submitted
 * @property {number | null} started
 * @property {number | null} position its place in the queue, from 1
 * @property {number | null} starts_at by the server's clock
 * @property {boolean} held
 * @property {number | null} need memory of a GPU
 * @property {"" | "no_worker" | "memory" | "paused" | "held" | "models" | "nodes"} why what it waits for, other than its turn
 * @property {string} lacks the model or node that no worker has, if that is why
 * @property {string | null} worker
 * @property {{node: string, title: string, value: number, max: number} | null} progress
 *
 * @typedef {object} JobFile
 * @property {string} filename
 * @property {string} subfolder
 * @property {string} type
 * @property {"image" | "video" | "audio" | "other"} media
 *
 * @typedef {object} EndedJob
 * @property {string} id
 * @property {"queued" | "running" | "done" | "error" | "cancelled" | "quarantined"} state
 * @property {number} number
 * @property {string} name of its workflow; empty where nobody has told
 * @property {number} submitted
 * @property {number | null} started
 * @property {number | null} finished
 * @property {string | null} worker
 * @property {{message: string, node_id: string | null, node_type: string | null} | null} error
 * @property {JobFile[]} files
 *
 * @typedef {object} State
 * @property {number} now the server's clock
 * @property {boolean} store whether the store can be reached
 * @property {number} workers
 * @property {boolean} paused
 * @property {number} queued all jobs that wait, everybody's
 * @property {Job[]} jobs
 */

/** @type {State | null} */
let state = null;
/** Milliseconds of this page's clock when the state was told. */
let toldAt = 0;
/** @type {Set<(state: State, before: State | null) => void>} */
const onState = new Set();
/** @type {Set<(job: EndedJob, isNews: boolean) => void>} */
const onEnd = new Set();
let lookForEnds = () => {};

/** @returns {State | null} null before the first word of the server */
export const current = () => state;

/** @returns {number} the server's clock, by which the moments are told */
export const now = () => (state?.now ?? 0) + (performance.now() - toldAt) / 1000;

/**
 * @param {(state: State, before: State | null) => void} listener
 * @returns {() => void} ends it
 */
export function watch(listener) {
  onState.add(listener);
  return () => onState.delete(listener);
}

/**
 * @param {(job: EndedJob, isNews: boolean) => void} listener gets jobs that have ended; `isNews` says whether only now
 * @returns {() => void} ends it
 */
export function watchEnds(listener) {
  onEnd.add(listener);
  return () => onEnd.delete(listener);
}

/** @param {State} next */
function take(next) {
  const before = state;
  state = next;
  toldAt = performance.now();
  for (const listener of onState) listener(next, before);
  const here = new Set(next.jobs.map((job) => job.id));
  if (before?.jobs.some((job) => !here.has(job.id))) lookForEnds();
}

/** Begin to listen to the server. */
export function follow() {
  lookForEnds = findEnds((job, isNews) => {
    for (const listener of onEnd) listener(job, isNews);
  });
  lookForEnds();
  subscribe("jobs", {
    snapshot: take,
    lost: (problem) => {
      if (problem?.kind !== "store-unavailable") return;
      const last = state ?? { workers: 1, paused: false, queued: 0, jobs: [] };
      take({ ...last, now: now(), store: false });
    },
  });
  // A job can begin and end between two words of the feed, and while the page is not connected.
  app.api.addEventListener("status", ({ detail }) => detail && lookForEnds());
}
