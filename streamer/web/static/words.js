import { model } from "./model.js";

// All text of the page, in one place.
export const phases = {
  listening: "listening", silent: "silent", stalled: "no audio arrives", reopening: "lost, trying again",
  waiting: "waiting for it", paused: "switched off", ended: "over", failed: "failed",
};
export const priorities = { low: "low", normal: "normal", high: "high", critical: "critical" };
export const clips = {
  none: "", waiting: "The clip is being written.", kept: "",
  speech: "No clip was kept: somebody may be speaking in it.", full: "No clip was kept: the room for clips is full.",
  failed: "The clip could not be written.", expired: "The clip was removed to make room.", deleted: "The clip was deleted.",
};
export const words = (id) => id.replaceAll("_", " ").replace(/^./, (c) => c.toUpperCase());

// Times as the home has them: the zone is the daemon's, not the browser's.

const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: model.info.zone, ...options });
export const clock = (iso) => format({ hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(iso));
export const hourMinute = (iso) => format({ hour: "2-digit", minute: "2-digit" }).format(new Date(iso));
export const dayName = (day) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", weekday: "long", day: "numeric", month: "long" }).format(new Date(`${day}T12:00:00Z`));
export const dayOf = (iso) => {
  const parts = Object.fromEntries(format({ year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(new Date(iso)).map((p) => [p.type, p.value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
};
// The moment at which a clock in the home shows this.
export const momentOf = (day, time) => {
  const wanted = Date.parse(`${day}T${time}Z`);
  let at = wanted;
  for (let i = 0; i < 2; i++) at += wanted - Date.parse(`${dayOf(at)}T${clock(at)}Z`);
  return at;
};
export const shift = (day, by) => new Date(Date.parse(`${day}T12:00:00Z`) + by * 86400e3).toISOString().slice(0, 10);
export const ago = (iso) => {
  const s = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  if (s < 60) return `${Math.round(s)} s ago`;
  if (s < 3600) return `${Math.round(s / 60)} min ago`;
  return `${Math.round(s / 3600)} h ago`;
};
export const duration = (s) => (s === null || s === undefined ? "goes on" : s < 60 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`);
