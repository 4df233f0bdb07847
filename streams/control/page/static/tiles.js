// The six figures that say whether all is well.

import {best, lower, newest} from "./scores.js";
import {byId, el, keyed} from "./dom.js";
import {ago, compact, count, duration, figure, plural, rate} from "./format.js";

export function draw(state) {
  keyed(byId("tiles"), [champion(state), quality(state), predictions(state), freshness(state), alerts(state), letters(state)], (tile) => tile.name, (tile) =>
    el("div", {class: "tile", "data-tone": tile.tone}, el("dt", {}, tile.label), el("dd", {class: "value", id: `tile-${tile.name}`}, tile.value), el("dd", {class: "more"}, tile.more)));
}

function champion({models, pipeline}) {
  const names = [...new Set((models?.shards ?? []).map((shard) => shard.champion).filter(Boolean))];
  const last = models?.shards[0]?.facts.find((fact) => ["promoted", "rolled_back"].includes(fact.kind));
  const more = names.length === 0 ? `${pipeline?.champion ?? "nobody"} is declared` : last ? `since example ${count(last.n)}, by ${last.by}` : "as declared";
  return {name: "champion", label: "Champion", value: names.join(", ") || "none yet", more, tone: names.length ? "good" : "idle"};
}

function quality({metrics, models, pipeline}) {
  const shard = models?.shards[0];
  const name = best(pipeline?.task);
  const told = newest(metrics, 0, "window");
  const mine = told[shard?.champion]?.metrics[name];
  const baselines = Object.entries(told).filter(([, entry]) => entry.role === "baseline" && entry.metrics[name] !== null);
  const strongest = baselines.sort((a, b) => (lower(name) ? 1 : -1) * (a[1].metrics[name] - b[1].metrics[name]))[0];
  if (mine === undefined || mine === null) return {name: "quality", label: name ?? "Quality", value: "–", more: mine === null ? "not defined in the newest window" : "no window is full yet", tone: "idle"};
  const against = strongest?.[1].metrics[name];
  const behind = against !== undefined && (lower(name) ? mine > against : mine < against);
  return {name: "quality", label: `${name}, newest window`, value: figure(mine), more: against === undefined ? "no baseline yet" : `${strongest[0]}: ${figure(against)}`, tone: behind ? "warn" : "good"};
}

function predictions({glance, link}) {
  if (link?.state === "away") return {name: "rate", label: "Predictions", value: "–", more: "not known while Kafka is away", tone: "idle"};
  const topic = glance?.topics?.find((found) => found.role === "predictions");
  const lag = (glance?.groups ?? []).reduce((sum, group) => sum + group.lag, 0);
  const seconds = topic?.rate_per_s ? lag / topic.rate_per_s : null;
  const more = !glance ? "not known yet" : lag === 0 ? "nothing waits" : `${compact(lag)} wait${seconds ? `, about ${duration(seconds)}` : ""}`;
  return {name: "rate", label: "Predictions", value: rate(topic?.rate_per_s), more, tone: !glance ? "idle" : lag > 1000 ? "warn" : "good"};
}

function freshness({glance}) {
  const last = glance?.last_prediction;
  const age = glance?.freshness?.model_age_s;
  const more = age === null || age === undefined ? "the model has learned nothing yet" : `the model learned ${duration(age)} before its newest event`;
  return {name: "freshness", label: "Last prediction", value: last ? ago(last.published_ms) : "none yet", more, tone: last ? "good" : "idle"};
}

function alerts({alerts: told}) {
  const open = told?.open ?? 0;
  return {name: "alerts", label: "Open alerts", value: `${count(open)}${told?.full ? "+" : ""}`, more: open === 0 ? "all quiet" : told.waiting ? `${plural(told.waiting, "waits", "wait")} for somebody` : "all are acknowledged", tone: open === 0 ? "good" : told.waiting ? "bad" : "warn"};
}

function letters({letters: told}) {
  const n = told?.n ?? 0;
  const most = told?.kinds[0];
  return {name: "letters", label: "Dead letters", value: compact(n), more: most ? `mostly ${most.reason.replaceAll("_", " ")}` : "nothing was refused", tone: n === 0 ? "good" : "warn"};
}
