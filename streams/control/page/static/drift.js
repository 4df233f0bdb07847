// Drift by signal: what is watched, what it has shown, and how features look where proxies are declared.

import {byId, code, el, empty, replace, svg, table} from "./dom.js";
import {count, figure, moment, percent} from "./format.js";

const W = 96, H = 24;

let drawn = "";

export function draw({drift, pipeline}) {
  if (!drift || !pipeline) return;
  const print = JSON.stringify(drift);
  if (print === drawn) return;
  drawn = print;
  const rows = drift.signals, features = Object.entries(drift.features);
  byId("drift-aside").textContent = rows.length ? `${count(rows.length)} watched` : "";
  if (!rows.length && !features.length) {
    replace(byId("drift"), empty("Nothing is watched: declare ", code('drift=[Watch("error"), …]'), " in the pipeline."));
    return;
  }
  replace(byId("drift"),
    rows.length > 0 && el("div", {}, table("Watched signals", [{label: "Signal"}, {label: "Now"}, {label: "Findings"}, {label: "Alerts", class: "num"}, {label: "Last", class: "low"}], rows.map(signal))),
    features.length > 0 && el("div", {class: "features"}, table("Features in the newest window of predictions", [{label: "Feature"}, {label: "Missing", class: "num"}, {label: "New", class: "num"}, {label: "Distinct", class: "num"}], features.map(feature), {visible: true})));
}

function signal(row) {
  const found = row.findings.filter(([, , status]) => status !== "resolved");
  const strongest = found.reduce((most, finding) => Math.max(most, finding[1]), 0);
  return el("tr", {}, el("th", {scope: "row"}, row.signal, row.declared ? null : el("span", {class: "soft"}, " not declared")),
    el("td", {}, el("span", {class: "chip", "data-tone": row.open ? "bad" : "good"}, row.open ? "drifting" : "quiet")),
    el("td", {class: "nowrap"}, found.length ? [spark(found, strongest), el("span", {class: "soft"}, strongest > 1 ? ` up to ${figure(strongest, 1)} × its threshold` : ` ${count(found.length)}`)] : el("span", {class: "soft"}, "none")),
    el("td", {class: "num"}, count(row.alerts)),
    el("td", {class: "low", title: row.message}, moment(row.last_ms)));
}

// A mark for each finding, where it lies between the first and the last one, as high as it was strong.
function spark(findings, strongest) {
  const from = findings[0][0], span = Math.max(1, findings.at(-1)[0] - from);
  return svg("svg", {viewBox: `0 0 ${W} ${H}`, width: W, height: H, class: "spark", "aria-hidden": "true"},
    svg("path", {d: `M0 ${H - 0.5}h${W}`, class: "base"}),
    findings.map(([at, strength]) => {
      const h = Math.max(3, (H - 3) * (strongest ? strength / strongest : 0));
      return svg("rect", {x: 1 + (W - 5) * ((at - from) / span), y: H - 1 - h, width: 3, height: h, rx: 1});
    }));
}

function feature([name, metrics]) {
  return el("tr", {}, el("th", {scope: "row"}, name),
    el("td", {class: "num"}, percent(metrics.Missing)),
    el("td", {class: "num"}, percent(metrics.New)), el("td", {class: "num"}, count(metrics.Distinct)));
}
