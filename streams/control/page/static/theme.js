// Light or dark: as the system says, until somebody says otherwise here.

import {byId} from "./dom.js";
import {touch} from "./store.js";

const KEY = "headrace-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function start() {
  apply(localStorage.getItem(KEY));
  byId("theme").addEventListener("click", () => {
    const next = dark() ? "light" : "dark";
    localStorage.setItem(KEY, next);
    apply(next);
  });
  system.addEventListener("change", () => apply(localStorage.getItem(KEY)));
}

const chosen = () => document.documentElement.dataset.theme;

export const dark = () => (chosen() ? chosen() === "dark" : system.matches);

function apply(theme) {
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  byId("theme").textContent = dark() ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", dark() ? "Change to light colours" : "Change to dark colours");
  touch("theme");
}

// A colour of the style sheet as the browser works it out now.
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
