// A table of figures. It may be wider than the panel, and then scrolls by itself.

/** @type {Workshop.MakeTable} */
export function table({ element }, caption, heads, rows) {
  const head = element("tr", {}, heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([title, ...figures]) => {
    const name = element("th", { scope: "row" }, element("span", { class: "cfw-name", title }, title));
    return element("tr", {}, name, figures.map((text) => element("td", {}, text)));
  });
  const made = element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, body));
  return element("div", { class: "cfw-table", tabIndex: 0, role: "region", ariaLabel: caption }, made);
}
