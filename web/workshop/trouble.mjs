// What is wrong in the workshop, the worst first. Knows nothing of the page.

/** Degrees Celsius from which on a GPU is called hot. */
const HOT = 87;
/** Kinds of stuck jobs of which the panel tells; the rest is in the queue. */
const MOST_KINDS = 3;
/** Why no worker can run a job now. */
const STUCK = ["memory", "models", "nodes", "no_worker"];

/**
 * @param {Workshop.Board} board
 * @returns {Workshop.Trouble[]}
 */
export function troubles(board) {
  /** @type {Workshop.Trouble[]} */
  const found = [];
  /** @type {Workshop.Tell} */
  const tell = (key, values, isGrave = false) => void found.push({ key, values, isGrave });
  const count = board.order.length;
  const live = board.live();

  if (board.lostAt) tell("connection", { at: board.lostAt }, true);
  else if (!board.store) tell("store", {}, true);
  if (!live.length) tell(count ? "no_worker_jobs" : "no_worker", count ? { count } : {}, true);
  else if (live.every((worker) => worker.drained)) tell("all_drained", {}, count > 0);
  if (board.queue.paused) tell("paused", { count });
  if (live.length) for (const stuck of stuckJobs(board)) tell(`stuck.${stuck.why}`, stuck, true);
  for (const { name: worker, state, lost, devices } of board.workers.values()) {
    if (state === "lost") tell(lost ? "lost_since" : "lost", { worker, at: lost ?? 0 });
    const temperature = Math.max(...devices.map((device) => device.temperature ?? 0));
    if (state !== "lost" && temperature >= HOT) tell("hot", { worker, temperature });
  }
  return found.sort((a, b) => Number(b.isGrave) - Number(a.isGrave));
}

/** @param {Workshop.Board} board */
function stuckJobs({ jobs, order }) {
  /** @type {Map<string, Workshop.Stuck>} */
  const kinds = new Map();
  for (const id of order) {
    const { why = "", lacks = "", need } = jobs.get(id) ?? {};
    if (!STUCK.includes(why)) continue;
    const kind = kinds.get(why + lacks) ?? { why, lacks, need: Infinity, count: 0 };
    kinds.set(why + lacks, kind);
    kind.count++;
    kind.need = Math.min(kind.need, need ?? Infinity);
  }
  return [...kinds.values()].sort((a, b) => b.count - a.count).slice(0, MOST_KINDS);
}
