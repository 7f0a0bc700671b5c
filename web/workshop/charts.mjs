// How the queue and the GPUs did, as lines over time. Below each chart its last figures are told in words.

import uPlot from "./charts/uplot.mjs";

/** Pixels. */
const HEIGHT = 130;
/** Seconds between two points, as the server has them. */
const STEP = 15;
/** Seconds between two marks: those of waits, and from a minute on those of the time. */
const MARKS = [1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 21_600];
const GIB = 2 ** 30;
/** @type {Workshop.Chart[]} */
const CHARTS = [
  { id: "queue", keys: ["queued", "running"] },
  { id: "waits", keys: ["wait_p50", "wait_p95"] },
  { id: "use", keys: ["gpu_use"], most: 100 },
  { id: "memory", keys: ["vram_used", "vram_total"] },
];

/** @type {Workshop.MakeCharts} */
export function chartsView(kit, place) {
  const { board, element, make, number, short, word, write } = kit;
  const clock = new Intl.DateTimeFormat(word("language"), { timeStyle: "short" });
  const time = (/** @type {number} */ at) => clock.format(at * 1000);
  /** @type {Workshop.Series | null} */
  let series = null;

  /** @type {Record<string, Workshop.Write>} */
  const units = {
    queue: number,
    waits: short,
    use: (value) => `${number(value)} %`,
    memory: (value) => `${number(value)} GiB`,
  };
  const style = element("link", { rel: "stylesheet", href: new URL("charts/uplot.css", import.meta.url).href });
  place.append(style);
  const charts = CHARTS.map(chart);
  const resized = new ResizeObserver(() => charts.forEach(({ fit }) => fit()));
  resized.observe(place);
  // Another palette: lines take their colours from the page whenever they are drawn.
  const repainted = new MutationObserver(() => charts.forEach(({ plot }) => plot.redraw(false)));
  repainted.observe(document.documentElement, { attributes: true });

  /** @param {typeof CHARTS[number]} given */
  function chart({ id, keys, most }) {
    const unit = units[id];
    const said = make("span", "cfm-muted");
    const signs = keys.map((_, index) => element("i", { class: `cfw-key cfw-key-${index}`, "aria-hidden": "true" }));
    const legend = keys.map((key, index) => make("span", "", signs[index], word(`chart.${key}`)));
    const figure = make("figure", "", make("h3", "", word(`chart.${id}`)), make("figcaption", "", legend, said));
    place.append(figure);
    const ink = (/** @type {Element} */ of) => getComputedStyle(of).color;
    const axis = {
      stroke: () => ink(said),
      grid: { stroke: () => getComputedStyle(figure).borderTopColor, width: 1 },
      ticks: { show: false },
      font: "11px sans-serif",
    };
    const incrs = id === "waits" ? MARKS : undefined;
    const line = { width: 2, points: { show: false } };
    const plot = new uPlot(
      {
        width: 100,
        height: HEIGHT,
        legend: { show: false },
        // The cursor of uPlot would need its legend.
        cursor: { show: false },
        scales: { y: { range: (_, __, top) => [0, most ?? Math.max(top * 1.1, 1)] } },
        axes: [
          { ...axis, size: 24, space: 60, incrs: MARKS.slice(3), values: (_, all) => all.map(time) },
          { ...axis, size: 58, space: 28, incrs, values: (_, all) => all.map(unit) },
        ],
        series: [
          {},
          ...keys.map((_, index) => ({ ...line, stroke: () => ink(signs[index]), dash: index ? [5, 4] : undefined })),
        ],
      },
      [[], ...keys.map(() => [])],
      figure,
    );

    const pointer = plot.over.appendChild(element("div", { class: "cfw-pointer", hidden: true }));
    plot.over.addEventListener("mousemove", ({ offsetX }) => {
      pointer.hidden = false;
      pointer.style.left = `${offsetX}px`;
      say(plot.posToIdx(offsetX));
    });
    plot.over.addEventListener("mouseleave", () => {
      pointer.hidden = true;
      say();
    });

    /** Tell the figures where the mouse is, else the last ones. */
    function say(index = plot.data[0].length - 1) {
      const [at, ...columns] = plot.data;
      if (index < 0) return;
      const figures = columns.map((column) => (column[index] == null ? "–" : unit(Number(column[index]))));
      write(said, `${time(at[index])}: ${figures.join(", ")}`);
    }

    const fit = () => place.clientWidth && plot.setSize({ width: figure.clientWidth, height: HEIGHT });

    /** @param {Workshop.Series} told */
    function update(told) {
      const scale = (/** @type {Workshop.Column} */ column) => column.map((value) => value && value / GIB);
      plot.setData([told.at, ...keys.map((key) => (id === "memory" ? scale(told[key]) : told[key]))]);
      if (pointer.hidden) say();
    }

    return { plot, fit, update };
  }

  /** @param {Workshop.Series} next */
  function show(next) {
    series = next;
    for (const { fit, update } of charts) {
      fit();
      update(next);
    }
  }

  function tick() {
    const now = board.now();
    if (!series || board.lostAt || now - (series.at.at(-1) ?? 0) < STEP) return;
    const devices = board.live().flatMap((worker) => worker.devices);
    const known = devices.filter(({ vram_free }) => vram_free !== null);
    const sum = (/** @type {Workshop.Column} */ all) => all.reduce((/** @type {number} */ a, b) => a + (b ?? 0), 0);
    const uses = devices.map(({ use }) => use).filter((use) => use !== null);
    const total = sum(known.map(({ vram_total }) => vram_total));
    series.at.push(now);
    series.queued.push(board.order.length);
    series.running.push(board.jobs.size - board.order.length);
    // How long jobs have waited is asked when some have ended.
    for (const waits of [series.wait_p50, series.wait_p95]) waits.push(waits.at(-1) ?? null);
    series.gpu_use.push(uses.length ? sum(uses) / uses.length : null);
    series.vram_used.push(total - sum(known.map(({ vram_free }) => vram_free)));
    series.vram_total.push(total);
    for (const { update } of charts) update(series);
  }

  function dispose() {
    resized.disconnect();
    repainted.disconnect();
    for (const { plot } of charts) plot.destroy();
  }

  return { show, tick, dispose };
}
