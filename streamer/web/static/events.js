// What happened: a day at a glance, the list with its filters, and one event with its sound, its scores and its verdict.
import { LitElement, html, nothing, repeat, svg } from "./vendor/lit.js";
import { can, colour, get, model, nameOf, post, put, remove, subscribe, url } from "./model.js";
import { clipState, clock, dayName, dayOf, dayTitle, duration, momentOf, number, priorityName, shift, t, timeOf } from "./words.js";
import { drawSpectrum } from "./now.js";

const PAGE = 50;
const tell = (text) => dispatchEvent(new CustomEvent("toast", { detail: text }));
const icons = {
  left: svg`<path d="M15 5l-7 7 7 7"/>`, right: svg`<path d="M9 5l7 7-7 7"/>`, close: svg`<path d="M6 6l12 12M18 6L6 18"/>`, help: svg`<path d="M9 9a3 3 0 1 1 4 2.800c-.8.4-1 1-1 2M12 17.500v.1"/>`,
};
const icon = (name) => html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${icons[name]}</svg>`;

class Events extends LitElement {
  static properties = { place: {}, day: { state: true }, events: { state: true }, next: { state: true }, hours: { state: true },
    sound: { state: true }, source: { state: true }, verdict: { state: true }, min_peak: { state: true }, has_clip: { state: true }, open: { state: true }, busy: { state: true }, help: { state: true }, missed: { state: true }, reports: { state: true }, taught: { state: true } };
  constructor() { super(); this.events = []; this.next = null; this.hours = []; this.reports = []; this.sound = this.source = this.verdict = this.min_peak = this.has_clip = ""; this.undo = []; }
  createRenderRoot() { return this; }

  connectedCallback() {
    super.connectedCallback();
    this.day ??= model.info.today;
    this.keys = (event) => this.key(event);
    addEventListener("keydown", this.keys);
    this.today = model.info.today;
    this.leave = subscribe((kind) => {
      if (kind === "events" && model.info.today !== this.today) {
        const follows = this.day === this.today;
        this.today = model.info.today;
        if (follows) return this.set({ day: this.today });
      }
      if (kind === "event" || kind === "events") this.merge();
    });
    this.load();
  }
  disconnectedCallback() { super.disconnectedCallback(); removeEventListener("keydown", this.keys); this.leave(); }
  willUpdate(changed) {
    if (changed.has("place")) this.show(this.place?.[0] ?? null);
    if (changed.has("open") && this.open && !changed.get("open")) this.listed = scrollY;
  }

  get filters() { return { day: this.day, sound: this.sound, source: this.source, verdict: this.verdict, min_peak: this.min_peak, clip: this.has_clip }; }

  async load(after = null) {
    this.busy = true;
    try {
      const [found, hours, reports] = await Promise.all([
        get("events", { ...this.filters, limit: PAGE, after }),
        after ? null : get("hours", { from: this.day, to: this.day, by: "hour", source: this.source }),
        after ? null : get("missed", { day: this.day, sound: this.sound, source: this.source }),
      ]);
      const known = new Set(after ? this.events.map(({ id }) => id) : []);
      this.events = [...(after ? this.events : []), ...found.events.filter(({ id }) => !known.has(id))];
      this.next = found.next;
      if (!after) [this.hours, this.reports] = [hours.counts, reports.missed];
    } catch (error) { tell(error.message); }
    this.busy = false;
  }

  // Events that come while the page is open: put where they belong, never twice.
  merge() {
    const shown = model.recent.find(({ id }) => id === this.open?.event.id);
    if (shown && this.open.event.offset === null) this.open = { ...this.open, event: { ...this.open.event, ...shown, verdict: this.open.event.verdict } };
    if (this.day !== dayOf(new Date())) return;
    for (const event of model.recent) {
      if ((this.sound && event.sound !== this.sound) || (this.source && event.source !== this.source) || event.peak < Number(this.min_peak) || this.verdict || this.has_clip) continue;
      const at = this.events.findIndex(({ id }) => id === event.id);
      if (at >= 0) this.events[at] = { ...this.events[at], ...event, verdict: this.events[at].verdict };
      else if (dayOf(event.onset) === this.day) this.events.unshift(event);
    }
    this.events = [...this.events].sort((a, b) => b.onset.localeCompare(a.onset));
  }

  turn(days) {
    const day = shift(this.day, days);
    if (day <= model.info.today) this.set({ day });
  }

  set(change) { Object.assign(this, change); this.load(); }

  async show(id) {
    if (!id) { this.open = null; return; }
    try { this.open = id.startsWith("missed-") ? { event: { ...await get(`missed/${id}`), is_report: true } } : await get(`events/${id}`); }
    catch (error) { tell(error.message); this.open = null; }
  }

  go(step) {
    if (!this.events.length) return;
    const at = this.events.findIndex(({ id }) => id === this.open?.event.id);
    const next = this.events[Math.min(this.events.length - 1, Math.max(0, at + step))];
    location.hash = `#/events/${next.id}`;
  }

  nextUnreviewed() {
    const at = this.events.findIndex(({ id }) => id === this.open?.event.id);
    const found = this.events.slice(at + 1).find(({ verdict }) => !verdict);
    if (found) location.hash = `#/events/${found.id}`; else tell(t("all_reviewed"));
  }

  async review(verdict, sound = null) {
    if (!this.open || this.open.event.is_report || !can("write")) return;
    const { id, verdict: before, verdict_sound, note } = this.open.event;
    try {
      const changed = await put(`events/${id}/review`, { verdict, sound, note: this.open.event.note ?? "" });
      this.undo.push([id, before && { verdict: before, sound: before === "wrong" ? verdict_sound : null, note: note ?? "" }]);
      this.replace(changed.event);
    } catch (error) { tell(error.message); }
  }

  async takeBack() {
    const last = this.undo.pop();
    if (!last) return;
    const [id, before] = last;
    try {
      const changed = before ? await put(`events/${id}/review`, before) : await remove(`events/${id}/review`);
      this.replace(changed.event);
    } catch (error) { tell(error.message); }
  }

  async addMissed(submitted) {
    submitted.preventDefault();
    const { sound, source, time, seconds } = Object.fromEntries(new FormData(submitted.target)), onset = momentOf(this.day, time);
    try {
      const report = await post("missed", { sound, source: source ?? model.info.sources[0].id, onset: new Date(onset).toISOString(), offset: new Date(onset + 1000 * seconds).toISOString() });
      this.missed = false;
      tell(t("missed_noted"));
      this.reports = [report, ...this.reports];
    } catch (error) { tell(error.message); }
  }

  missedForm() {
    const of = (name, kind) => html`<select class="field" name=${name} aria-label=${name === "sound" ? t("sound") : t("source")}>${model.info[kind].map(({ id, name }) => html`<option value=${id}>${name}</option>`)}</select>`;
    return html`<dialog open aria-label=${t("missed_title")}><h2>${t("missed_title")}</h2><form class="stack missed" @submit=${this.addMissed}>
      ${of("sound", "sounds")}${model.info.sources.length > 1 ? of("source", "sources") : nothing}
      <label class="row spread">${t("missed_at")}<input class="field" type="time" step="1" name="time" required .value=${this.day === model.info.today ? timeOf(Date.now() - 60e3) : "12:00:00"}></label>
      <label class="row spread">${t("missed_seconds")}<input class="field" type="number" name="seconds" min="0.5" max="3600" step="0.5" value="3" required></label>
      <div class="row"><button class="button primary">${t("missed_note")}</button><button class="button quiet" type="button" @click=${() => { this.missed = false; }}>${t("cancel")}</button></div></form></dialog>`;
  }

  replace(event) {
    this.events = this.events.map((known) => (known.id === event.id ? { ...known, ...event } : known));
    if (this.open?.event.id === event.id) this.open = { ...this.open, event: { ...this.open.event, ...event } };
  }

  updated(changed) {
    // On a phone an event takes the place of the list, which is where it was when the event is closed.
    if (changed.has("open") && !this.open !== !changed.get("open") && matchMedia("(max-width: 860px)").matches) scrollTo(0, this.open ? 0 : this.listed ?? 0);
    this.focusDialog(changed);
  }
  focusDialog(changed) { if ((changed.has("missed") && this.missed) || (changed.has("help") && this.help)) this.querySelector("dialog :is(select, button)").focus(); }

  key(event) {
    if (event.key === "Escape" && (this.missed || this.help)) { this.missed = this.help = false; return; }
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA|AUDIO)$/.test(event.target.tagName)) return;
    const keys = { j: () => this.go(1), k: () => this.go(-1), r: () => this.review("right"), w: () => this.review("wrong"), u: () => this.takeBack(),
      n: () => this.nextUnreviewed(), Escape: () => { location.hash = "#/events"; }, "?": () => { this.help = true; }, ArrowLeft: () => this.turn(-1), ArrowRight: () => this.turn(1),
      " ": () => { const audio = this.querySelector("audio"); if (audio) audio.paused ? audio.play() : audio.pause(); } };
    if (event.key in keys && !(event.key === " " && event.target.tagName === "BUTTON")) { event.preventDefault(); keys[event.key](); }
  }

  async discard(path, question) {
    if (!confirm(question)) return;
    try { await remove(path); } catch (error) { return tell(error.message); }
    const { id, is_report } = this.open.event;
    if (path.startsWith("clips/")) return this.show(id);
    if (is_report) this.reports = this.reports.filter((one) => one.id !== id);
    location.hash = "#/events";
  }

  // Why no event was made: decided again on the scores that were kept.
  async ask() {
    const { event } = this.open, set = (why) => { if (this.open?.event.id === event.id) this.open = { ...this.open, why }; };
    set("asked");
    const at = new Date((Date.parse(event.onset) + Date.parse(event.offset)) / 2).toISOString();
    try { set((await get("explain", { source: event.source, sound: event.sound, at })).lines); }
    catch (error) { set(null); tell(error.message); }
  }

  strip() {
    const rows = [...new Set(this.hours.map(({ sound }) => sound))].sort(), at = (hour) => `left: ${hour / .24}%`;
    if (!rows.length) return html`<p class="dim">${t("day_empty")}</p>`;
    return html`<div class="strip" role="img" aria-label=${t("day_by_hour")}>
      ${rows.map((sound) => html`<span class="label">${nameOf("sounds", sound)}</span><span class="track">
        ${this.hours.filter((one) => one.sound === sound).map(({ hour, n }) => html`<i title="${nameOf("sounds", sound)}, ${hour}:00: ${n}" .style=${`${at(hour)}; background: ${colour(sound)}; opacity: ${Math.min(1, .35 + .13 * n)}`}></i>`)}</span>`)}
      <span class="track hours">${[0, 6, 12, 18, 24].map((hour) => html`<b .style=${at(hour)}>${hour}</b>`)}</span>
    </div>`;
  }

  clip(event) {
    return event.clip === "kept" ? html`<st-clip .event=${event}></st-clip>` : event.clip && event.clip !== "none" ? html`<p class="dim small">${clipState(event.clip)}</p>` : nothing;
  }

  report(event) {
    const { why } = this.open;
    return html`<section class="panel detail" aria-label=${t("missed_sound")}>
      <div class="row spread"><h2>${nameOf("sounds", event.sound)}</h2><a class="button icon quiet" href="#/events" aria-label=${t("close")}>${icon("close")}</a></div>
      ${this.clip(event)}
      <dl class="facts"><dt>${t("when")}</dt><dd>${dayName(dayOf(event.onset))}, ${clock(event.onset)}</dd><dt>${t("length")}</dt><dd>${duration(event.duration_s)}</dd>
        <dt>${t("where")}</dt><dd>${nameOf("sources", event.source)}</dd>${event.note ? html`<dt>${t("note")}</dt><dd>${event.note}</dd>` : nothing}</dl>
      <p class="dim small">${t("missed_reported")}</p>
      ${why === "asked" ? html`<p class="small dim" aria-busy="true">${t("deciding")}</p>` : why ? html`<dl class="facts" lang="en">${why.map(([what, outcome]) => html`<dt>${what}</dt><dd>${outcome}</dd>`)}</dl>`
        : html`<div><button class="ask small" @click=${() => this.ask()}>${t("missed_why")}</button></div>`}
      ${can("write") ? html`<div class="row end"><button class="button" @click=${() => this.discard(`missed/${event.id}`, t("missed_remove_sure"))}>${t("missed_remove")}</button></div>` : nothing}
    </section>`;
  }

  entry(event) {
    return html`<li><a class="entry" href="#/events/${event.id}" aria-current=${event.id === this.open?.event.id ? "true" : "false"}>
      <time datetime=${event.onset}>${clock(event.onset)}</time>
      <span><span class="sound"><span class="swatch" .style=${`background: ${colour(event.sound)}`}></span>${nameOf("sounds", event.sound)}</span>
        <span class="where">${nameOf("sources", event.source)} · ${duration(event.duration_s)}</span></span>
      ${event.is_report ? html`<span class="peak"></span>` : html`<span class="peak dim">${number(event.peak, 2)}</span>`}
      ${event.is_report ? html`<span class="verdict">${t("missed")}</span>` : event.verdict ? html`<span class="verdict ${event.verdict}">${t(event.verdict)}</span>`
        : event.priority === "critical" ? html`<span class="verdict critical">${t("priority_critical")}</span>` : html`<span class="verdict">${t("new")}</span>`}
    </a></li>`;
  }

  detail() {
    const { event, explain } = this.open;
    if (event.is_report) return this.report(event);
    return html`<section class="panel detail" aria-label=${t("event")}>
      <div class="row spread"><h2>${nameOf("sounds", event.sound)}</h2><a class="button icon quiet" href="#/events" aria-label=${t("close")}>${icon("close")}</a></div>
      ${this.clip(event)}
      <dl class="facts">
        <dt>${t("when")}</dt><dd>${dayName(dayOf(event.onset))}, ${clock(event.onset)}</dd><dt>${t("length")}</dt><dd>${duration(event.duration_s)}</dd>
        <dt>${t("where")}</dt><dd>${nameOf("sources", event.source)}</dd>
        <dt>${t("score")}</dt><dd>${t("score_highest", { score: number(event.peak, 2) })}${event.rule ? html` <span class="dim">(${t("score_begins", { score: number(event.rule.on, 2) })})</span>` : nothing}</dd>
        <dt>${t("loudness")}</dt><dd>${number(event.level_dbfs)} dBFS</dd>
        ${event.verified === null ? nothing : html`<dt>${t("cadence")}</dt><dd>${event.verified ? t("cadence_found") : t("cadence_missing")}</dd>`}
        ${event.priority === "normal" ? nothing : html`<dt>${t("priority")}</dt><dd>${priorityName(event.priority)}</dd>`}
      </dl>
      <st-scores .event=${event}></st-scores>
      <ul class="heard bare" aria-label=${t("labels")}>${Object.entries(event.labels).map(([label, score]) => html`<li><span>${label}</span><span class="bar"><i .style=${`width: ${100 * score}%`}></i></span><span class="value">${number(score, 2)}</span></li>`)}</ul>
      ${explain?.length ? html`<div><h3>${t("why")}</h3><ul class="why">${explain.map((line) => html`<li>${line}</li>`)}</ul></div>` : nothing}
      ${can("write") ? html`<div><h3>${t("was_it_right")}</h3><div class="review">
        <button class="button" aria-pressed=${event.verdict === "right"} @click=${() => this.review("right")}>${t("right")}</button>
        <button class="button" aria-pressed=${event.verdict === "wrong" && !event.verdict_sound} @click=${() => this.review("wrong")}>${t("wrong")}</button></div>
        <label class="row small other"><span class="dim">${t("it_was")}</span>
          <select class="field" @change=${(change) => change.target.value && this.review("wrong", change.target.value)}>
            <option value="">…</option>${model.info.sounds.filter(({ id }) => id !== event.sound).map(({ id, name }) => html`<option value=${id} ?selected=${event.verdict_sound === id}>${name}</option>`)}
          </select></label>
        <button class="ask small" @click=${() => { this.taught = event; }}>${t("this_is")}</button>
        ${event.verdict === "wrong" ? html`<st-veto offer .sound=${event.sound} .source=${event.source}></st-veto>` : nothing}</div>` : nothing}
      <div class="row spread"><p class="mono dim">${event.id}</p>
        ${event.clip === "kept" ? html`<div class="row">${can("write") ? html`<button class="button" @click=${() => this.discard(`clips/${event.id}`, t("clip_delete_sure"))}>${t("clip_delete")}</button>
          <button class="button" aria-pressed=${event.pinned} @click=${() => this.pin(!event.pinned)}>${event.pinned ? t("kept_for_good") : t("keep_for_good")}</button>` : nothing}
          <a class="button" href=${url(`clips/${event.id}.flac`)} download>${t("download")}</a></div>` : nothing}</div>
    </section>`;
  }

  async pin(value) {
    try { this.replace((await put(`events/${this.open.event.id}/pin`, { value })).event); }
    catch (error) { tell(error.message); }
  }

  render() {
    const is = (kind, id) => this[kind] === id;
    return html`
      <header><h1>${t("events")}</h1>
        <div class="day"><button class="button icon quiet" aria-label=${t("day_before")} @click=${() => this.turn(-1)}>${icon("left")}</button>
          <b>${dayTitle(this.day)}</b>
          <button class="button icon quiet" aria-label=${t("day_after")} ?disabled=${this.day >= model.info.today} @click=${() => this.turn(1)}>${icon("right")}</button>
          <button class="button icon quiet" aria-label=${t("keys")} @click=${() => { this.help = true; }}>${icon("help")}</button></div>
      </header>
      <div class="events ${this.open ? "open" : ""}">
        <div class="stack browse">
          <section class="panel">${this.strip()}</section>
          <div class="row spread">
            <div class="chips" role="group" aria-label=${t("verdict")}>${[["", t("all")], ["none", t("not_reviewed")], ["right", t("right")], ["wrong", t("wrong")]].map(([id, name]) => html`
              <button class="chip" aria-pressed=${is("verdict", id)} @click=${() => this.set({ verdict: id })}>${name}</button>`)}
              <button class="chip" aria-pressed=${is("has_clip", "kept")} @click=${() => this.set({ has_clip: this.has_clip ? "" : "kept" })}>${t("with_clip")}</button></div>
            <div class="row tools">
              <select class="field" aria-label=${t("sound")} @change=${(event) => this.set({ sound: event.target.value })}><option value="">${t("every_sound")}</option>${model.info.sounds.map(({ id, name }) => html`<option value=${id} ?selected=${is("sound", id)}>${name}</option>`)}</select>
              ${model.info.sources.length > 1 ? html`<select class="field" aria-label=${t("source")} @change=${(event) => this.set({ source: event.target.value })}><option value="">${t("everywhere")}</option>${model.info.sources.map(({ id, name }) => html`<option value=${id}>${name}</option>`)}</select>` : nothing}
              <select class="field" aria-label=${t("score")} @change=${(event) => this.set({ min_peak: event.target.value })}><option value="">${t("any_score")}</option>${[.5, .7, .9].map((score) => html`<option value=${score} ?selected=${is("min_peak", String(score))}>${t("score_from", { score: number(score, 1) })}</option>`)}</select>
              ${can("write") ? html`<button class="button" @click=${() => { this.missed = true; }}>${t("missed_one")}</button>` : nothing}
              <a class="button" href=${url("events.csv", this.filters)} download>CSV</a>
            </div></div>
          ${this.reports.length ? html`<section class="panel tight" aria-label=${t("missed_sounds")}><h2>${t("missed_sounds")}</h2><ul class="list">${repeat(this.reports, ({ id }) => id, (one) => this.entry({ ...one, is_report: true }))}</ul></section>` : nothing}
          <section class="panel tight" aria-busy=${this.busy}>
            ${this.events.length ? html`<ul class="list">${repeat(this.events, ({ id }) => id, (event) => this.entry(event))}</ul>` : html`<p class="empty">${this.busy ? t("loading") : t("no_events")}</p>`}
            ${this.next ? html`<p class="centred"><button class="button quiet" @click=${() => this.load(this.next)}>${t("earlier")}</button></p>` : nothing}
          </section>
        </div>
        ${this.open ? this.detail() : nothing}
      </div>
      ${this.missed ? this.missedForm() : nothing}
      ${this.taught ? html`<st-example .event=${this.taught} @closed=${() => { this.taught = null; }}></st-example>` : nothing}
      ${this.help ? html`<dialog open aria-label=${t("keys")}><h2>${t("keys")}</h2><dl class="facts keys">
        ${[["j", t("key_next")], ["k", t("key_before")], [t("space"), t("key_play")], ["r", t("right")], ["w", t("wrong")], ["u", t("undo")], ["n", t("key_unreviewed")], ["←", t("day_before")], ["→", t("day_after")], ["Esc", t("close")]].map(([key, what]) => html`<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`)}</dl>
        <button class="button primary" @click=${() => { this.help = false; }}>${t("close")}</button></dialog>` : nothing}`;
  }
}
customElements.define("st-events", Events);

