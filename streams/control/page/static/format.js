// Numbers and times for people.

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const short = new Intl.NumberFormat("en", {notation: "compact", maximumFractionDigits: 1});

export const none = "–";

export const count = (value) => (value === null || value === undefined ? none : whole.format(value));

export const compact = (value) => (value === null || value === undefined ? none : value < 10_000 ? count(value) : short.format(value));

export function rate(value) {
  if (value === null || value === undefined) return none;
  return `${value >= 10 || value === 0 ? compact(value) : value.toFixed(1)}/s`;
}

export function figure(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return none;
  return Math.abs(value) >= 1000 ? compact(value) : value.toFixed(Math.abs(value) >= 100 ? 1 : digits);
}

export const percent = (value) => (value === null || value === undefined ? none : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return none;
  if (seconds < 1) return "under 1 s";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${count(Math.round(seconds / 86_400))} days`;
}

export const ago = (ms) => `${duration(Math.max(0, (Date.now() - ms) / 1000))} ago`;

// A moment of the data, in UTC, as the command line prints it.
export function moment(ms) {
  if (ms === null || ms === undefined) return none;
  const date = new Date(ms);
  return isNaN(date) ? `${ms} ms` : date.toISOString().slice(0, 16).replace("T", " "); // no calendar has every time
}

export const words = (name) => String(name).replaceAll("_", " ").replaceAll("-", " ");

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
