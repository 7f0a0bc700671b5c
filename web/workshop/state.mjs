// What the server told of the workshop, and how each change makes it another. Knows nothing of the page.

/** The workshop as it was last told. Moments are Unix seconds by the server's clock. */
export class Board {
  /** @type {Map<string, Workshop.Job>} */
  jobs = new Map();
  /** @type {Map<string, Workshop.Worker>} */
  workers = new Map();
  /** Ids of the queued jobs, in the order in which they are expected to start. */
  order = /** @type {string[]} */ ([]);
  queue = /** @type {Workshop.Queue} */ ({ mode: "fair", paused: false, queued: 0, running: 0, ended: 0 });
  store = true;
  /** Whether anything was told yet. */
  isKnown = false;
  /** When the page lost what tells it; 0 while nothing is lost. */
  lostAt = 0;
  /** Names of the people whose page is open. */
  here = /** @type {string[]} */ ([]);
  #ahead = 0;
  #clock;

  /** @param {() => number} [clock] this page's, in Unix seconds */
  constructor(clock = () => Date.now() / 1000) {
    this.#clock = clock;
  }

  /** The server's clock. */
  now() {
    return this.#clock() + this.#ahead;
  }

  /** @param {Workshop.Snapshot} snapshot */
  take({ now, store, queue, workers, jobs, order, here }) {
    this.#hear(now, store);
    // Before its first look at the store a server knows nothing of the queue.
    this.queue = { ...this.queue, ...queue };
    this.workers = new Map(workers.map((worker) => [worker.name, worker]));
    this.jobs = new Map(jobs.map((job) => [job.id, job]));
    this.order = order;
    this.here = here;
  }

  /** @param {Workshop.Change} change */
  change({ now, store, queue, workers, jobs, here = this.here }) {
    this.#hear(now, store);
    if (queue) this.queue = queue;
    this.here = here;
    for (const worker of workers?.set ?? []) this.workers.set(worker.name, worker);
    for (const name of workers?.gone ?? []) this.workers.delete(name);
    if (jobs) this.#changeJobs(jobs);
  }

  lose() {
    this.lostAt ||= this.now();
  }

  /** How many jobs have come to their end: another number is a sign that sums are others too. */
  get ended() {
    return this.queue.ended;
  }

  /** @returns {Workshop.Worker[]} those that are heard of, by name */
  live() {
    return [...this.workers.values()].filter((worker) => worker.state !== "lost");
  }

  /**
   * @param {number | undefined} now
   * @param {boolean} store
   */
  #hear(now, store) {
    if (now) this.#ahead = now - this.#clock();
    this.store = store;
    this.isKnown = true;
    this.lostAt = 0;
  }

  /** @param {NonNullable<Workshop.Change["jobs"]>} jobs */
  #changeJobs({ set = [], gone = [], moved, order }) {
    const leave = new Set(gone);
    for (const id of gone) this.jobs.delete(id);
    for (const job of set) {
      this.jobs.set(job.id, job);
      if (job.state === "running") leave.add(job.id);
    }
    if (order) {
      this.order = order;
      return;
    }
    for (const [id] of moved ?? []) leave.add(id);
    if (leave.size) this.order = this.order.filter((id) => !leave.has(id));
    for (const [id, index] of moved ?? []) this.order.splice(index, 0, id);
  }
}
