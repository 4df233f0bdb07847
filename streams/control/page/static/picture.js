// The pipeline as a picture: stages in their groups, the topics around them, and how fast and how far each one is.

import {byId, el, replace, svg, table} from "./dom.js";
import {compact, count, plural, rate} from "./format.js";

const STAGES = ["validate", "featurize", "predict", "join", "train", "evaluate", "drift"];
// Which topic hangs at which stage, and whether it goes in or comes out.
const TOPICS = [
  {role: "dead-letter", stage: "validate", way: "out", label: "dead letters"},
  {role: "features", stage: "featurize", way: "out", label: "features"},
  {role: "predictions", stage: "predict", way: "out", label: "predictions"},
  {role: "labels", stage: "join", way: "in", label: "labels"},
  {role: "examples", stage: "train", way: "in", label: "examples"},
  {role: "evaluations", stage: "evaluate", way: "out", label: "evaluations"},
  {role: "alerts", stage: "drift", way: "out", label: "alerts"},
];
const WIDE = 900;
const SLOW = 1000;

let drawn = "";

export function draw({glance, link}) {
  const node = byId("picture");
  const width = Math.floor(node.clientWidth);
  const told = glance ?? {};
  const stages = STAGES.map((stage) => ({stage, rate_per_s: null, lag: null, group: null, ...(told.stages ?? []).find((found) => found.stage === stage)}));
  const print = JSON.stringify([width, stages, told.topics, told.groups?.map((group) => [group.group, group.members, group.stages]), link?.state]);
  if (print === drawn || width === 0) return;
  drawn = print;
  const view = {stages, topics: new Map((told.topics ?? []).map((topic) => [topic.role, topic])), groups: told.groups ?? [], known: Boolean(glance)};
  const {height, parts} = width >= WIDE ? across(view, width) : down(view, width);
  replace(node, svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": "picture-title"},
    svg("title", {id: "picture-title"}, "Stages from events to drift, with records a second and lag; the table after it says the same"),
    arrow(), parts), words(view));
  const workers = view.groups.reduce((sum, group) => sum + group.members, 0);
  byId("picture-aside").textContent = !glance ? "" : workers ? `${plural(workers, "worker")}` : "no worker";
}

// -- layouts -----------------------------------------------------------------------------------------------------

function across(view, width) {
  const gap = width > 1080 ? 26 : 18, first = 124, w = (width - first - 7 * gap - 2) / 7, top = 46, h = 78, low = top + h + 46;
  const x = (i) => first + gap + i * (w + gap);
  const parts = groupsOf(view).map(({label, from, to, tone}) => bracket(x(from), x(to) + w, label, tone));
  parts.push(pill(0, top + h / 2 - 22, first, 44, "events", view.topics.get("events")), line(first, top + h / 2, x(0) - 5, top + h / 2, flows(view, "events")));
  view.stages.forEach((stage, i) => {
    parts.push(box(x(i), top, w, h, stage, view));
    if (i) parts.push(line(x(i - 1) + w, top + h / 2, x(i) - 5, top + h / 2, stage.rate_per_s > 0));
  });
  for (const topic of TOPICS) {
    const i = STAGES.indexOf(topic.stage), middle = x(i) + w / 2;
    parts.push(pill(x(i), low, w, 44, topic.label, view.topics.get(topic.role)));
    parts.push(topic.way === "out" ? line(middle, top + h, middle, low - 5, flows(view, topic.role)) : line(middle, low, middle, top + h + 5, flows(view, topic.role)));
  }
  return {height: low + 46, parts};
}

function down(view, width) {
  const w = Math.min(250, (width - 34) / 2 + 12), right = Math.min(250, width - w - 34), h = 62, step = 86, top = 62;
  const y = (i) => top + 22 + i * step;
  const parts = [pill(0, 0, w, 40, "events", view.topics.get("events")), line(w / 2, 40, w / 2, y(0) - 5, flows(view, "events"))];
  for (const {label, from, tone} of groupsOf(view)) parts.push(svg("text", {x: w / 2 + 12, y: y(from) - 8, class: "group", "data-tone": tone}, label));
  view.stages.forEach((stage, i) => {
    parts.push(box(0, y(i), w, h, stage, view));
    if (i) parts.push(line(w / 2, y(i - 1) + h, w / 2, y(i) - 5, stage.rate_per_s > 0));
  });
  for (const topic of TOPICS) {
    const middle = y(STAGES.indexOf(topic.stage)) + h / 2, left = w + 34;
    parts.push(pill(left, middle - 20, right, 40, topic.label, view.topics.get(topic.role)));
    parts.push(topic.way === "out" ? line(w, middle, left - 5, middle, flows(view, topic.role)) : line(left, middle, w + 5, middle, flows(view, topic.role)));
  }
  return {height: y(6) + h + 4, parts};
}

