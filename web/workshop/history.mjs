// What the workshop's jobs took and cost, as figures, charts and files to keep.

import { name } from "./kit.mjs";
import { notLoaded } from "./loading.mjs";
import { table } from "./table.mjs";

/** Hours that one can look back. */
const PERIODS = [1, 24, 168, 720];
/** Hours for which the charts have points. */
const MOST_CHARTED = 24;
/** Jobs that are listed; all are in the files. */
const MOST_LISTED = 100;
/** Milliseconds between two questions for sums; asked when jobs have ended. */
const PAUSE = 5000;
const KINDS = ["csv", "json"];
/** Figures of some jobs together. */
const SUMS = /** @type {const} */ (["jobs", "wait_p50", "wait_p95", "gpu_seconds", "cost", "cost_per_frame"]);

/** @type {Workshop.MakeSection} */
export function historySection(kit) {
  const { app, attempt, board, button, client, element, make, format, short, word } = kit;
  let user = "";
  let seen = 0;
  let asked = 0;
  /** @type {Workshop.Charts | undefined} */
  let charts;

  const hours = PERIODS.map((each) => new Option(word(`history.hours.${each}`), String(each)));
  const period = element("select", { "aria-label": word("history.period"), onchange: load }, hours);
  const everybody = button("", () => only(""));
  const links = KINDS.map((kind) => element("a", { class: "cfm-button", download: "" }, kind.toUpperCase()));
  links.forEach((link, index) => name(link, word(`history.${KINDS[index]}`)));
  const totals = make("dl", "cfw-totals");
  const drawn = make("div", "cfw-charts");
  const tables = make("div", "cfw-section");
  const controls = make("div", "cfm-row", period, everybody, links);
  const root = make("div", "cfw-section", controls, totals, drawn, tables);

  /** @param {string} [of] */
  function only(of) {
    user = of ?? user;
    load();
  }

  async function load() {
    asked = performance.now();
    seen = board.ended;
    const to = Math.ceil(board.now());
    const span = Number(period.value);
    const query = new URLSearchParams({ from: String(to - span * 3600), to: String(to), ...(user && { user }) });
    links.forEach((link, index) => (link.href = app.api.fileURL(`/comfyume/history.${KINDS[index]}?${query}`)));
    everybody.hidden = !user;
    everybody.replaceChildren(kit.icon("times"), ` ${word("history.only", { user })}`);
    await attempt(async () => {
      const series = client.get(`/comfyume/series?hours=${Math.min(span, MOST_CHARTED)}`);
      show(await client.get(`/comfyume/history?${query}`));
      charts ??= await chart();
      charts?.show(await series);
    });
  }

  /** What draws the charts; undefined where it could not be fetched, which is said in their place. */
  async function chart() {
    const made = await import("./charts.mjs").catch(() => null);
    if (charts) return charts;
    drawn.replaceChildren(...(made ? [] : [notLoaded(kit, word, load)]));
    return made?.chartsView(kit, drawn);
  }

  /** @type {(key: string, value: number | null) => string} */
  function figure(key, value) {
    if (value === null) return "–";
    if (key.startsWith("cost")) return kit.cost(value);
    return key === "jobs" || key === "files" ? kit.number(value) : short(value);
  }

  /** @param {Workshop.History} history */
  function show({ totals: all, people, workers, jobs }) {
    const { done = 0, error = 0, cancelled = 0, quarantined = 0 } = all.states;
    const ends = word("history.states", { done, failed: error + quarantined, cancelled });
    const shown = [...SUMS.map((key) => [key, figure(key, all[key])]), ["ends", ends]];
    totals.replaceChildren(
      ...shown.map(([key, text]) => make("div", "", make("dt", "", word(`history.${key}`)), make("dd", "", text))),
    );
    /** @type {Workshop.ShowSums} */
    const sums = (what, of) =>
      figures(
        `by_${what}`,
        [what, ...SUMS],
        of.map((each) => [each[what], ...SUMS.map((key) => figure(key, each[key]))]),
      );
    const last = jobs.slice(0, MOST_LISTED).map((job) => [
      job.user,
      job.name,
      word(`state.${job.state}`),
      format.moment(job.ended),
      figure("waited", job.waited),
      short(job.ran),
      job.worker ?? "–",
      String(job.files),
      figure("cost", job.cost),
    ]);
    const columns = ["user", "name", "state", "ended", "waited", "ran", "worker", "files", "cost"];
    tables.replaceChildren(sums("worker", workers), sums("user", people), figures("last", columns, last));
  }

  /** @type {Workshop.ShowFigures} */
  function figures(caption, columns, rows) {
    return table(kit, word(`history.${caption}`), columns.map((key) => word(`history.${key}`)), rows);
  }

  function draw() {
    if (seen !== board.ended && performance.now() - asked > PAUSE) load();
    charts?.tick();
  }

  return { root, draw, show: only, dispose: () => charts?.dispose() };
}
