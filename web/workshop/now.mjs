// What goes on: the workers, the queue, and what steers it.

import { queueList } from "./queue.mjs";
import { workerCard } from "./worker_card.mjs";

const MODES = /** @type {const} */ (["fair", "round_robin", "fifo"]);
/** Characters of a message to all. */
const LONGEST = 500;

/** @type {Workshop.MakeScrolled} */
export function nowSection(kit, scroller) {
  const { actions, arrange, board, button, client, element, make, word, write } = kit;
  /** @type {Map<string, ReturnType<Workshop.MakeCard>>} */
  const cards = new Map();
  /** @type {string[]} */
  let people = [];
  let shownMode = "";
  const queue = queueList(kit, scroller);
  const message = messageForm(kit);

  const pause = button("", () => actions.pause(!board.queue.paused));
  const modes = MODES.map((each) => new Option(word(`mode.${each}`), each));
  const setMode = () => actions.setMode(MODES[mode.selectedIndex]).then(draw);
  const mode = element("select", { ariaLabel: word("mode"), onchange: setMode }, modes);
  const workers = element("ul", { class: "cfw-cards", "aria-label": word("workers") });
  const further = joining(kit);
  const root = make("div", "cfw-section",
    make("div", "cfm-row", pause, message.opener),
    message.form,
    workers,
    further,
    make("div", "cfw-line", make("h3", "", word("queue")), mode),
    queue.root,
  );

  async function show() {
    /** @type {Workshop.Person[]} */
    const all = await client.get("/comfyume/people").catch(() => []);
    people = all.map(({ user }) => user).sort((a, b) => a.localeCompare(b));
  }

  function draw() {
    const { paused } = board.queue;
    write(pause, word(paused ? "resume" : "pause"));
    pause.classList.toggle("cfm-primary", paused);
    if (mode !== document.activeElement || shownMode !== board.queue.mode) mode.value = shownMode = board.queue.mode;
    for (const name of cards.keys()) if (!board.workers.has(name)) cards.delete(name);
    for (const name of board.workers.keys()) {
      if (!cards.has(name)) cards.set(name, workerCard(kit, name, () => people));
      cards.get(name)?.update();
    }
    arrange(workers, [...cards].sort(([a], [b]) => a.localeCompare(b)).map(([, card]) => card.root));
    queue.draw();
  }

  return { root, draw, show: () => void show(), dispose: queue.dispose };
}

/**
 * What is opened once a day is loaded then.
 *
 * @param {Workshop.Kit} kit
 */
function joining(kit) {
  const { attempt, make, word } = kit;
  const head = make("summary", "", word("join"));
  const details = make("details", "cfw-card", head);
  details.addEventListener("toggle", async () => {
    const loaded = details.open && (await attempt(() => import("./join.mjs")));
    details.replaceChildren(head, ...(loaded ? loaded.joinForm(kit) : []));
  });
  return details;
}

/** @param {Workshop.Kit} kit */
function messageForm(kit) {
  const { actions, button, element, word } = kit;
  const text = element("textarea", { maxLength: LONGEST, rows: 2, required: true, "aria-label": word("message") });
  const form = kit.form("cfw-form", word("message.send"), send, text);
  const opener = button(word("message"), () => toggle(form.hidden === true));
  toggle(false);

  /** @param {boolean} isOpen */
  function toggle(isOpen) {
    form.hidden = !isOpen;
    opener.ariaExpanded = String(isOpen);
    if (isOpen) text.focus();
  }

  async function send() {
    const said = text.value.trim();
    if (!said || !(await actions.say(said))) return;
    text.value = "";
    toggle(false);
    opener.focus();
  }
  return { form, opener };
}
