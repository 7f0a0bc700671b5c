// Whether what people have made is kept elsewhere: the snapshots, one when it is wanted, and how each is brought back.

import { showSecret } from "./secret.mjs";

/** Milliseconds between two questions, and while a snapshot is taken. */
const PAUSE = 30_000;
const WATCHED = 1000;
const GUIDE = "https://github.com/comfyume/comfyume/blob/main/docs/backup.md";
/** Why the server, the command line and this panel take snapshots; what else they tell is written as it is. */
const REASONS = ["by itself", "by hand", "from the panel"];

/** @type {Workshop.MakeSection} */
export function backupsSection(kit) {
  const { arrange, attempt, board, button, client, element, format, icon, make, short, word, write } = kit;
  /** @type {Map<string, HTMLElement>} */
  const items = new Map();
  /** @type {Workshop.Backups | undefined} */
  let known;
  let listed = "";
  let asked = 0;
  let isAsked = false;
  let timer = 0;

  const failed = element("p", { class: "cfw-failed", role: "alert" });
  const workers = element("div", { class: "cfw-form", role: "alert" });
  const totals = make("dl", "cfw-totals");
  const about = make("p", "cfm-muted");
  const begin = button(word("backups.begin"), () => void take(), "cfm-primary");
  const bar = element("progress", { ariaLabel: word("backups.running") });
  const told = element("p", { class: "cfm-muted", role: "status" });
  const working = make("div", "cfw-form cfw-working", bar, told);
  const unread = element("p", { class: "cfw-failed", role: "alert" });
  const list = element("ul", { class: "cfw-list", "aria-label": word("backups.snapshots") });
  const link = element("a", { href: GUIDE, target: "_blank", rel: "noopener noreferrer" }, word("backups.guide"));
  const snapshots = make("div", "cfw-section", make("h3", "", word("backups.snapshots")), unread, list);
  const row = make("div", "cfm-row", begin);
  const root = make("div", "cfw-section", failed, workers, totals, row, working, about, snapshots, make("p", "", link));
  snapshots.hidden = row.hidden = working.hidden = failed.hidden = workers.hidden = unread.hidden = true;

  async function load() {
    asked = performance.now();
    /** @type {Workshop.Backups | undefined} */
    const answer = await attempt(() => client.get("/comfyume/backups"));
    if (answer) show(answer);
  }

  async function take() {
    if (begin.ariaDisabled === "true") return;
    isAsked = true;
    begin.ariaDisabled = "true";
    /** @type {Workshop.Backups | undefined} */
    const answer = await attempt(() => client.send("POST", "/comfyume/backups"));
    if (answer) show(answer);
    else await load();
  }

  /** @param {Workshop.Backups} next */
  function show(next) {
    const wasRunning = Boolean(known?.running);
    known = next;
    const { failed: failure, last, running, where } = next;
    begin.ariaDisabled = String(Boolean(running));
    row.hidden = snapshots.hidden = where === null;
    say(failed, failure && word("backups.failed", { time: format.moment(failure.at), why: failure.error }));
    const lost = next.workers.map(({ worker, at, error: why }) =>
      word("backups.worker_failed", { worker, time: format.moment(at), why }),
    );
    workers.hidden = !lost.length;
    if (workers.textContent !== lost.join("")) {
      workers.replaceChildren(...lost.map((text) => make("p", "cfw-failed", text)));
    }
    write(about, where === null ? word("backups.none") : word("backups.where", { where, time: short(next.hours * 3600) }));
    showTotals(last, next.next);
    showProgress(running);
    clearTimeout(timer);
    if (running) timer = setTimeout(() => root.isConnected && void load(), WATCHED);
    else if (wasRunning && isAsked && !failure) kit.told(word("did.backed_up"));
    if (!running) isAsked = false;
    if (where !== null && !running) loadList(`${last?.taken} ${failure?.at}`);
  }

  /**
   * @param {Workshop.Backups["last"]} last
   * @param {number | null} next
   */
  function showTotals(last, next) {
    /** @type {(title: string, value: string) => HTMLElement} */
    const total = (title, value) => make("div", "", make("dt", "", word(title)), make("dd", "", value));
    const shown = [total("backups.last", last ? format.moment(last.taken) : word("backups.never"))];
    if (last) {
      shown.push(total("backups.took", short(Math.max(1, last.seconds))));
      shown.push(total("backups.new", word("backups.amount", { count: last.new_files, size: format.bytes(last.new_size) })));
    }
    if (next !== null) shown.push(total("backups.next", format.moment(next)));
    totals.hidden = next === null && !last;
    totals.replaceChildren(...shown);
  }

  /** @param {Workshop.Backups["running"]} running */
  function showProgress(running) {
    working.hidden = !running;
    if (!running) return;
    const { files, of, size } = running;
    // Without a value it tells that it does not know how long it takes.
    if (of) Object.assign(bar, { max: of, value: files });
    else bar.removeAttribute("value");
    write(told, of ? word("backups.progress", { files, of, size: format.bytes(size) }) : word("backups.running"));
  }

  /** @param {string} of what was told of the last one, by which another list is noticed */
  async function loadList(of) {
    if (listed === of) return;
    listed = of;
    /** @type {Workshop.BackupList | undefined} */
    const answer = await attempt(() => client.get("/comfyume/backups/snapshots"));
    if (!answer) {
      listed = "";
      return;
    }
    say(unread, answer.error && word("backups.unread", { why: answer.error }));
    if (answer.error) return;
    const shown = answer.snapshots.map((each) => {
      const item = items.get(each.id) ?? snapshotItem(kit, each);
      items.set(each.id, item);
      return item;
    });
    arrange(list, shown);
  }

  /** @type {(place: HTMLElement, text: string | false | null) => void} */
  function say(place, text) {
    place.hidden = !text;
    if (!text || place.textContent?.trim() === text) return;
    place.replaceChildren(icon("exclamation-triangle"), ` ${text}`);
  }

  function draw() {
    if (board.store && !board.lostAt && performance.now() - asked > PAUSE) load();
  }

  return { root, draw, show: () => void load(), dispose: () => clearTimeout(timer) };
}

