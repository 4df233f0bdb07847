// Who may change something: the token comes in the address's fragment, which is never sent, or is pasted.

import {keep, post, token} from "./api.js";
import {byId, el} from "./dom.js";
import {open, say} from "./dialog.js";
import {put, state} from "./store.js";

export function start() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    keep(given);
    history.replaceState(null, "", location.pathname);
  }
  byId("access").addEventListener("click", ask);
}

export const allowed = () => state.access?.allowed === true;

// Whether the token is right; asked at every connection, as a control plane that was started again may have another.
export async function check() {
  let now = {allowed: false, why: state.access?.why ?? ""};
  if (token()) {
    try {
      await post("/api/session", {});
      now = {allowed: true, why: ""};
    } catch (error) {
      now = {allowed: false, why: error.message};
      if (error.status === 401) keep(null);
    }
  }
  byId("access").textContent = now.allowed ? "May change" : "Read-only";
  byId("access").dataset.tone = now.allowed ? "good" : "idle";
  put("access", now);
  return now;
}

// Ask for the token; with one already there, offer to forget it.
export function ask() {
  const field = el("input", {id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false"});
  const wrong = el("p", {class: "wrong", role: "alert"});
  const form = el("form", {method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    keep(field.value.trim());
    const now = await check();
    if (!now.allowed) { wrong.textContent = now.why; field.select(); return; }
    byId("dialog").close();
    say("You may change things now.");
  }},
    el("label", {for: "token"}, "Token"), field, wrong,
    el("div", {class: "buttons"},
      el("button", {type: "button", class: "quiet", onclick: () => byId("dialog").close()}, "Cancel"),
      el("button", {type: "submit"}, "Use it")));
  const forget = el("div", {class: "buttons"},
    el("button", {type: "button", class: "quiet", onclick: () => byId("dialog").close()}, "Close"),
    el("button", {type: "button", onclick: async () => { keep(null); await check(); byId("dialog").close(); }}, "Forget the token"));
  open(allowed() ? "This tab may change things" : "Changes need the token", allowed()
    ? [el("p", {}, "The token is kept in this tab only, until it is closed."), forget]
    : [el("p", {}, "Open the address that ", el("code", {}, "headrace control"), " printed when it started, or paste the token from its end (after ", el("code", {}, "#token="), ")."), form]);
}
