// A long list of rows of one height, of which the document holds those that can be seen; arrow keys walk through it.

/** Rows above and below what is seen. */
const MARGIN = 4;

/** @type {Workshop.MakeRows} */
export function rowList({ arrange }, root, scroller, height, make) {
  /** @type {Map<string, Workshop.Row>} */
  const rows = new Map();
  /** @type {string[]} */
  let ids = [];
  /** The row that Tab comes to. */
  let active = "";
  root.role = "grid";
  root.classList.add("cfw-rows");

  /** @type {Workshop.Rows["draw"]} */
  function draw(next) {
    const hadFocus = root.contains(document.activeElement);
    const before = ids.indexOf(active);
    ids = next;
    if (!ids.includes(active)) active = ids[Math.min(Math.max(before, 0), ids.length - 1)] ?? "";
    show();
    if (hadFocus && !root.contains(document.activeElement)) (rows.get(active)?.root ?? scroller).focus();
  }

  /** Draw the rows that can be seen, and the one with the focus. */
  function show() {
    const above = scroller.getBoundingClientRect().top - root.getBoundingClientRect().top;
    const first = Math.floor(above / height) - MARGIN;
    const last = Math.ceil((above + scroller.clientHeight) / height) + MARGIN;
    const shown = ids.flatMap((id, index) => {
      if ((index < first || index > last) && id !== active) return [];
      const row = rows.get(id) ?? make(id);
      rows.set(id, row);
      place(row.root, index, id === active);
      row.update(index);
      return [row.root];
    });
    for (const [id, row] of rows) if (!shown.includes(row.root)) rows.delete(id);
    root.style.height = `${ids.length * height}px`;
    root.ariaRowCount = String(ids.length);
    arrange(root, shown);
  }

  /** @type {Workshop.PlaceRow} */
  function place(row, index, isActive) {
    row.style.transform = `translateY(${index * height}px)`;
    row.ariaRowIndex = String(index + 1);
    const tab = isActive ? "0" : "-1";
    if (row.getAttribute("tabindex") === tab) return;
    for (const stop of [row, ...row.querySelectorAll("button")]) stop.setAttribute("tabindex", tab);
  }

  root.addEventListener("focusin", ({ target }) => {
    for (const [id, row] of rows) if (row.root.contains(/** @type {Node} */ (target))) active = id;
    show();
  });

  root.addEventListener("keydown", (event) => {
    const at = ids.indexOf(active);
    /** @type {Record<string, number>} */
    const goals = { ArrowUp: at - 1, ArrowDown: at + 1, PageUp: at - 8, PageDown: at + 8, Home: 0, End: Infinity };
    if (!(event.key in goals)) return;
    event.preventDefault();
    event.stopPropagation();
    active = ids[Math.min(Math.max(goals[event.key], 0), ids.length - 1)];
    show();
    const row = rows.get(active)?.root;
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
  });

  // Once a frame, however often one scrolls in it.
  let due = 0;
  function showSoon() {
    due ||= requestAnimationFrame(() => {
      due = 0;
      show();
    });
  }
  scroller.addEventListener("scroll", showSoon, { passive: true });
  const resized = new ResizeObserver(showSoon);
  resized.observe(scroller);

  return { draw, active: () => active, dispose: () => resized.disconnect() };
}
