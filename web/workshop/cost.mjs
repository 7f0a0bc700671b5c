// What the workshop costs so far and by its end, and by which rules: the figures are the server's.

import { table } from "./table.mjs";

/** Milliseconds between two questions. */
const PAUSE = 30_000;
const GIB = 2 ** 30;

/** @type {Workshop.MakeSection} */
export function costSection(kit) {
  const { attempt, board, client, format, make, number, word } = kit;
  let asked = 0;
  const totals = make("dl", "cfw-totals");
  const tables = make("div", "cfw-section");
  const rules = make("ul", "cfw-form cfm-muted");
  const root = make("div", "cfw-section", totals, tables, make("h3", "", word("cost.rules")), rules);

  async function load() {
    asked = performance.now();
    /** @type {Workshop.Cost | undefined} */
    const cost = await attempt(() => client.get("/comfyume/cost"));
    if (cost) show(cost);
  }

  /** @param {Workshop.Cost} cost */
  function show(cost) {
    const { always_on: always, currency, lines, workers } = cost;
    const until = format.moment(cost.ends);
    const sum = (/** @type {number | null} */ value) => (value === null ? word("cost.no_price") : kit.cost(value));
    const money = (/** @type {number | null} */ value) => (value === null ? sum(value) : `${sum(value)} ${currency}`);
    /** @type {(title: string, value: number | null) => HTMLElement} */
    const total = (title, value) => make("div", "", make("dt", "", title), make("dd", "", money(value)));
    totals.replaceChildren(
      total(word("cost.so_far"), cost.cost),
      total(word("cost.by_end", { time: until }), cost.cost_by_end),
      total(word("cost.always_on", { count: always.gpus }), always.cost),
    );

    /** @type {(what: string, value: number) => string} */
    const amount = (what, value) =>
      word(`cost.amount.${what}`, { amount: value && value < 1 ? kit.cost(value) : number(value) });
    const rows = lines.map(({ what, ...line }) => [
      word(`cost.${what}`),
      sum(line.cost),
      sum(line.cost_by_end),
      amount(what, line.amount),
      amount(what, line.amount_by_end),
      sum(line.price),
    ]);
    rows.push([word("cost.together"), sum(cost.cost), sum(cost.cost_by_end), "", "", ""]);
    const ofWorkers = workers.map(({ worker, hours, price_hour, cost: all, is_here }) => [
      worker,
      sum(all),
      amount("gpu", hours),
      sum(price_hour),
      word(is_here ? "cost.is_here" : "cost.is_gone"),
    ]);
    /** @type {Workshop.ShowFigures} */
    const figures = (caption, columns, of) =>
      table(kit, word(caption, { currency }), columns.map((key) => word(`cost.${key}`)), of);
    // They are drawn anew while somebody may be reading.
    const scrolled = [...tables.children].map(({ scrollLeft }) => scrollLeft);
    tables.replaceChildren(
      figures("cost.lines", ["what", "so_far", "later", "amount", "amount_later", "price"], rows),
      figures("cost.workers", ["worker", "costs", "hours", "price", "is"], ofWorkers),
    );
    scrolled.forEach((left, index) => (tables.children[index].scrollLeft = left));

    const { since, begins, gib, to_people, to_workers, unpriced_hours } = cost;
    const sent = { people: format.bytes(to_people), workers: format.bytes(to_workers) };
    const span = { begins: format.moment(begins), ends: until, hours: amount("gpu", always.hours) };
    const sentences = [
      word("cost.rule.so_far", { since: format.moment(since), ...sent }),
      word("cost.rule.by_end", { kept: format.bytes(gib * GIB) }),
      word("cost.rule.always_on", { count: always.gpus, price: money(always.price_hour), ...span }),
    ];
    if (!cost.is_end_known) sentences.push(word("cost.no_end"));
    if (unpriced_hours) sentences.push(word("cost.unpriced", { hours: amount("gpu", unpriced_hours) }));
    if (lines.some(({ what, price }) => what !== "gpu" && price === null)) sentences.push(word("cost.set_prices"));
    rules.replaceChildren(...sentences.map((text) => make("li", "", text)));
  }

  function draw() {
    if (board.store && !board.lostAt && performance.now() - asked > PAUSE) load();
  }

  return { root, draw, show: () => void load() };
}
