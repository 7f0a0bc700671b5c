// Which files each template needs, and which workers have them.

/** @type {Workshop.MakeSection} */
export function modelsSection({ attempt, board, client, element, headline, make, icon, word }) {
  const list = element("ul", { class: "cfw-list", "aria-label": word("tab.models") });
  const root = make("div", "cfw-section", make("p", "cfm-muted", word("models.about")), list);
  const open = new Set();
  let known = "";
  const workers = () => board.live().map(({ name }) => name).sort();

  async function load() {
    known = workers().join();
    /** @type {Workshop.Template[] | undefined} */
    const templates = await attempt(() => client.get("/comfyume/templates"));
    templates?.sort((a, b) => b.missing - a.missing || a.name.localeCompare(b.name));
    if (templates) list.replaceChildren(...templates.map(templateItem));
  }

  /** @param {Workshop.Template} template */
  function templateItem({ name, title = name, missing, files }) {
    const mark = make("span", "cfw-mark", icon(missing ? "exclamation-triangle" : "check"));
    mark.append(missing ? word("models.missing", { count: missing }) : word("models.complete"));
    const body = files.length ? make("ul", "", files.map(fileItem)) : make("p", "", word("models.no_files"));
    const head = make("summary", "", headline("strong", title, mark));
    const details = element("details", { class: "cfw-card", open: open.has(name) }, head, body);
    details.addEventListener("toggle", () => (details.open ? open.add(name) : open.delete(name)));
    details.dataset.missing = String(missing);
    return make("li", "", details);
  }

  /** @param {Workshop.Template["files"][number]} file */
  function fileItem({ folder, file, workers: have }) {
    const title = folder ? `${folder}/${file}` : file;
    const where = workers().every((each) => have.includes(each)) ? "models.everywhere" : "models.on";
    return make(
      "li",
      "",
      element("p", { class: "cfw-name", title }, icon(have.length ? "check" : "times-circle"), ` ${title}`),
      make("p", "cfm-muted", word(have.length ? where : "models.nowhere", { workers: have.join(", ") })),
    );
  }

  function draw() {
    if (known !== workers().join()) load();
  }

  return { root, draw, show: () => void load() };
}