/** @type {(kit: Workshop.Kit, snapshot: Workshop.BackupSnapshot) => HTMLElement} */
function snapshotItem(kit, { id, taken, is_damaged: isDamaged, ...told }) {
  const { element, format, headline, icon, make, number, short, word } = kit;
  const { reason = "", host = "", machine = "", files = 0, size = 0, new_files = 0, new_size = 0, seconds = 0, problems } = told;
  const why = REASONS.includes(reason) ? word(`backups.reason.${reason.replaceAll(" ", "_")}`) : reason;
  const left = problems.length + told.more_problems;
  const marks = [isDamaged && word("backups.damaged"), left > 0 && word("backups.left", { count: left })];
  const warnings = marks.flatMap((mark) => (mark ? [make("span", "cfw-mark", icon("exclamation-triangle"), mark)] : []));
  const held = isDamaged ? "" : word("backups.holds", { count: files, files: number(files), size: format.bytes(size) });
  const head = make("summary", "", headline("strong", format.moment(taken), ...warnings));
  head.append(make("span", "cfm-muted", [machine && word("backups.own", { worker: machine }), held, why].filter(Boolean).join(" · ")));
  const details = make("details", "cfw-card", head);
  details.dataset.missing = isDamaged ? "1" : "0";
  details.addEventListener("toggle", () => details.replaceChildren(head, ...(details.open ? body() : [])));

  function body() {
    if (isDamaged) return [make("p", "", word("backups.unreadable"))];
    const values = { host, count: new_files, size: format.bytes(new_size), time: short(Math.max(1, seconds)) };
    const restore = make("div", "cfw-form cfw-command");
    const value = `comfyume restore --at ${id}${machine && " --system"}`;
    const about = word(machine ? "backups.restore_own" : "backups.restore", { worker: machine });
    showSecret(kit, restore, { name: word("backups.command"), value, about });
    const more = told.more_problems ? [word("backups.more", { count: told.more_problems })] : [];
    const lines = [...problems, ...more].map((text) => element("li", { class: "cfw-name cfw-two", title: text }, text));
    const missing = lines.length ? [make("p", "", word("backups.not_in_it")), make("ul", "", lines)] : [];
    return [make("p", "", word("backups.of", values)), ...missing, restore];
  }

  return make("li", "", details);
}
