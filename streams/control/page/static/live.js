// Updates as they come: one stream that connects again by itself, and says when it is cut.

import {put, touch} from "./store.js";

const SECTIONS = ["pipeline", "link", "models", "metrics", "drift", "alerts", "letters", "glance"];
const SILENCE_MS = 30_000;
const RETRY_MS = 2_000;

let source = null;
let heard = Date.now();

export function connect() {
  source?.close();
  source = new EventSource("/api/events");
  heard = Date.now();
  source.addEventListener("open", () => { alive(); touch("connection"); });
  source.addEventListener("beat", () => alive());
  for (const section of SECTIONS) {
    source.addEventListener(section, (event) => {
      alive();
      put(section, JSON.parse(event.data));
    });
  }
  source.addEventListener("error", () => {
    put("stream", {state: "cut"});
    // A refusal (too many pages, for one) ends an EventSource for good: it is made anew.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RETRY_MS);
  });
}

export function watch() {
  setInterval(() => { if (Date.now() - heard > SILENCE_MS) connect(); }, 5_000);
}

function alive() {
  heard = Date.now();
  put("stream", {state: "open"});
}
