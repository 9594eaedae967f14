// The text of the page in the language of the home, and numbers and times as that language writes them.
import { model } from "./model.js";

const texts = JSON.parse(document.getElementById("texts").textContent);
const language = document.documentElement.lang;
const locale = language === "en" ? "en-GB" : language;

export const t = (key, values = {}) => texts[key].replace(/{(\w+)}/g, (_, name) => values[name]);
// The same with pieces of the page in it.
export const rich = (key, values) => texts[key].split(/{(\w+)}/).map((piece, i) => (i % 2 ? values[piece] : piece));

export const phaseName = (phase) => t(`phase_${phase}`);
export const priorityName = (priority) => t(`priority_${priority}`);
export const profileName = (profile) => t(`profile_${profile}`);
export const roomName = (room) => t(`room_${room}`);
export const clipState = (state) => t(`clip_${state}`);
// What the model's measurements say of a sound, as the API words it.
export const heardWords = { "heard on synthesised sounds alone": t("heard_synthesised"), "heard poorly": t("heard_poorly"), "not measured": t("heard_unknown") };

const made = new Map();
const formatter = (kind, name, options) => {
  const key = JSON.stringify([name, options]);
  if (!made.has(key)) made.set(key, new kind(name, options));
  return made.get(key);
};
export const number = (value, digits = 0) => formatter(Intl.NumberFormat, locale, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value).replace("-", "−");
// A number with its unit, in the plural that it needs.
export const amount = (value, unit, digits = 0, unitDisplay = "long") => formatter(Intl.NumberFormat, locale, { style: "unit", unit, unitDisplay, maximumFractionDigits: digits }).format(value);
export const duration = (s) => (s === null || s === undefined ? t("goes_on") : s < 60 ? t("seconds", { n: number(s, 1) }) : t("minutes", { min: number(Math.floor(s / 60)), s: number(s % 60) }));

// Times as the home has them: the zone is the daemon's, not the browser's.
const TIME = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const atHome = (name, options) => formatter(Intl.DateTimeFormat, name, { timeZone: model.info.zone, ...options });
const ofDay = (options) => (day) => formatter(Intl.DateTimeFormat, locale, { timeZone: "UTC", ...options }).format(new Date(`${day}T12:00:00Z`));
export const clock = (iso) => atHome(locale, TIME).format(new Date(iso));
export const dayName = ofDay({ weekday: "long", day: "numeric", month: "long" });
export const dayTitle = ofDay({ weekday: "short", day: "numeric", month: "long" });
export const shortDay = ofDay({ weekday: "short", day: "numeric", month: "short" });
export const weekdays = Array.from({ length: 7 }, (_, i) => ofDay({ weekday: "short" })(`2024-01-0${i + 1}`)); // a Monday is first
// The same for programs: 2026-11-25, 03:00:00.
export const timeOf = (at) => atHome("en-GB", TIME).format(new Date(at));
export const dayOf = (at) => {
  const parts = Object.fromEntries(atHome("en-GB", { year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(new Date(at)).map((p) => [p.type, p.value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
};
// The moment at which a clock in the home shows this.
export const momentOf = (day, time) => {
  const wanted = Date.parse(`${day}T${time}Z`);
  let at = wanted;
  for (let i = 0; i < 2; i++) at += wanted - Date.parse(`${dayOf(at)}T${timeOf(at)}Z`);
  return at;
};
export const shift = (day, by) => new Date(Date.parse(`${day}T12:00:00Z`) + by * 86400e3).toISOString().slice(0, 10);
