// The tab "Workshop" in ComfyUI's side bar; what it shows is loaded when it is opened.

import { notLoaded } from "./loading.mjs";

const PARTS = ["kit", "state", "now", "queue", "rows", "job_row", "worker_card", "actions", "tabs", "trouble", "undo"];

/** @param {Workshop.Tools} tools */
export async function start(tools) {
  const word = await tools.words("/comfyume/workshop/strings");
  /** @type {Workshop.View | undefined} */
  let view;
  /** @type {HTMLElement | undefined} */
  let place;

  /** @param {HTMLElement} container */
  async function render(container) {
    place = container;
    // All at once: one after the other names the next.
    const parts = PARTS.map((part) => import(`./${part}.mjs`));
    const loading = Promise.all([import("./view.mjs"), ...parts]);
    const [{ workshopView } = {}] = await loading.catch(() => /** @type {[]} */ ([]));
    // It may have been closed meanwhile, or drawn elsewhere.
    if (place !== container) return;
    if (!workshopView) {
      container.replaceChildren(notLoaded(tools, word, () => void render(container)));
      return;
    }
    view ??= workshopView(tools, word);
    if (view.root.parentElement !== container) container.replaceChildren(view.root);
    // The panel scrolls inside, so that its head stays.
    container.style.height = "100%";
  }

  tools.app.extensionManager.registerSidebarTab({
    id: "comfyume.workshop",
    icon: "pi pi-users",
    title: word("title"),
    tooltip: word("title"),
    type: "custom",
    render: (container) => void render(container),
    destroy() {
      view?.dispose();
      view = place = undefined;
    },
  });

  const style = tools.element("link", { rel: "stylesheet", href: new URL("workshop.css", import.meta.url).href });
  document.head.append(style);
}
