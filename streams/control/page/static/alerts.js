// Alerts, the open ones first, and who has seen them.

import {ask, allowed} from "./access.js";
import {post} from "./api.js";
import {keepName, yourName} from "./decide.js";
import {close, open, say} from "./dialog.js";
import {byId, code, el, empty, keyed} from "./dom.js";
import {count, figure, moment, plural} from "./format.js";
import {named} from "./store.js";

const SHOWN = 40;

let known = null;

export function draw({alerts}) {
  if (!alerts) return;
  byId("alerts-aside").textContent = alerts.alerts.length === 0 ? "" : `${count(alerts.open)}${alerts.full ? " or more" : ""} open, ${count(alerts.waiting)} not acknowledged`;
  if (known !== null && alerts.waiting > known) say(`A new alert: ${alerts.alerts[0].signal}. ${alerts.alerts[0].message}`);
  known = alerts.waiting;
  const rows = alerts.alerts.slice(0, SHOWN).map((alert) => ({...alert, may: allowed()}));
  const left = alerts.open + alerts.resolved + alerts.forgotten - rows.length;
  const items = rows.length ? rows : [{none: true}];
  if (left > 0) items.push({left});
  keyed(byId("alerts"), items, (row) => row.alert_id ?? (row.none ? "none" : "left"), (row) => {
    if (row.none) return el("div", {}, empty("No alert so far. What is watched stands under Drift."));
    if (row.left) return el("p", {class: "soft"}, `${plural(row.left, "more alert is", "more alerts are")} not shown; `, code(`headrace alerts ${named()}`), " lists all.");
    return card(row);
  });
}

function card(row) {
  const open_ = row.status !== "resolved";
  return el("article", {class: "alert", "data-tone": !open_ ? "idle" : row.acknowledged ? "warn" : row.severity === "info" ? "accent" : "bad", "aria-label": `${row.severity}: ${row.signal}`},
    el("div", {class: "alert-top"},
      el("h3", {}, row.signal),
      el("span", {class: "chip", "data-tone": open_ ? (row.severity === "critical" ? "bad" : "warn") : "idle"}, open_ ? row.severity : "resolved"),
      el("span", {class: "soft when"}, `${moment(row.time_ms)} UTC`)),
    el("p", {}, row.message),
    el("details", {}, el("summary", {}, "Evidence"), el("dl", {class: "pairs"},
      pair("Detector", row.detector),
      pair("Where", `${row.topic}/${row.partition}, offsets ${row.first_offset} to ${row.last_offset}, ${plural(row.n, "value")}`),
      pair("Statistic", Object.entries(row.statistic).map(([name, value]) => `${name} ${figure(value)}`).join(", ") || "–"),
      pair("Findings", count(row.findings)),
      segments(row.segments),
      pair("Examples", row.examples.map((example) => String(example)).join(", ") || "–"))),
    row.acknowledged
      ? el("p", {class: "soft seen"}, `Seen by ${row.acknowledged.by}, ${moment(row.acknowledged.at_ms)} UTC`, row.acknowledged.note ? `: ${row.acknowledged.note}` : "")
      : open_ && el("div", {class: "buttons"}, el("button", {type: "button", class: "small quiet", "data-focus": `ack ${row.alert_id}`, "aria-label": `Acknowledge ${row.signal}`, onclick: () => (allowed() ? acknowledge(row) : ask())}, "Acknowledge")));
}

const pair = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

function segments(found) {
  const told = Object.entries(found ?? {});
  return told.length ? pair("Where it changed most", told.map(([name, by]) => `${name} ${by > 0 ? "+" : ""}${figure(by)}`).join(", ")) : [];
}

function acknowledge(row) {
  const by = el("input", {id: "by", required: true, maxlength: 200, autocomplete: "name", value: yourName()});
  const note = el("textarea", {id: "note", rows: 2, maxlength: 2000});
  const said = el("p", {class: "wrong", role: "alert"});
  const go = el("button", {type: "submit"}, "Acknowledge");
  open("Acknowledge an alert", [el("p", {}, `${row.signal}: ${row.message}`), el("form", {method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    keepName(by.value.trim());
    go.disabled = true;
    try {
      await post("/api/acknowledge", {alert_id: row.alert_id, by: by.value.trim(), note: note.value.trim()});
      close();
      say(`${row.signal} is acknowledged.`);
    } catch (error) {
      said.textContent = error.message;
    } finally {
      go.disabled = false;
    }
  }},
    el("label", {for: "by"}, "Your name"), by, el("label", {for: "note"}, "Note"), note, said,
    el("div", {class: "buttons"}, el("button", {type: "button", class: "quiet", onclick: close}, "Cancel"), go))]);
}
