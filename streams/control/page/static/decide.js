// A decision of a person: what it will do, why, and what became of it. It names the version that was seen, so that nobody
// decides on what has changed meanwhile.

import {post} from "./api.js";
import {close, open, say} from "./dialog.js";
import {byId, code, el} from "./dom.js";
import {count, words} from "./format.js";
import {named, on, state} from "./store.js";

const NAME = "headrace-name";
const TEXT = {
  promote: (row) => [`Promote ${row.model}`, `${row.model} serves from the next event on; the champion of now becomes a challenger.`],
  approve: (row) => [`Approve ${row.model}`, `The gate has proposed ${row.model}: it serves from the next event on.`],
  rollback: (row) => [`Roll back ${row.model}`, `The champion before ${row.model} serves again from the next event on.`],
  retire: (row) => [`Retire ${row.model}`, `${row.model} never answers and never learns again. This cannot be undone.`],
  canary: (row) => [`${row.model} as canary`, `${row.model} serves a share of the keys, the champion all others.`],
  uncanary: (row) => [`End the canary ${row.model}`, `${row.model} is a challenger again; the champion serves all keys.`],
};

let stale = null;
on(["models"], () => stale?.());

export const yourName = () => localStorage.getItem(NAME) ?? "";
export const keepName = (name) => localStorage.setItem(NAME, name);

export function decide(kind, row) {
  stale = null;
  const [title, sentence] = TEXT[kind](row);
  const by = el("input", {id: "by", required: true, maxlength: 200, autocomplete: "name", value: yourName()});
  const why = el("textarea", {id: "why", rows: 2, maxlength: 2000});
  const part = el("input", {id: "share", type: "number", min: 1, max: 100, step: 1, value: 10, required: true, inputmode: "numeric"});
  const said = el("p", {class: "wrong", role: "alert"});
  const go = el("button", {type: "submit", "data-kind": kind}, title);
  const form = el("form", {method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    keepName(by.value.trim());
    go.disabled = true;
    said.textContent = "";
    go.textContent = "Waiting for the worker …";
    try {
      done(row, await post("/api/decide", body(kind, row, by.value.trim(), why.value.trim(), part)));
    } catch (error) {
      if (error.status === 409) refused(kind, row, error);
      else said.textContent = error.message;
    } finally {
      go.disabled = false;
      go.textContent = title;
    }
  }},
    kind === "canary" && [el("label", {for: "share"}, "Share of the keys, in percent"), part],
    el("label", {for: "by"}, "Your name, for the history"), by,
    el("label", {for: "why"}, "Why (for those who read the history)"), why,
    said,
    el("div", {class: "buttons"}, el("button", {type: "button", class: "quiet", onclick: close}, "Cancel"), go));
  open(title, [el("p", {}, sentence), el("p", {class: "soft"}, `Decided on version ${count(row.version)} of the registry${row.many ? ` of shard ${row.shard}` : ""}: if it has changed meanwhile, the worker refuses.`), form]);
}

function body(kind, row, by, why, part) {
  const wanted = {kind: kind === "uncanary" ? "canary" : kind, model: kind === "rollback" ? null : row.model, by, why, saw: row.version, shard: row.shard};
  if (kind === "canary") wanted.share = Number(part.value) / 100;
  if (kind === "uncanary") wanted.share = 0;
  return wanted;
}

function done(row, answer) {
  const fact = answer.shards[0]?.fact;
  const sentence = fact
    ? `${fact.model} ${words(fact.kind)} at example ${count(fact.n)}; ${fact.champion} serves (version ${count(fact.version)}).`
    : "It is written, and no worker has answered yet: it takes effect when one reads it.";
  say(sentence);
  open(fact ? "Done" : "Written", [
    el("p", {class: "outcome"}, sentence),
    fact ? null : el("p", {class: "soft"}, "Start one with ", code(`headrace run ${named()}`), "; the answer will stand in the history."),
    el("div", {class: "buttons"}, el("button", {type: "button", class: "first", onclick: close}, "Close"))].filter(Boolean));
}

function refused(kind, row, error) {
  say(error.message);
  const list = el("ul", {class: "changes"});
  const now = () => state.models.shards.find((shard) => shard.shard === row.shard);
  stale = () => {
    const facts = now().facts.filter((fact) => fact.version > row.version && fact.kind !== "refused");
    list.replaceChildren(...(facts.length ? facts.map((fact) => el("li", {}, `Version ${count(fact.version)}: ${words(fact.kind)}${fact.model ? ` of ${fact.model}` : ""}, by ${fact.by}${fact.why ? `: ${fact.why}` : ""}`)) : [el("li", {}, "Nothing has changed since you looked.")]));
  };
  stale();
  const again = () => {
    const found = now().models.find((model) => model.model === row.model);
    if (found) decide(kind, {...row, ...found, version: now().version});
    else close();
  };
  open("Refused", [
    el("p", {class: "outcome", "data-tone": "bad"}, error.message),
    el("h3", {}, "What has changed since you looked"), list,
    el("div", {class: "buttons"}, el("button", {type: "button", class: "quiet first", onclick: close}, "Leave it"), el("button", {type: "button", onclick: again}, "Decide anew"))]);
}

byId("dialog").addEventListener("close", () => { stale = null; });
