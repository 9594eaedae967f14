// Requests to the server, and what the page knows by them and by the live stream: one copy for all views, which are told of changes.
// All addresses are relative, so that any path in front of the page works.
const base = new URL("api/1/", document.baseURI);

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

export const url = (path, query = {}) => {
  const target = new URL(path, base);
  for (const [key, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") target.searchParams.set(key, value);
  return target;
};

async function ask(method, path, { query, body } = {}) {
  const options = { method, headers: {} };
  if (method !== "GET") Object.assign(options.headers, { "Content-Type": "application/json", "X-Streamer": "1" });
  if (body !== undefined) options.body = JSON.stringify(body);
  const answer = await fetch(url(path, query), options);
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, said.error ?? `${answer.status} ${answer.statusText}`);
  }
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, query) => ask("GET", path, { query });
export const put = (path, body) => ask("PUT", path, { body });
export const post = (path, body) => ask("POST", path, { body });
export const remove = (path) => ask("DELETE", path);

const KEPT_S = 32;
const listeners = new Set();
export const model = {
  info: null,
  online: true,
  states: {},     // by source: {phase, reason}
  heard: {},      // by source: the latest levels and labels
  history: {},    // by source: [{at, sounds}] of the last half minute
  spectra: {},    // by source: [{start, columns_s, n, data}]
  open: {},       // by event id: events that have not ended
  recent: [],     // the latest events, newest first
  control: {},
  stats: {},
  version: 0,     // grows with each change of events, for lists
};

export const subscribe = (changed) => { listeners.add(changed); return () => listeners.delete(changed); };
export const notify = (kind) => { for (const changed of listeners) changed(kind); };

export async function load() {
  [model.info, model.control] = await Promise.all([get("info"), get("control")]);
}

export async function refresh() {
  const [info, found] = await Promise.all([get("info"), get("events", { limit: 12 })]);
  model.info = info;
  model.recent = found.events;
  model.open = Object.fromEntries(found.events.filter((e) => e.offset === null).map((e) => [e.id, e]));
  model.version += 1;
  notify("events");
}

function onEvent(event) {
  if (event.phase === "end") delete model.open[event.id];
  else model.open[event.id] = event;
  const at = model.recent.findIndex((known) => known.id === event.id);
  if (at >= 0) model.recent[at] = { ...model.recent[at], ...event };
  else model.recent = [event, ...model.recent].slice(0, 12);
  model.version += 1;
}

function onHeard(heard) {
  model.heard[heard.source] = heard;
  const history = (model.history[heard.source] ??= []);
  history.push({ at: heard.at, sounds: heard.sounds });
  while (history.length && heard.at - history[0].at > KEPT_S) history.shift();
}

function onSpectrum(piece) {
  const bytes = Uint8Array.from(atob(piece.data), (c) => c.charCodeAt(0));
  const pieces = (model.spectra[piece.source] ??= []);
  pieces.push({ ...piece, bytes });
  while (piece.start - (pieces[0].start + pieces[0].n / piece.columns_s) > KEPT_S) pieces.shift();
}

const handlers = {
  state: (fields) => { model.states[fields.source] = fields; },
  event: onEvent,
  heard: onHeard,
  spectrum: onSpectrum,
  stats: (fields) => { model.stats = fields; },
  control: (fields) => { model.control = fields; },
  review: ({ id, verdict }) => { model.recent = model.recent.map((event) => (event.id === id ? { ...event, verdict } : event)); model.version += 1; },
};

let stream = null;
let spectrum = null;

// A new stream whenever another spectrogram is shown; none while the page is hidden.
export function watch(source) {
  if (source === spectrum && stream) return;
  spectrum = source;
  reopen();
}

function reopen() {
  stream?.close();
  stream = null;
  if (document.hidden || !model.info) return;
  stream = new EventSource(url("live", { spectrum }));
  // What happened before the stream was open is asked for once it is: nothing falls between the two.
  stream.onopen = () => { refresh().catch(() => {}); model.online = true; notify("online"); };
  stream.onerror = () => {
    model.online = false;
    notify("online");
    // A refusal (restart, proxy, session that is over) ends the stream for good: ask why, and open another.
    if (stream?.readyState === EventSource.CLOSED) setTimeout(() => get("info").then(reopen, (error) => { if (error.status === 401) location.reload(); else reopen(); }), 3000);
  };
  stream.addEventListener("resync", () => refresh().catch(() => {}));
  for (const [kind, handle] of Object.entries(handlers)) {
    stream.addEventListener(kind, (message) => { handle(JSON.parse(message.data)); notify(kind); });
  }
}

document.addEventListener("visibilitychange", () => { reopen(); });

export const can = (scope) => model.info?.scopes.includes(scope) ?? false;
export const nameOf = (kind, id) => model.info?.[kind].find((one) => one.id === id)?.name ?? id;
const HUES = [168, 28, 262, 85, 330, 210, 55, 300, 130, 0, 235, 105];
export const colour = (sound) => {
  const at = Math.max(0, model.info?.sounds.findIndex((one) => one.id === sound) ?? 0);
  return `hsl(${HUES[at % HUES.length]} ${at >= HUES.length ? 35 : 55}% 48%)`;
};
