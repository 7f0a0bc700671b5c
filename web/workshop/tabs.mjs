// A row of tabs for keyboard, mouse and screen reader (the ARIA pattern of tabs that open as one walks over them).

/** @type {Workshop.MakeTabs} */
export function tabRow({ element, make, icon, word }, icons, panel, opened) {
  panel.id = "cfw-panel";
  panel.role = "tabpanel";
  const names = Object.keys(icons);
  const tabs = names.map((name) => {
    const text = make("span", "", word(`tab.${name}`));
    const made = element("button", { type: "button", role: "tab", id: `cfw-${name}`, onclick: () => select(name) });
    made.append(icon(icons[name]), text);
    made.setAttribute("aria-controls", panel.id);
    return made;
  });
  const root = element("div", { class: "cfw-tabs", role: "tablist", ariaLabel: word("title"), onkeydown: walk }, tabs);

  /** @param {KeyboardEvent} event */
  function walk(event) {
    const at = tabs.findIndex((tab) => tab === document.activeElement);
    /** @type {Record<string, number>} */
    const goals = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 };
    if (!(event.key in goals)) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (goals[event.key] + tabs.length) % tabs.length;
    tabs[next].focus();
    select(names[next]);
  }

  /** @param {string} name */
  function select(name) {
    tabs.forEach((tab, index) => {
      tab.ariaSelected = String(names[index] === name);
      tab.tabIndex = names[index] === name ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `cfw-${name}`);
    opened(name);
  }

  return { root, select };
}