class Clip extends LitElement {
  static properties = { event: {}, end: { state: true } };
  createRenderRoot() { return this; }
  willUpdate(changed) { if (changed.has("event") && changed.get("event")?.id !== this.event.id) this.load(); }

  async load() {
    const answer = await fetch(url(`clips/${this.event.id}/spectrum`));
    if (!answer.ok) return;
    const { start, end, columns_s, n, data } = await answer.json();
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    this.end = end;
    await this.updateComplete;
    drawSpectrum(this.querySelector("canvas"), [{ start, columns_s, n, bytes }], start + n / columns_s, n / columns_s);
    this.start = start;
    this.requestUpdate();
  }

  render() {
    const length = this.end - this.start, at = (iso) => `${(100 * (Date.parse(iso) / 1000 - this.start)) / length}%`;
    const shown = this.end && this.event.offset;
    return html`<figure class="stack"><div class="scope rounded"><canvas class="spectrum" role="img" aria-label=${t("clip_spectrogram")}></canvas>
      ${shown ? html`<span class="span" .style=${`left: ${at(this.event.onset)}; width: calc(${at(this.event.offset)} - ${at(this.event.onset)})`}></span>` : nothing}</div>
      <audio controls preload="metadata" src=${url(`clips/${this.event.id}.flac`)}></audio></figure>`;
  }
}
customElements.define("st-clip", Clip);

