// The bar that says what was just done, with the way back.

/** Milliseconds for which it is shown; longer while it has the focus. */
const LIFE = 30_000;

/** @type {Workshop.MakeUndo} */
export function undoBar({ attempt, button, element, make, iconButton, word, write }, home) {
  /** @type {Workshop.Undo | undefined} */
  let way;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  // Always there, or not every screen reader reads it out.
  const text = element("span", { role: "status", class: "cfw-fill" });
  const back = button(word("undo"), undo, "cfm-primary");
  const close = iconButton("times", word("close"), () => told(""));
  const root = make("div", "cfw-undo", text, back, close);
  told("");

  /** @type {Workshop.Kit["told"]} */
  function told(what, undoing) {
    if (!what && root.contains(document.activeElement)) home.focus();
    way = undoing;
    back.hidden = !undoing;
    close.hidden = !what;
    root.dataset.empty = String(!what);
    write(text, what);
    clearTimeout(timer);
    if (what) timer = setTimeout(expire, LIFE);
  }

  function expire() {
    if (root.contains(document.activeElement)) timer = setTimeout(expire, LIFE);
    else told("");
  }

  async function undo() {
    const undoing = way;
    if (!undoing) return;
    told("");
    await attempt(undoing);
  }

  return { root, told };
}
