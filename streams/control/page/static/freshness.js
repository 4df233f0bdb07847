// How fresh everything is: stream time, what the models know of it, the last checkpoint, and whether every record is there.

import {byId, el, keyed} from "./dom.js";
import {duration, moment, none, plural} from "./format.js";

export function draw({glance}) {
  const fresh = glance?.freshness;
  const laws = glance?.laws ?? [];
  const broken = laws.filter((law) => !law.holds).length;
  const items = !glance ? [] : [
    {name: "Stream time", value: fresh?.stream_time_ms ? `${moment(fresh.stream_time_ms)} UTC` : none},
    {name: "Labels learned until", value: fresh?.learned_until_ms ? `${moment(fresh.learned_until_ms)} UTC` : none},
    {name: "Model age", value: duration(fresh?.model_age_s)},
    {name: "Last checkpoint", value: fresh?.checkpoint_age_s === undefined ? none : `${duration(fresh.checkpoint_age_s)} ago`},
    {name: "Conservation", value: !laws.length ? none : broken ? `${broken} of ${plural(laws.length, "law")} broken` : `${plural(laws.length, "law")} kept`, tone: broken ? "bad" : laws.length ? "good" : null},
  ];
  keyed(byId("freshness"), items, (item) => item.name, ({name, value, tone}) => el("div", {}, el("dt", {}, name), el("dd", {"data-tone": tone}, value)));
}
