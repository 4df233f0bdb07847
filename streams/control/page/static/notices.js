// What is wrong, and what to do next; and the one word at the top that says whether this is live.

import {byId, code, el, keyed} from "./dom.js";
import {count} from "./format.js";
import {named} from "./store.js";

export function draw(state) {
  const {pipeline, link, glance, stream, access} = state;
  if (pipeline) {
    byId("name").textContent = pipeline.name;
    document.title = `${state.alerts?.waiting ? `(${count(state.alerts.waiting)}) ` : ""}${pipeline.name} · Headrace`;
    byId("foot").textContent = `${pipeline.name} · ${pipeline.task} · ${pipeline.partitions === 1 ? "one partition" : `${pipeline.partitions} partitions`}`
      + ` · ${pipeline.gate ? (pipeline.approve ? "a gate proposes, people approve" : "a gate promotes") : "people promote"}`;
  }
  const [word, tone] = live(state);
  if (byId("live").textContent !== word) byId("live").textContent = word;
  byId("live").dataset.tone = tone;
  keyed(byId("notices"), found(link, glance, stream, access), (notice) => notice.name, (notice) =>
    el("div", {class: "notice", "data-tone": notice.tone}, el("p", {}, el("strong", {}, notice.title), " ", ...notice.text.map((part) => (typeof part === "string" ? part : code(part.code))))));
}

function live({stream, link}) {
  if (!stream) return ["Connecting", "idle"];
  if (stream.state !== "open") return ["Not connected", "bad"];
  if (!link || link.state === "starting") return ["Starting", "idle"];
  if (link.state === "away") return ["Kafka away", "bad"];
  if (link.state === "reading") return ["Reading", "warn"];
  return ["Live", "good"];
}

function found(link, glance, stream, access) {
  const out = [];
  const name = named();
  if (stream?.state === "cut") {
    out.push({name: "cut", tone: "bad", title: "The control plane does not answer.", text: ["What you see is what it said last; this page tries again by itself. Is ", {code: "headrace control"}, " still running?"]});
    return out;
  }
  if (access?.why) out.push({name: "access", tone: "warn", title: "This page only shows.", text: [access.why]});
  if (link?.state === "away") {
    out.push({name: "away", tone: "bad", title: "Kafka is away.", text: [`${link.why} Predictions are not stopped by this page. For a local broker: `, {code: "headrace broker status"}, "."]});
  }
  if (link?.missing.length) {
    out.push({name: "missing", tone: "warn", title: `${link.missing.length === 1 ? "A topic is" : `${link.missing.length} topics are`} missing:`, text: [`${link.missing.join(", ")}. Make ${link.missing.length === 1 ? "it" : "them"} with `, {code: `headrace topics ${name} --apply`}, "."]});
  }
  const unreadable = Object.entries(link?.unreadable ?? {});
  if (unreadable.length) {
    out.push({name: "unreadable", tone: "warn", title: "Some records cannot be read:", text: [`${unreadable.map(([role, n]) => `${count(n)} in ${role}`).join(", ")}. Somebody else may be writing there; `, {code: `headrace audit ${name}`}, " tells."]});
  }
  if (link?.state === "following" && glance && !(glance.missing?.length)) {
    const members = (glance.groups ?? []).reduce((sum, group) => sum + group.members, 0);
    if (!glance.groups?.length) out.push({name: "idle", tone: "idle", title: "Nothing has run yet.", text: ["Start a worker with ", {code: `headrace run ${name}`}, ", and publish events with ", {code: `headrace publish ${name}`}, "."]});
    else if (members === 0) out.push({name: "idle", tone: "warn", title: "No worker runs.", text: ["Nothing is predicted until one does: ", {code: `headrace run ${name}`}, "."]});
    const broken = (glance.laws ?? []).filter((law) => !law.holds);
    if (broken.length) out.push({name: "laws", tone: "bad", title: "Something was lost or counted twice:", text: [`${broken.map((law) => law.law).join("; ")} does not hold. Find out where with `, {code: `headrace audit ${name}`}, "."]});
  }
  return out;
}
