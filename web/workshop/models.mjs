// What people offer to the room, which files each template needs, and which workers have them.

const ROOM = "/comfyume/room-models";
/** Milliseconds between two questions about what people offer. */
const PAUSE = 30_000;

/** @type {Workshop.MakeSection} */
export function modelsSection({ attempt, board, button, client, element, format, headline, make, icon, told, word }) {
  const list = element("ul", { class: "cfw-list", "aria-label": word("tab.models") });
  const people = make("div", "cfw-section");
  const root = make("div", "cfw-section", people, make("p", "cfm-muted", word("models.about")), list);
  let asked = 0;
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

  async function loadPeoples() {
    asked = performance.now();
    /** @type {{offered: Workshop.PeoplesModel[], room: Workshop.PeoplesModel[]} | undefined} */
    const found = await attempt(() => client.get(ROOM));
    if (!found) return;
    people.replaceChildren(
      ...peoples("models.offered", found.offered, (model) => [
        button(word("models.let_in"), () => decide("PUT", model, "models.is_in")),
        button(word("models.decline"), () => decide("DELETE", model, "models.is_declined")),
      ]),
      ...peoples("models.room", found.room, (model) => [
        button(word("models.take_out"), () => decide("DELETE", model, "models.is_out")),
      ]),
    );
  }

  /** @type {(title: string, models: Workshop.PeoplesModel[], tools: (model: Workshop.PeoplesModel) => HTMLElement[]) => HTMLElement[]} */
  function peoples(title, models, tools) {
    if (!models.length) return [];
    const items = models.map((model) => {
      const { folder, name, size, user } = model;
      const about = word("models.of", { user, size: format.bytes(size) });
      const own = tools(model);
      for (const each of own) each.ariaLabel = `${each.textContent}: ${folder}/${name}, ${user}`;
      return make(
        "li",
        "cfw-card",
        headline("strong", `${folder}/${name}`),
        make("p", "cfm-muted", about),
        make("div", "cfm-row", own),
      );
    });
    return [make("h3", "", word(title)), element("ul", { class: "cfw-list", "aria-label": word(title) }, items)];
  }

  /** @type {(method: string, model: Workshop.PeoplesModel, done: string) => Promise<void>} */
  async function decide(method, { user, folder, name }, done) {
    const path = [user, folder, name].map(encodeURIComponent).join("/");
    const answer = await attempt(() => client.send(method, `${ROOM}/${path}`));
    if (answer !== undefined) told(word(done, { name, user }));
    await loadPeoples();
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
    if (board.store && !board.lostAt && performance.now() - asked > PAUSE) loadPeoples();
  }

  function show() {
    load();
    loadPeoples();
  }

  return { root, draw, show };
}
