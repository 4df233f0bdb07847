// Every fact of the registry, the newest first: what happened to which model, when, by whom and why.

import {byId, el, empty, replace, table} from "./dom.js";
import {count, figure, moment, words} from "./format.js";
import {named} from "./store.js";

const SHOWN = 100;
const COLUMNS = [{label: "Version", class: "num"}, {label: "Stream time"}, {label: "What"}, {label: "Model"}, {label: "Serves"}, {label: "By"}, {label: "Why"}];

let drawn = "";

export function draw({models}) {
  if (!models) return;
  const facts = models.shards.flatMap((shard) => shard.facts).sort((a, b) => b.version - a.version || a.shard - b.shard);
  const print = `${facts.length}/${facts.map((fact) => fact.version).join()}`;
  if (print === drawn) return;
  drawn = print;
  byId("history-aside").textContent = facts.length > SHOWN ? `the newest ${SHOWN} of ${count(facts.length)}` : models.odd ? `${count(models.odd)} records do not fit: headrace audit ${named()} shows them` : "";
  if (!facts.length) { replace(byId("history"), empty("Nothing has happened yet.")); return; }
  const many = models.shards.length > 1;
  replace(byId("history"), table("Facts of the registry, the newest first", many ? [{label: "Shard", class: "num"}, ...COLUMNS] : COLUMNS, facts.slice(0, SHOWN).map((fact) => row(fact, many))));
}

function row(fact, many) {
  const tone = {promoted: "good", rolled_back: "warn", refused: "bad", proposed: "accent"}[fact.kind] ?? "idle";
  const evidence = Object.entries(fact.evidence).filter(([, value]) => typeof value !== "object" || value === null);
  return el("tr", {},
    many && el("td", {class: "num"}, fact.shard),
    el("td", {class: "num"}, count(fact.version)),
    el("td", {class: "nowrap"}, moment(fact.time_ms)),
    el("td", {}, el("span", {class: "chip", "data-tone": tone}, words(fact.kind))),
    el("th", {scope: "row"}, fact.model ?? "–"),
    el("td", {}, fact.champion ?? "–"),
    el("td", {}, fact.by),
    el("td", {class: "why"}, fact.why || "–", evidence.length > 0 && el("details", {"data-open": `${fact.shard}/${fact.version}`}, el("summary", {}, "Evidence"), el("dl", {class: "pairs"}, evidence.flatMap(([name, value]) => [el("dt", {}, words(name)), el("dd", {}, typeof value === "number" ? figure(value) : String(value))])))));
}
