// The page to sign in. A personal link brings name and password behind `#`, which no server and no log gets to see.

const form = /** @type {HTMLFormElement} */ (document.getElementById("form"));
const user = /** @type {HTMLInputElement} */ (document.getElementById("user"));
const password = /** @type {HTMLInputElement} */ (document.getElementById("password"));
const problem = /** @type {HTMLElement} */ (document.getElementById("problem"));
const submit = /** @type {HTMLButtonElement} */ (document.getElementById("submit"));

/** @returns {string} where to go when signed in: an address of this server, never of another */
function next() {
  try {
    const wanted = new URL(new URLSearchParams(location.search).get("next") || "/", location.origin);
    // The whole address: a path alone may begin with two slashes, and lead elsewhere.
    return wanted.origin === location.origin ? wanted.href : "/";
  } catch {
    return "/";
  }
}

/**
 * What ComfyUI's page keeps in this browser, such as work that is not saved yet, belongs to whoever worked here before: it
 * is put aside until they come back.
 *
 * @param {string} user
 * @param {string | null} former
 */
function changeStorage(user, former) {
  if (former === null || former === user) return;
  const kept = "comfyume.kept:";
  for (const storage of [localStorage, sessionStorage]) {
    const entries = Object.entries(storage).filter(([name]) => !name.startsWith(kept));
    const before = storage.getItem(kept + user);
    for (const [name] of entries) storage.removeItem(name);
    try {
      storage.setItem(kept + former, JSON.stringify(entries));
    } catch (error) {
      console.warn("[comfyume] what was kept for", former, "is too large and is gone:", error);
    }
    for (const [name, value] of JSON.parse(before ?? "[]")) storage.setItem(name, value);
    storage.removeItem(kept + user);
  }
}

async function signIn() {
  submit.disabled = true;
  problem.textContent = "";
  try {
    const response = await fetch("/comfyume/sign-in", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user: user.value, password: password.value }),
    });
    if (response.ok) {
      const answer = await response.json();
      changeStorage(answer.user, answer.former_user);
      location.replace(next());
      return;
    }
    const body = await response.json().catch(() => null);
    problem.textContent = body?.detail ?? `The server answers with an error (${response.status}).`;
    password.select();
  } catch {
    problem.textContent = "The server cannot be reached. Try again in a moment.";
  } finally {
    submit.disabled = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  signIn();
});

const link = new URLSearchParams(location.hash.slice(1));
if (link.has("user") && link.has("password")) {
  user.value = link.get("user") ?? "";
  password.value = link.get("password") ?? "";
  // Nobody who looks over a shoulder, and no history, keeps it.
  const search = new URLSearchParams(location.search);
  search.delete("arrived");
  history.replaceState(null, "", location.pathname + (search.size ? `?${search}` : ""));
  // Nobody finds themselves in somebody else's ComfyUI by a click on a link.
  const me = await fetch("/comfyume/me").then((response) => (response.ok ? response.json() : null), () => null);
  if (me === null || me.user === user.value.trim().toLowerCase()) signIn();
  else problem.textContent = `You are signed in as ${me.user}. Do you want to be ${user.value}?`;
}
