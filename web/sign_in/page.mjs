// The page to sign in. A personal link brings name and password behind `#`, which no server and no log gets to see.

const form = /** @type {HTMLFormElement} */ (document.getElementById("form"));
const user = /** @type {HTMLInputElement} */ (document.getElementById("user"));
const password = /** @type {HTMLInputElement} */ (document.getElementById("password"));
const problem = /** @type {HTMLElement} */ (document.getElementById("problem"));
const submit = /** @type {HTMLButtonElement} */ (document.getElementById("submit"));

/** @returns {string} where to go when signed in: an address of this server, never of another */
function next() {
  const wanted = new URL(new URLSearchParams(location.search).get("next") || "/", location.origin);
  return wanted.origin === location.origin ? wanted.pathname + wanted.search + wanted.hash : "/";
}

/** What ComfyUI's page keeps for a tab belongs to whoever worked in it before. */
function forgetFormerTab() {
  for (const name of ["clientId", "workflow"]) sessionStorage.removeItem(name);
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
      if ((await response.json()).changed_user) forgetFormerTab();
      location.replace(next());
      return;
    }
    const body = await response.json().catch(() => null);
    problem.textContent = body?.error?.message ?? `The server answers with an error (${response.status}).`;
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
  signIn();
}
