// One worker: how it does, what it runs, and what an instructor does with it.

import { name, writeName } from "./kit.mjs";

const GIB = 2 ** 30;
const ICONS = { idle: "circle", busy: "play-circle", draining: "sign-out", lost: "exclamation-triangle" };

const STEERS = { dismiss: "times", undrain: "sign-in", drain: "sign-out" };

/** @type {Workshop.MakeCard} */
export function workerCard(kit, id, people) {
  const { actions, arrange, board, cost, element, headline, make, format, icon, iconButton, number, short, word } = kit;
  const worker = () => /** @type {Workshop.Worker} */ (board.workers.get(id));
  const state = make("span", "cfw-state");
  const devices = make("div", "");
  const who = make("span", "cfw-name cfw-two cfw-fill");
  const cancel = iconButton("times", "-", () => actions.cancel([worker().job ?? ""]));
  const progress = make("progress", "");
  const running = make("div", "", make("div", "cfw-line", who, cancel), progress);
  const note = make("span", "cfw-name cfw-fill cfm-muted");
  const drain = iconButton("sign-out", "-", () => {
    if (worker().state === "lost") actions.dismiss(id);
    else actions.drain(id, !worker().drained);
  });
  const reserve = () => actions.reserve(id, owner.value || null).then(update);
  const owner = element("select", { "aria-label": word("worker.owner", { worker: id }), onchange: reserve });
  const root = make(
    "li",
    "cfw-card",
    headline("h4", id, state, drain),
    devices,
    running,
    make("div", "cfw-line", note, owner),
  );

  function update() {
    const told = worker();
    if (root.dataset.state !== told.state) {
      root.dataset.state = told.state;
      state.replaceChildren(icon(ICONS[told.state]), word(`worker.${told.state}`));
    }
    arrange(devices, told.devices.map((device, index) => showDevice(device, devices.children[index])));
    running.hidden = !told.job;
    if (told.job) showJob(board.jobs.get(told.job));
    writeName(note, notes(told));
    const steer = told.state === "lost" ? "dismiss" : told.drained ? "undrain" : "drain";
    const label = word(`worker.${steer}`, { worker: id });
    if (drain.title !== label) drain.replaceChildren(icon(STEERS[steer]));
    name(drain, label);
    showOwner(told.reserved_for ?? "");
  }

  /** @param {string} user */
  function showOwner(user) {
    const names = ["", ...new Set([...(user ? [user] : []), ...people()])];
    if (owner.options.length !== names.length) {
      const [all, ...others] = names.map((each) => new Option(word("worker.only", { user: each }), each));
      all.text = word("worker.all");
      owner.replaceChildren(all, ...others);
    }
    if (owner.dataset.user !== user || owner !== document.activeElement) owner.value = owner.dataset.user = user;
  }

  /** @param {Workshop.Worker} told */
  function notes({ state, lease, loaded, pulling, price_hour: price }) {
    const parts = [];
    if (price !== null) parts.push(word("worker.price", { cost: cost(price) }));
    if (state !== "lost") parts.push(word("worker.lease", { time: short(lease) }));
    if (loaded.length) parts.push(word("worker.models", { names: loaded.join(", ") }));
    if (pulling) parts.push(pulling);
    return parts.join(" · ");
  }

  /** @param {Workshop.Job | undefined} job */
  function showJob(job) {
    const { value = 0, max = 0 } = job?.progress ?? {};
    const number = job?.number ?? "";
    const values = { user: job?.user ?? "", number, job: job?.name || word("job.number", { number }), value, max };
    writeName(who, job ? word(max > 1 ? "worker.step" : "worker.job", values) : word("worker.some_job"));
    name(progress, word("worker.progress", values));
    name(cancel, word("job.cancel", values));
    cancel.hidden = !job;
    progress.max = max || 1;
    if (max) progress.value = value;
    else progress.removeAttribute("value");
  }

  /** @type {Workshop.ShowDevice} */
  function showDevice({ name: gpu, vram_total: total, vram_free: free, temperature, use }, there) {
    const made = /** @type {HTMLElement} */ (there ?? newDevice());
    const [figures, bar] = /** @type {HTMLElement[]} */ ([...made.children]);
    const used = total - (free ?? 0);
    const size = format.gib(total);
    const memory = free === null ? size : word("worker.vram", { used: number(used / GIB), total: size });
    const parts = [memory];
    if (use !== null) parts.push(word("worker.use", { use: number(use) }));
    if (temperature !== null) parts.push(`${number(temperature)} °C`);
    writeName(figures, [...parts, gpu].join(" · "));
    const percent = Math.round((used / (total || 1)) * 100);
    bar.hidden = free === null;
    bar.ariaValueNow = String(percent);
    /** @type {HTMLElement} */ (bar.firstElementChild).style.width = `${percent}%`;
    return made;
  }

  function newDevice() {
    const label = word("worker.memory", { worker: id });
    const bar = element("div", { class: "cfw-meter", role: "meter", ariaLabel: label }, make("div", ""));
    return make("div", "", make("p", "cfw-name"), bar);
  }

  return { root, update };
}
