// Changes: each carries the token, and comes back as a value or as an error of one sentence.

const KEY = "headrace-token";

export class Failed extends Error {
  constructor(sentence, status, body) {
    super(sentence);
    this.status = status;
    this.body = body;
  }
}

export const token = () => sessionStorage.getItem(KEY);

export function keep(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export async function post(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: {"Content-Type": "application/json", ...(token() ? {Authorization: `Bearer ${token()}`} : {})},
      body: JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch {
    throw new Failed("The control plane does not answer: nothing was changed as far as this page knows.", 0, {});
  }
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Failed(value.error ?? `It was refused (${response.status}).`, response.status, value);
  return value;
}
