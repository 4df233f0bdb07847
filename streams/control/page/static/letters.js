// Dead letters by reason, with the newest of each: shown as text, whatever they hold.

import {byId, code, el, empty, keyed, share} from "./dom.js";
import {count, moment, plural, words} from "./format.js";
import {named} from "./store.js";

export function draw({letters}) {
  if (!letters) return;
  byId("letters-aside").textContent = letters.n ? plural(letters.n, "record") : "";
  const most = letters.kinds[0]?.n ?? 1;
  const items = letters.kinds.length ? letters.kinds.map((kind) => ({...kind, part: kind.n / most})) : [{none: true}];
  keyed(byId("letters"), items, (kind) => (kind.none ? "none" : `${kind.topic}/${kind.stage}/${kind.reason}`), (kind) => (kind.none ? el("div", {}, empty("Nothing was refused.")) : row(kind)));
}

function row(kind) {
  return el("details", {class: "letter"},
    el("summary", {},
      el("span", {class: "reason"}, words(kind.reason)),
      el("span", {class: "soft"}, `${kind.stage} · ${kind.topic}`),
      share(el("span", {class: "meter", "aria-hidden": "true"}), kind.part),
      el("span", {class: "num"}, count(kind.n))),
    kind.means && el("p", {class: "soft"}, `That is: ${kind.means}. The last came at ${moment(kind.last_ms)} UTC.`),
    el("ul", {class: "samples"}, kind.samples.map((sample) => el("li", {},
      el("p", {class: "soft"}, `${sample.place} from ${sample.source}, ${plural(sample.bytes, "byte")}`),
      el("p", {}, sample.detail),
      el("pre", {tabindex: "0", "aria-label": `value of dead letter ${sample.place}`}, sample.value ?? "null")))),
    el("p", {class: "soft"}, "Publish one again with ", code(`headrace dead-letter retry ${named()} ${kind.samples[0]?.place ?? "OFFSET"}`), "."));
}
