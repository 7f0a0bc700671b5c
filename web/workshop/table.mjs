// A table of figures. It may be wider than the panel, and then scrolls by itself.

/** @type {Workshop.MakeTable} */
export function table({ element, make }, caption, heads, rows) {
  const head = make("tr", "", heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([title, ...figures]) => {
    const name = element("th", { scope: "row" }, element("span", { class: "cfw-name", title }, title));
    return make("tr", "", name, figures.map((text) => make("td", "", text)));
  });
  const made = make("table", "", make("caption", "", caption), make("thead", "", head), make("tbody", "", body));
  return element("div", { class: "cfw-table", tabIndex: 0, role: "region", ariaLabel: caption }, made);
}