// The score of the sound around an event: its labels' highest, the thresholds that were in force, and the event's span.
class Scores extends LitElement {
  static properties = { event: {}, found: { state: true } };
  createRenderRoot() { return this; }
  willUpdate(changed) { if (changed.has("event") && changed.get("event")?.id !== this.event.id) this.load(); }

  async load() {
    this.found = null;
    const { id } = this.event;
    try { const found = await get(`events/${id}/scores`); if (id === this.event.id) this.found = found; }
    catch { /* without a log of scores there is no plot */ }
  }

  render() {
    const rows = Object.values(this.found?.labels ?? {});
    if (!rows.some((row) => row.some((score) => score !== null))) return nothing;
    const { start, step_s } = this.found, { rule } = this.event, n = rows[0].length, width = Math.max(260, this.clientWidth || 400), height = 110, left = 26, base = height - 18;
    const x = (at) => left + ((at - start) / (n * step_s)) * (width - left), y = (score) => base - score * (base - 6);
    const highest = rows[0].map((_, i) => rows.reduce((most, row) => (row[i] === null ? most : Math.max(most ?? 0, row[i])), null));
    let line = "", pen = "M";
    highest.forEach((score, i) => { if (score === null) pen = "M"; else { line += `${pen}${x(start + i * step_s).toFixed(1)} ${y(score).toFixed(1)}`; pen = "L"; } });
    const from = x(Date.parse(this.event.onset) / 1000), to = this.event.offset === null ? width : x(Date.parse(this.event.offset) / 1000);
    return html`<svg class="plot" viewBox="0 0 ${width} ${height}" role="img" aria-label=${t("scores_around")}>
      <rect x=${from} y="6" width=${Math.max(2, to - from)} height=${base - 6} fill=${colour(this.event.sound)} opacity=".18"/>
      ${[0, .5, 1].map((score) => svg`<line x1=${left} x2=${width} y1=${y(score)} y2=${y(score)} stroke="var(--line)"/><text x="0" y=${y(score) + 4}>${number(score, score % 1 && 1)}</text>`)}
      ${rule?.labels?.length ? [["on", t("starts")], ["off", t("ends")]].map(([key, word]) => svg`<line x1=${left} x2=${width} y1=${y(rule[key])} y2=${y(rule[key])} stroke="var(--strong-line)" stroke-dasharray="3 4"/><text x=${width} y=${y(rule[key]) - 3} text-anchor="end">${word}</text>`) : nothing}
      <path d=${line} fill="none" stroke=${colour(this.event.sound)} stroke-width="2" stroke-linejoin="round"/>
      ${[0, .5, 1].map((part) => svg`<text x=${left + part * (width - left)} y=${height - 3} text-anchor=${["start", "middle", "end"][2 * part]}>${clock(new Date(1000 * (start + part * n * step_s)).toISOString())}</text>`)}
    </svg>`;
  }
}
customElements.define("st-scores", Scores);
