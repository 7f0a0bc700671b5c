// What every part of the panel has at hand: the page's tools, the words, and how figures are written.

/** @type {Workshop.MakeKit} */
export function kitOf(tools, word, board) {
  const { element, toast } = tools;
  const language = word("language");

  /** @param {Intl.NumberFormatOptions} options */
  function formatter(options) {
    const format = new Intl.NumberFormat(language, options);
    return (/** @type {number} */ value) => format.format(value);
  }
  const [seconds, minutes, hours] = ["second", "minute", "hour"].map((unit) =>
    formatter({ style: "unit", unit, unitDisplay: "short", maximumFractionDigits: unit === "hour" ? 1 : 0 }),
  );
  const money = formatter({ minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const small = formatter({ maximumSignificantDigits: 2 });

  /** @type {Workshop.Kit["make"]} */
  const make = (tag, classes, ...children) => element(tag, { class: classes || null }, ...children);

  /** @type {Workshop.Kit} */
  const kit = {
    ...tools,
    word,
    board,
    make,
    headline: (tag, title, ...marks) =>
      make("span", "cfw-line", element(tag, { class: "cfw-name cfw-fill", title }, title), ...marks),
    button: (label, onclick, classes = "") =>
      element("button", { type: "button", class: `cfm-button ${classes}`, onclick }, label),
    iconButton(icon, label, onclick) {
      const made = kit.button("", onclick, "cfw-icon");
      made.replaceChildren(tools.icon(icon));
      name(made, label);
      return made;
    },
    form(classes, label, work, ...fields) {
      const onsubmit = (/** @type {SubmitEvent} */ event) => (event.preventDefault(), work());
      return element("form", { class: classes, onsubmit }, ...fields, make("button", "cfm-button", label));
    },
    async attempt(work) {
      try {
        return await work();
      } catch (error) {
        toast("error", word("failed"), error instanceof Error ? error.message : String(error));
      }
    },
    short(span) {
      if (span < 60) return seconds(Math.max(0, Math.round(span)));
      return span < 6000 ? minutes(span / 60) : hours(span / 3600);
    },
    number: formatter({ maximumFractionDigits: 1 }),
    cost: (value) => (value && value < 0.1 ? small : money)(value),
    // The view sets these.
    told() {},
    go() {},
    actions: /** @type {any} */ (null),
  };
  return kit;
}

/**
 * Set a text where it is another: where it is cut, the whole is shown where the mouse rests.
 *
 * @type {(place: HTMLElement, text: string) => void}
 */
export function writeName(place, text) {
  if (place.title !== text) place.textContent = place.title = text;
}

/** @type {(control: HTMLElement, label: string) => void} */
export function name(control, label) {
  if (control.title !== label) control.title = control.ariaLabel = label;
}
