// Who is here, and what they have used.

import { limitsForm } from "./limits.mjs";
import { personTools } from "./person.mjs";
import { showPassword } from "./secret.mjs";

/** Milliseconds between two questions, which are asked when jobs have ended, and when people come and go. */
const PAUSE = 5000;

/** @type {Workshop.MakeSection} */
export function peopleSection(kit) {
  const { arrange, attempt, board, client, element, form, make, word, write } = kit;
  /** @type {Map<string, ReturnType<Workshop.MakePerson>>} */
  const items = new Map();
  /** @type {Workshop.Person[]} */
  let people = [];
  /** @type {Workshop.Limits | undefined} */
  let usual;
  let seen = 0;
  let here = board.here;
  let asked = 0;

  const find = word("people.find");
  const search = element("input", { type: "search", placeholder: find, ariaLabel: find, oninput: show });
  const told = element("p", { class: "cfm-muted", role: "status" });
  const everybody = make("details", "cfw-card", make("summary", "", word("limits.all")));
  const list = element("ul", { class: "cfw-list", "aria-label": word("tab.people") });
  const placeholder = word("people.name");
  const name = element("input", { required: true, maxLength: 64, placeholder, ariaLabel: placeholder });
  const secret = element("div", { class: "cfm-row", role: "status" });
  const label = word("people.add");
  const latecomer = make("details", "cfw-card", make("summary", "", label), form("cfm-row", label, add, name), secret);
  const root = make("div", "cfw-section", everybody, latecomer, search, told, list);

  /** @param {Workshop.Person} person */
  const tools = (person) => personTools(kit, person, usual ?? person.limits, load);

  async function add() {
    const answer = await attempt(() => client.send("POST", "/comfyume/people", { user: name.value }));
    if (!answer) return;
    name.value = "";
    showPassword(kit, secret, answer);
    load();
  }

  async function load() {
    asked = performance.now();
    ({ ended: seen, here } = board);
    const answers = await attempt(() => Promise.all([client.get("/comfyume/people"), client.get("/comfyume/limits")]));
    if (!answers) return;
    if (!usual) everybody.append(limitsForm(kit, "/comfyume/limits", answers[1], null, load));
    [people, usual] = answers;
    people.sort((a, b) => Number(b.here) - Number(a.here) || a.user.localeCompare(b.user));
    show();
  }

  function show() {
    const part = search.value.trim().toLowerCase();
    const found = people.filter(({ user }) => user.toLowerCase().includes(part));
    const count = found.filter((person) => person.here).length;
    write(told, word(people.length ? "people.here" : "people.none", { here: count, all: found.length }));
    const shown = found.map((person) => {
      const item = items.get(person.user) ?? personItem(kit, person.user, tools);
      items.set(person.user, item);
      item.take(person);
      return item.root;
    });
    arrange(list, shown);
    draw();
  }

  function draw() {
    if ((seen !== board.ended || here !== board.here) && performance.now() - asked > PAUSE) load();
    /** @type {Record<string, {queued: number, running: number}>} */
    const busy = {};
    for (const { user, state } of board.jobs.values()) (busy[user] ??= { queued: 0, running: 0 })[state]++;
    for (const { user } of people) items.get(user)?.draw(busy[user]);
  }

  return { root, draw, show: () => void load() };
}

/** @type {Workshop.MakePerson} */
function personItem({ headline, make, format, number, short, word, write }, user, tools) {
  let person = /** @type {Workshop.Person} */ ({ user });
  const here = make("span", "cfw-mark");
  const use = make("span", "cfm-muted");
  const head = make("summary", "", headline("strong", user, here), use);
  const details = make("details", "cfw-card", head);
  details.addEventListener("toggle", () => details.replaceChildren(head, ...(details.open ? tools(person) : [])));

  /** @param {Workshop.Person} next */
  function take(next) {
    person = next;
    details.dataset.here = String(person.here);
    const { last_seen: last } = person;
    const seen = last ? word("person.seen", { time: format.moment(last) }) : word("person.never");
    write(here, person.here ? word("person.here") : seen);
  }

  function draw({ queued = 0, running = 0 } = {}) {
    const { gpu_day, gpu_workshop, credits } = person.used;
    const parts = [word("person.used", { day: short(gpu_day * 60), all: short(gpu_workshop * 60) })];
    if (queued || running) parts.unshift(word("person.jobs", { queued, running }));
    if (credits !== null) parts.push(word("person.credits", { credits: number(credits) }));
    if (person.role === "instructor") parts.push(word("person.instructor"));
    write(use, parts.join(" · "));
  }

  return { root: make("li", "", details), take, draw };
}