function groupsOf({groups, known}) {
  const live = groups.filter((group) => group.stages.length);
  if (!live.length) return known ? [{label: "nothing has run yet", from: 0, to: 6, tone: "idle"}] : [];
  return live.map((group) => ({
    label: `${group.name ?? group.group} · ${group.members ? plural(group.members, "worker") : "no worker"}`,
    from: STAGES.indexOf(group.stages[0]),
    to: STAGES.indexOf(group.stages.at(-1)),
    tone: group.members ? "good" : "warn",
  }));
}

const flows = (view, role) => (view.topics.get(role)?.rate_per_s ?? 0) > 0;

// -- parts -------------------------------------------------------------------------------------------------------

function arrow() {
  return svg("defs", {}, svg("marker", {id: "tip", viewBox: "0 0 8 8", refX: 5, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse"}, svg("path", {d: "M0 0.500 7 4 0 7.500z", class: "tip"})));
}

function line(x1, y1, x2, y2, moving) {
  return svg("line", {x1, y1, x2, y2, class: moving ? "flow moving" : "flow", "marker-end": "url(#tip)"});
}

function bracket(from, to, label, tone) {
  return svg("g", {"data-tone": tone}, svg("path", {d: `M${from} 34v-6h${to - from}v6`, class: "bracket"}), svg("text", {x: (from + to) / 2, y: 18, class: "group", "text-anchor": "middle", "data-tone": tone}, label));
}

function box(x, y, w, h, {stage, rate_per_s, lag, group}, view) {
  const staffed = view.groups.find((found) => found.group === group)?.members > 0;
  const tone = !group ? "idle" : lag > SLOW ? "warn" : staffed ? "good" : "idle";
  const waits = lag === null || lag === undefined ? null : lag === 0 ? "no lag" : `lag ${compact(lag)}`;
  return svg("g", {"data-tone": tone, class: "stage"},
    svg("rect", {x: x + 0.5, y: y + 0.5, width: w - 1, height: h - 1, rx: 9}),
    svg("rect", {x: x + 10, y: y + 13, width: 7, height: 7, rx: 3.5, class: "dot"}),
    svg("text", {x: x + 23, y: y + 20.5, class: "stage-name"}, stage),
    svg("text", {x: x + 11, y: y + (h > 70 ? 46 : 41), class: "stage-rate"}, rate(rate_per_s)),
    waits && svg("text", h > 70 ? {x: x + 11, y: y + 66, class: "stage-lag"} : {x: x + w - 11, y: y + 41, class: "stage-lag", "text-anchor": "end"}, waits));
}

function pill(x, y, w, h, label, topic) {
  return svg("g", {class: "topic"},
    svg("rect", {x: x + 0.5, y: y + 0.5, width: w - 1, height: h - 1, rx: h / 2}),
    svg("text", {x: x + w / 2, y: y + h / 2 - 3, "text-anchor": "middle", class: "topic-name"}, label),
    svg("text", {x: x + w / 2, y: y + h / 2 + 12, "text-anchor": "middle", class: "topic-rate"}, topic ? rate(topic.rate_per_s) : "not there"));
}

// -- the same in words -------------------------------------------------------------------------------------------

function words({stages, topics}) {
  const rows = stages.map((stage) => el("tr", {}, el("th", {scope: "row"}, stage.stage), el("td", {}, rate(stage.rate_per_s)), el("td", {}, count(stage.lag))));
  const more = [...topics.values()].map((topic) => el("tr", {}, el("th", {scope: "row"}, topic.topic), el("td", {}, rate(topic.rate_per_s)), el("td", {}, count(topic.offsets))));
  return el("div", {class: "hidden"},
    table("Stages: records a second and records that wait", [{label: "Stage"}, {label: "Rate"}, {label: "Lag"}], rows),
    table("Topics: records a second and offsets", [{label: "Topic"}, {label: "Rate"}, {label: "Offsets"}], more));
}
