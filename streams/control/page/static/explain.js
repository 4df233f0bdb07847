// One event's way, recomputed from the log and compared byte for byte.

import {ask, allowed} from "./access.js";
import {post} from "./api.js";
import {byId, el, replace, table} from "./dom.js";
import {count, figure, moment, percent} from "./format.js";
import {on, state} from "./store.js";

export function start() {
  byId("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (allowed()) explain(byId("event-id").value.trim());
    else ask();
  });
  hint();
  on(["glance"], () => { if (!byId("explain").firstChild?.dataset?.result) hint(); });
}

function hint() {
  const last = state.glance?.last_prediction?.event_id;
  const node = byId("explain").firstElementChild;
  if (node?.dataset.hint === String(last)) return;
  replace(byId("explain"), el("p", {class: "empty", "data-hint": String(last)}, "An event is replayed from the log, from its raw bytes to the first model that learned from it. ",
    last !== undefined && last !== null && ["For example ", el("button", {type: "button", class: "link", "data-focus": "hint", onclick: () => { byId("event-id").value = String(last); byId("event-id").focus(); }}, String(last)), "."]));
}

async function explain(id) {
  const go = byId("explain-go");
  go.disabled = true;
  replace(byId("explain"), el("p", {class: "empty", "data-result": "wait"}, "Replaying the log; this may take a while …"));
  try {
    replace(byId("explain"), told(await post("/api/explain", {event_id: id})));
  } catch (error) {
    replace(byId("explain"), el("p", {class: "wrong", "data-result": "error", role: "alert"}, error.message));
  } finally {
    go.disabled = false;
  }
}

function told(found) {
  if (!found.events.length && !found.labels.length) {
    return el("div", {"data-result": "none"}, el("p", {}, `No event ${found.event_id} was read. `, found.ended ? `The replay ended early: ${found.ended}.` : found.begun ? `The replay covered ${found.begun}.` : "Is the id right, and are its records still kept?"));
  }
  const answer = found.prediction;
  return el("div", {"data-result": "told", class: "told"},
    el("p", {}, el("strong", {}, String(found.event_id)), " is ", el("strong", {}, found.status), found.why ? ` (${found.why})` : "", ". ",
      el("span", {class: "chip", "data-tone": found.different ? "bad" : "good"}, found.different ? "a byte differs" : "every byte is the same")),
    el("ol", {class: "way"},
      found.events.map((record) => step("Event", record)),
      answer && el("li", {}, el("h3", {}, "Prediction"), el("p", {}, `${answer.model} answered ${answer.prediction === null ? "nothing" : String(answer.prediction)}${answer.probability === null ? "" : ` (probability ${percent(answer.probability)})`}${answer.reason ? `: ${answer.reason}` : ""}`, found.learned ? `, having learned ${count(found.learned.n)} examples until ${moment(found.learned.until_ms)}.` : ".")),
      found.labels.map((record) => step("Label", record)),
      found.first && el("li", {}, el("h3", {}, "Learned"), el("p", {}, `${found.first.version} is the first that had learned from it.`))),
    found.features && el("details", {}, el("summary", {}, `${count(Object.keys(found.features).length)} features`), el("div", {}, table("Features", [{label: "Feature"}, {label: "Value", class: "num"}], Object.entries(found.features).map(([name, value]) => el("tr", {}, el("th", {scope: "row"}, name), el("td", {class: "num"}, typeof value === "number" ? figure(value) : String(value))))))),
    el("details", {}, el("summary", {}, "Compared with what was published"), el("div", {}, table("Recomputed records", [{label: "Topic"}, {label: "Offset", class: "num"}, {label: "Compared"}], found.compared.map((one) => el("tr", {}, el("th", {scope: "row"}, one.topic), el("td", {class: "num"}, one.offset ?? "–"), el("td", {}, one.difference ?? "the same bytes")))))));
}

function step(what, record) {
  return el("li", {}, el("h3", {}, what),
    el("p", {}, `${record.topic}/${record.partition}, offset ${record.offset}, ${moment(record.time_ms)} UTC; became ${record.became || "nothing yet"}.`),
    el("pre", {tabindex: "0", "aria-label": `bytes of the ${what.toLowerCase()}`}, record.value ?? "null"));
}
