// Finds the jobs that have ended: the latest at first, and then each that ends, once, the earliest first.

import { get } from "../client.mjs";

/** @typedef {import("./state.mjs").EndedJob} EndedJob */

/** Milliseconds in which several hints become one look. */
const GATHERS = 400;
/** Jobs that are asked for at once. */
const PAGE = 10;
/** Pages after which older ones are no news. */
const MOST_PAGES = 5;

/**
 * @param {(job: EndedJob, isNews: boolean) => void} tell
 * @returns {() => void} to be called when a job may have ended
 */
export function findEnds(tell) {
  /** @type {Set<string> | null} */
  let known = null;
  // When older ones are deleted, still older ones come into view, which are no news.
  let since = 0;
  let isLooking = false;
  let isWanted = false;

  async function look() {
    isLooking = true;
    do {
      isWanted = false;
      await new Promise((done) => setTimeout(done, GATHERS));
      try {
        const before = known;
        const found = await newest(before);
        const jobs = found.filter(({ id, finished }) => !before?.has(id) && (finished ?? 0) >= since).reverse();
        known = new Set([...(before ?? []), ...jobs.map(({ id }) => id)]);
        if (before === null) since = jobs.at(-1)?.finished ?? 0;
        for (const job of jobs) tell(job, before !== null);
      } catch (error) {
        // The next hint comes at the latest when the page is connected again.
        console.warn("[comfyume] it is not known which jobs have ended:", error);
      }
    } while (isWanted);
    isLooking = false;
  }

  return () => {
    isWanted = true;
    if (!isLooking) look();
  };
}

/**
 * @param {Set<string> | null} known
 * @returns {Promise<EndedJob[]>} the newest ended jobs, at least those that are not known
 */
async function newest(known) {
  /** @type {EndedJob[]} */
  const jobs = [];
  let before = "";
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer = await get(`/comfyume/jobs?state=ended&limit=${PAGE}${before}`);
    jobs.push(...answer.jobs);
    const isAll = !answer.next || !known || answer.jobs.some((/** @type {EndedJob} */ { id }) => known.has(id));
    if (isAll) break;
    before = `&before=${encodeURIComponent(answer.next)}`;
  }
  return jobs;
}
