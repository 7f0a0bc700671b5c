// What an instructor does to jobs, the queue and the workers: each with a way back, or a question first.

/** @type {Workshop.MakeActions} */
export function actionsOf({ attempt, board, client, dialog, told, word }) {
  /** @type {Workshop.Patch} */
  const patch = (path, body) => client.send("PATCH", `/comfyume/${path}`, body);

  /** @type {Workshop.ChangeBack} */
  async function change(path, now, then, what) {
    if (await attempt(() => patch(path, now))) told(what, () => patch(path, then));
  }
  const worker = (/** @type {string} */ name) => `workers/${encodeURIComponent(name)}`;

  return {
    async hold(ids, held) {
      const changed = (await attempt(() => patch("jobs", { ids, held })))?.changed;
      if (!changed?.length) return;
      const text = word(held ? "did.held" : "did.released", { count: changed.length });
      told(text, () => patch("jobs", { ids: changed, held: !held }));
    },

    async setLevel(ids, level) {
      const before = ids.map((id) => /** @type {const} */ ([id, board.jobs.get(id)?.level ?? "2"]));
      const changed = (await attempt(() => patch("jobs", { ids, level })))?.changed;
      if (!changed?.length) return;
      told(word("did.level", { count: changed.length, level: word(`level.${level}`) }), async () => {
        for (const former of new Set(before.map((each) => each[1]))) {
          const those = before.filter(([id, each]) => each === former && changed.includes(id));
          if (those.length) await patch("jobs", { ids: those.map(([id]) => id), level: former });
        }
      });
    },

    async cancel(ids) {
      const count = ids.length;
      const { user, number } = board.jobs.get(ids[0]) ?? {};
      const isOne = count === 1 && user;
      const text = isOne ? word("ask.cancel.of", { user, number: Number(number) }) : word("ask.cancel.text");
      const title = word("ask.cancel", { count });
      if (!(await dialog.ask({ title, text, action: word("ask.cancel.yes", { count }), danger: true }))) return;
      const answer = await attempt(() => client.send("POST", "/comfyume/jobs/cancel", { ids }));
      if (answer) told(word("did.cancelled", { count: answer.cancelled.length }));
    },

    pause: (paused) => change("queue", { paused }, { paused: !paused }, word(paused ? "did.paused" : "did.resumed")),

    setMode: (mode) =>
      change("queue", { mode }, { mode: board.queue.mode }, word("did.mode", { mode: word(`mode.${mode}`) })),

    drain(name, drained) {
      const text = word(drained ? "did.drained" : "did.undrained", { worker: name });
      return change(worker(name), { drained }, { drained: !drained }, text);
    },

    async dismiss(name) {
      const answer = await attempt(() => client.send("DELETE", `/comfyume/${worker(name)}`));
      if (answer === null) told(word("did.dismissed", { worker: name }));
    },

    reserve(name, user) {
      const former = board.workers.get(name)?.reserved_for ?? null;
      const text = user === null ? word("did.freed", { worker: name }) : word("did.reserved", { worker: name, user });
      return change(worker(name), { reserved_for: user }, { reserved_for: former }, text);
    },

    async say(text) {
      const answer = await attempt(() => client.send("POST", "/comfyume/messages", { text }));
      if (answer === null) told(word("did.said"));
      return answer === null;
    },
  };
}
