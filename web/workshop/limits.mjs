// What one person, or everybody, may use.

const LIMITS = /** @type {const} */ (["per_person", "per_minute", "gpu_day", "gpu_workshop", "credits_hour", "disk"]);

/** @type {Workshop.MakeLimits} */
export function limitsForm({ attempt, client, element, form, make, number, told, word }, path, usual, person, changed) {
  const fields = LIMITS.map(field);
  return form("cfw-limits", word("limits.save"), save, fields.map(({ root }) => root));

  async function save() {
    const others = fields.filter(({ read, kept }) => read() !== kept());
    if (!others.length) return;
    const now = others.map(({ read }) => read());
    const then = others.map(({ kept }) => kept());
    const put = async (/** @type {typeof now} */ values) => {
      await client.send("PUT", path, Object.fromEntries(others.map(({ limit }, index) => [limit, values[index]])));
      others.forEach(({ settle }, index) => settle(values[index]));
      changed();
      return true;
    };
    if (!(await attempt(() => put(now)))) return;
    told(word("did.limits", { user: person?.user ?? word("limits.everybody") }), () => put(then));
  }

  /** @param {typeof LIMITS[number]} limit */
  function field(limit) {
    /** @type {number | null | "usual"} */
    let value = null;
    const label = word(`limits.${limit}`);
    const none = word("limits.none");
    const common = word("limits.usual", { limit: usual[limit] === null ? none : number(usual[limit]) });
    const kinds = [new Option(none, "none"), new Option(word("limits.own"), "own")];
    if (person) kinds.unshift(new Option(common, "usual"));
    const kind = element("select", { ariaLabel: label, onchange: () => show() || amount.focus() }, kinds);
    const ariaLabel = word("limits.amount", { limit: label });
    const amount = element("input", { type: "number", min: "0", step: "any", ariaLabel });
    const show = () => (amount.hidden = !(amount.required = kind.value === "own"));

    /** @param {number | null | "usual"} next */
    function settle(next) {
      value = next;
      kind.value = next === "usual" ? next : next === null ? "none" : "own";
      if (kind.value === "own") amount.value = String(next);
      show();
    }
    settle(person && !person.own.includes(limit) ? "usual" : (person?.limits ?? usual)[limit]);

    function read() {
      if (kind.value === "own") return amount.valueAsNumber;
      return kind.value === "none" ? null : /** @type {const} */ ("usual");
    }
    return { root: make("div", "", make("span", "", label), kind, amount), limit, read, kept: () => value, settle };
  }
}
