// Champion and challengers as the registry has them, and what people may do with each.

import {ask, allowed} from "./access.js";
import {decide} from "./decide.js";
import {byId, code, el, empty, keyed} from "./dom.js";
import {count, figure, percent} from "./format.js";
import {best, newest} from "./scores.js";
import {named} from "./store.js";

const RANK = {champion: 0, canary: 1, challenger: 2, retraining: 3, retired: 4};

export function draw({models, metrics, pipeline}) {
  if (!models || !pipeline) return;
  const rows = models.shards.flatMap((shard) => {
    const told = newest(metrics, shard.shard, "window");
    return shard.models.map((model) => ({...model, shard: shard.shard, version: shard.version, past: shard.past.filter((name) => name !== shard.champion).length > 0 || model.status !== "champion", metric: best(pipeline.task), value: told[model.model]?.metrics[best(pipeline.task)] ?? null, many: models.shards.length > 1, open: allowed()}));
  });
  rows.sort((a, b) => a.shard - b.shard || (RANK[a.status] ?? 5) - (RANK[b.status] ?? 5) || a.model.localeCompare(b.model));
  if (!rows.length) {
    keyed(byId("models"), [named()], () => "empty", (name) => el("div", {}, empty("Nothing is registered yet: a worker does that with its first records (", code(`headrace run ${name}`), ").")));
    return;
  }
  keyed(byId("models"), rows, (row) => `${row.shard}/${row.model}`, card);
}

function card(row) {
  return el("article", {class: "model", "data-status": row.status, "aria-label": `${row.model}${row.many ? `, shard ${row.shard}` : ""}`},
    el("div", {class: "model-top"},
      el("h3", {}, row.model, row.many && el("span", {class: "soft"}, ` shard ${row.shard}`)),
      el("span", {class: "chip", "data-tone": {champion: "good", canary: "warn"}[row.status] ?? "idle"}, row.status, row.share === null ? "" : ` ${percent(row.share)}`),
      row.proposed && el("span", {class: "chip", "data-tone": "accent"}, "proposed by the gate")),
    el("p", {class: "soft"}, row.value === null ? "no full window yet" : `${row.metric} ${figure(row.value)} in the newest window`, ` · since version ${count(row.since)}`),
    el("div", {class: "buttons"}, actions(row).map(([kind, label, strong]) =>
      el("button", {type: "button", class: strong ? "small" : "small quiet", "data-focus": `${kind} ${row.model} ${row.shard}`, "data-kind": kind, "aria-label": `${label} ${row.model}${row.many ? ` in shard ${row.shard}` : ""}`, onclick: () => (allowed() ? decide(kind, row) : ask())}, label))));
}

function actions(row) {
  if (row.status === "champion") return row.past ? [["rollback", "Roll back", false]] : [];
  if (row.status === "retraining") return [["retire", "Retire", false]];
  if (row.status === "canary") return [["promote", "Promote", false], ["uncanary", "End canary", false], ["retire", "Retire", false]];
  if (row.status !== "challenger") return [];
  return [row.proposed ? ["approve", "Approve", true] : ["promote", "Promote", false], ["canary", "Canary", false], ["retire", "Retire", false]];
}
