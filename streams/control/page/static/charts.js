// Metrics of champion, challengers and baselines over time. The chart library is large: it is loaded when first needed.

import {byId, el, empty, keyed, replace, table} from "./dom.js";
import {count, figure, moment} from "./format.js";
import {best, byRole, lower, newest} from "./scores.js";
import {touch} from "./store.js";
import {colour} from "./theme.js";

const LIBRARY = "/static/plotly.min.js";
const PALETTE = 6;

let loading = null;
let seen = false;
let failed = "";
let drawn = "";

export function start() {
  for (const id of ["metric", "kind", "shard"]) byId(id).addEventListener("change", () => touch("size"));
  new IntersectionObserver(([entry], observer) => {
    if (!entry.isIntersecting) return;
    observer.disconnect();
    seen = true;
    touch("size");
  }, {rootMargin: "300px"}).observe(byId("chart"));
}

export async function draw({metrics, models, pipeline}) {
  if (!metrics || !models || !pipeline) return;
  choices(metrics, pipeline);
  const choice = {metric: byId("metric").value, kind: byId("kind").value, shard: Number(byId("shard").value || 0)};
  const series = metrics.series.filter((one) => one.kind === choice.kind && one.shard === choice.shard && choice.metric in one.metrics).sort(byRole);
  figures(metrics, choice);
  if (!series.length) {
    drawn = "";
    purge();
    replace(byId("chart"), empty("No figures yet: they come with every full window of labelled events. ", el("span", {}, "Publish labels as well, and let a worker run.")));
    byId("chart").removeAttribute("role");
    byId("chart").removeAttribute("aria-label");
    return;
  }
  byId("chart").setAttribute("role", "img");
  byId("chart").setAttribute("aria-label", alternative(series, choice));
  if (!seen) return;
  try {
    await library();
  } catch {
    if (!failed) replace(byId("chart"), empty(failed = "The chart could not be loaded; its figures are in the table below."));
    return;
  }
  const promoted = (models.shards[choice.shard]?.facts ?? []).filter((fact) => ["promoted", "rolled_back"].includes(fact.kind) && fact.n > 0);
  const print = JSON.stringify([choice, series, promoted.length, document.documentElement.dataset.theme, colour("ink"), byId("chart").clientWidth]);
  if (print === drawn) return;
  drawn = print;
  if (!byId("chart").classList.contains("js-plotly-plot")) byId("chart").replaceChildren();
  await globalThis.Plotly.react(byId("chart"), traces(series, choice, pipeline), layout(choice, promoted, Math.max(...series.map((one) => one.n.at(-1)))), {displayModeBar: false, responsive: false});
}

function library() {
  loading ??= new Promise((resolve, reject) => {
    const script = el("script", {src: LIBRARY});
    script.addEventListener("load", () => (globalThis.Plotly ? resolve() : reject(new Error("no chart library"))));
    script.addEventListener("error", () => { loading = null; reject(new Error("no chart library")); });
    document.head.append(script);
  });
  return loading;
}

function purge() {
  if (byId("chart").classList.contains("js-plotly-plot")) globalThis.Plotly.purge(byId("chart"));
}

// -- what is chosen ----------------------------------------------------------------------------------------------

function choices(metrics, pipeline) {
  const names = [...new Set(metrics.series.filter((one) => one.kind !== "gate").flatMap((one) => Object.keys(one.metrics)))];
  const preferred = best(pipeline.task);
  names.sort((a, b) => (b === preferred) - (a === preferred));
  options(byId("metric"), names.length ? names : [preferred], (name) => `${name} ${lower(name) ? "↓" : "↑"}`);
  options(byId("shard"), Array.from({length: pipeline.partitions}, (_, i) => String(i)));
  byId("shard-label").hidden = pipeline.partitions === 1;
}

function options(select, names, label = (name) => name) {
  const chosen = select.value;
  keyed(select, names, (name) => name, (name) => el("option", {value: name}, label(name)));
  if (names.includes(chosen)) select.value = chosen;
}

