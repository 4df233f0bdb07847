// The one dialog, and the one line that is read out.

import {byId, el} from "./dom.js";

export function open(title, content) {
  const dialog = byId("dialog");
  dialog.replaceChildren(el("h2", {id: "dialog-title"}, title), ...content);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("input:not([disabled]), textarea, button.first, button")?.focus();
}

export const close = () => byId("dialog").close();

export function say(sentence) {
  byId("said").textContent = "";
  setTimeout(() => { byId("said").textContent = sentence; }, 50);
}
