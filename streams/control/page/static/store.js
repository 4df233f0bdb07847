// What the control plane has said last, by section, and who wants to know when it says something new.

export const state = {};

const watchers = [];
const changed = new Set();
let due = false;

// Call `draw` now, and after any of these sections has changed: at most once a frame.
export function on(sections, draw) {
  watchers.push({sections, draw});
}

export function put(section, value) {
  state[section] = value;
  touch(section);
}

export function touch(section) {
  changed.add(section);
  if (due) return;
  due = true;
  requestAnimationFrame(flush);
}

function flush() {
  due = false;
  const now = new Set(changed);
  changed.clear();
  for (const {sections, draw} of watchers) {
    if (sections.some((section) => now.has(section))) draw(state);
  }
}

// How commands name the pipeline: as whoever started the control plane did.
export const named = () => state.pipeline?.reference ?? "PIPELINE";

// Data of a section, once all of these have come.
export const ready = (...sections) => sections.every((section) => state[section] !== undefined);