// -- the chart ---------------------------------------------------------------------------------------------------

export function tint(model, pipeline) {
  const i = pipeline.models.indexOf(model);
  if (i >= 0) return `c${(i % PALETTE) + 1}`;
  return `c${([...model].reduce((sum, c) => sum + c.charCodeAt(0), pipeline.models.length) % PALETTE) + 1}`;
}

function traces(series, {metric}, pipeline) {
  return series.map((one, i) => {
    const baseline = one.role === "baseline";
    return {
      type: "scatter",
      mode: one.n.length === 1 ? "markers" : "lines",
      name: escaped(one.model),
      x: one.n,
      y: one.metrics[metric],
      customdata: one.time_ms.map((ms) => moment(ms)),
      hovertemplate: "%{y:.4f} at %{x:,} (%{customdata})<extra>%{fullData.name}</extra>",
      line: {color: colour(baseline ? "faint" : tint(one.model, pipeline)), width: one.role === "champion" ? 3.2 : baseline ? 1.6 : 2, dash: baseline ? (i % 2 ? "dot" : "dash") : "solid"},
    };
  });
}

function layout({kind}, promoted, until) {
  const ink = colour("muted"), grid = colour("line"), narrow = byId("chart").clientWidth < 520;
  const axis = {gridcolor: grid, zeroline: false, linecolor: grid, tickfont: {color: ink, size: 12}, automargin: true};
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {family: "system-ui, sans-serif", color: ink, size: 12},
    width: byId("chart").clientWidth, height: byId("chart").clientHeight, margin: {l: 46, r: 10, t: 10, b: narrow ? 86 : 74}, hovermode: "x unified",
    hoverlabel: {bgcolor: colour("surface"), bordercolor: grid, font: {color: colour("ink"), size: 12}},
    legend: {orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: {color: colour("ink"), size: 12}},
    xaxis: {...axis, automargin: false, title: {standoff: 8, text: narrow ? "" : kind === "window" ? "labelled examples, window by window" : "labelled examples since the start", font: {size: 12}}, tickformat: ",~s"},
    yaxis: {...axis, title: undefined},
    shapes: promoted.map((fact) => ({type: "line", x0: fact.n, x1: fact.n, yref: "paper", y0: 0, y1: 1, line: {color: colour("accent"), width: 1.5, dash: "dot"}})),
    annotations: promoted.slice(0, 8).map((fact) => ({x: fact.n, yref: "paper", y: 1, yanchor: "top", xanchor: fact.n > 0.7 * until ? "right" : "left", showarrow: false, text: escaped(` ${fact.champion} serves `), font: {color: colour("accent"), size: 12}})),
  };
}

// The library reads a few tags in texts: names of models are shown as they are.
const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

// -- the same in words -------------------------------------------------------------------------------------------

function alternative(series, {metric, kind}) {
  const told = series.map((one) => `${one.model} (${one.role}) ${figure(one.metrics[metric].at(-1))}`);
  return `${metric} ${kind === "window" ? "in each window" : "since the start"}, ${lower(metric) ? "lower" : "higher"} is better. Newest: ${told.join(", ")}.`;
}

function figures(metrics, {kind, shard}) {
  const told = Object.entries(newest(metrics, shard, kind)).map(([model, entry]) => ({model, ...entry})).sort(byRole);
  const names = [...new Set(told.flatMap((entry) => Object.keys(entry.metrics)))];
  if (!told.length) return replace(byId("chart-table"), empty("No figures yet."));
  const caption = `Newest figures, ${kind === "window" ? "of the newest window" : "since the start"}, shard ${shard}`;
  return replace(byId("chart-table"), table(caption, [{label: "Model"}, {label: "Role"}, {label: "Examples", class: "num"}, ...names.map((label) => ({label, class: "num"}))],
    told.map((entry) => el("tr", {}, el("th", {scope: "row"}, entry.model), el("td", {}, entry.role), el("td", {class: "num"}, count(entry.n)), names.map((name) => el("td", {class: "num"}, figure(entry.metrics[name])))))));
}
