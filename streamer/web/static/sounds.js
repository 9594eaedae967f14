// Each sound: when it is heard, its threshold, and how many events a day another threshold would give.
import { LitElement, html, nothing, svg } from "./vendor/lit.js";
import { can, colour, get, model, nameOf, post, put, remove, subscribe } from "./model.js";
import { amount, clock, dayOf, duration, heardWords, number, profileName, rich, shift, shortDay, t, weekdays } from "./words.js";

const odds = (score) => score / (1 - score);
// The profile multiplies the odds of a threshold: what has to be set so that `on` is in force.
const plain = (threshold, on) => { const wanted = odds(on) * odds(threshold.set) / odds(threshold.on); return Math.min(.99, Math.max(.01, wanted / (1 + wanted))); };

// Trials go on, and what they found stays, while other views are open: by source and sound.
const trials = {};
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

class Sounds extends LitElement {
  static properties = { days: { state: true }, counts: { state: true }, source: { state: true }, curves: { state: true }, looked: { state: true } };
  constructor() { super(); this.days = 7; this.counts = []; this.curves = {}; this.looked = {}; }
  createRenderRoot() { return this; }
  connectedCallback() {
    super.connectedCallback();
    this.source ??= model.info.sources[0]?.id;
    this.leave = subscribe((kind) => { if (kind === "control") this.requestUpdate(); });
    this.load();
  }
  disconnectedCallback() { super.disconnectedCallback(); this.leave(); }

  async load() {
    this.curves = {};
    try { this.counts = (await get("hours", { from: shift(model.info.today, 1 - this.days), to: model.info.today, by: "weekday", source: this.source })).counts; }
    catch (error) { dispatchEvent(new CustomEvent("toast", { detail: error.message })); }
  }

  async set(path, value) {
    try { model.control = await put(`control/${this.source}/${path}`, { value }); this.requestUpdate(); }
    catch (error) { dispatchEvent(new CustomEvent("toast", { detail: error.message })); }
  }

  heat(sound, counts) {
    const most = Math.max(1, ...counts.map(({ n }) => n)), cell = 15;
    return html`<svg class="heat" viewBox="0 0 ${30 + 24 * cell} ${7 * cell + 14}" role="img" aria-label=${t("by_weekday")}>
      ${weekdays.map((day, row) => svg`<text x="0" y=${row * cell + 11}>${day}</text>${Array.from({ length: 24 }, (_, hour) => svg`<rect x=${30 + hour * cell} y=${row * cell} width=${cell - 2} height=${cell - 2} rx="3" fill="var(--sunken)"/>`)}`)}
      ${counts.map(({ weekday, hour, n }) => svg`<rect x=${30 + hour * cell} y=${weekday * cell} width=${cell - 2} height=${cell - 2} rx="3" fill=${colour(sound)} opacity=${.4 + (.6 * n) / most}><title>${weekdays[weekday]} ${hour}:00: ${n}</title></rect>`)}
      ${[0, 6, 12, 18].map((hour) => svg`<text x=${30 + hour * cell} y=${7 * cell + 11}>${hour}</text>`)}</svg>`;
  }

  // What each threshold would have made of the past days: decided again on the scores that were kept.
  async estimate(id) {
    this.curves = { ...this.curves, [id]: "asked" };
    try { this.curves = { ...this.curves, [id]: await get(`sounds/${id}/curve`, { days: Math.min(this.days, 30), source: this.source }) }; }
    catch (error) { this.curves = { ...this.curves, [id]: null }; dispatchEvent(new CustomEvent("toast", { detail: error.message })); }
  }

  // Which events another threshold would have made: a job of the server's, one at a time.
  async attempt(id, on) {
    const key = `${this.source}/${id}`, show = (trial) => { trials[key] = { ...trial, on }; this.requestUpdate(); };
    show({ state: "running", progress: 0 });
    try {
      let trial = await post("replay", { thresholds: { [id]: on }, source: this.source, days: Math.min(this.days, 30) });
      for (show(trial); trial.state === "running"; show(trial)) { await wait(700); if (trials[key].stopped) break; trial = await get(`replay/${trial.job}`); }
      if (!trials[key].stopped && !trial.error) return;
      if (trials[key].stopped) await remove(`replay/${trial.job}`); else this.tell(trial.error);
    } catch (error) { this.tell(error.message); }
    delete trials[key];
    this.requestUpdate();
  }

  tell(text) { dispatchEvent(new CustomEvent("toast", { detail: text })); }

  trial(id) {
    const trial = trials[`${this.source}/${id}`];
    if (!trial) return nothing;
    if (!trial.found) return html`<div class="row small trial"><progress max="1" .value=${trial.progress} aria-label=${t("progress")}></progress><span class="dim">${Math.round(100 * trial.progress)} %</span>
      <button class="button quiet small" ?disabled=${trial.stopped} @click=${() => { trial.stopped = true; this.requestUpdate(); }}>${t("stop")}</button></div>`;
    const { same, new: added, gone, days, new_events, gone_events } = trial.found, most = Math.max(1, ...days.map((day) => day.same + day.gone + day.new));
    const wrong = gone_events.filter(({ verdict }) => verdict === "wrong").length, right = gone_events.filter(({ verdict }) => verdict === "right").length;
    const judged = [wrong && t("judged_wrong", { n: wrong }), right && t("judged_right", { n: right })].filter(Boolean).join(", ");
    const part = (n, kind) => html`<i class=${kind} .style=${`flex: ${n}`}></i>`;
    return html`<section class="trial" aria-label=${t("tried_at", { score: number(trial.on, 2) })}>
      <p class="small">${rich("trial_found", { score: html`<b>${number(trial.on, 2)}</b>`, days: trial.days, same: number(same), added: html`<b>${number(added)}</b>`, gone: html`<b>${number(gone)}</b>` })}${judged ? html` <span class="dim">(${judged})</span>` : nothing}</p>
      <ul class="days">${days.map((day) => html`<li><span class="dim">${shortDay(day.day)}</span>
        <span class="parts" role="img" aria-label=${t("trial_day", { same: day.same, added: day.new, gone: day.gone })}><span .style=${`width: ${(100 * (day.same + day.new + day.gone)) / most}%`}>${part(day.same, "same")}${part(day.new, "new")}${part(day.gone, "gone")}</span></span>
        <span class="value">${[day.same, day.new && `+${day.new}`, day.gone && `−${day.gone}`].filter((one) => one !== 0).join(" · ") || "0"}</span></li>`)}</ul>
      ${[[t("gone"), gone, gone_events], [t("added"), added, new_events]].map(([name, n, events]) => (n ? html`<details><summary>${name} (${n})</summary><ul class="tried">${events.map((event) => html`<li>
        <span>${shortDay(dayOf(event.onset))}, ${clock(event.onset)}<br><span class="dim">${nameOf("sources", event.source)} · ${duration(event.duration_s)} · ${number(event.peak, 2)}</span></span>
        ${events === gone_events ? html`<a class="verdict ${event.verdict ?? ""}" href="#/events/${event.id}">${t(event.verdict ?? "look")}</a>` : nothing}</li>`)}</ul>${n > events.length ? html`<p class="small dim">${t("latest_of", { n: events.length, all: n })}</p>` : nothing}</details>` : nothing))}
    </section>`;
  }

  // What to write into the configuration for the same, whatever the sensitivity is.
  yaml(id, on) {
    return html`<details class="small"><summary>${t("as_yaml")}</summary><pre class="mono">sounds:\n  ${id}:\n    on: ${on.toFixed(2)}</pre></details>`;
  }

  consequences(id, threshold) {
    const curve = this.curves[id];
    if (curve === "asked") return html`<p class="small dim" aria-busy="true">${t("deciding")}</p>`;
    if (!curve) return html`<button class="ask small" @click=${() => this.estimate(id)}>${t("what_if")}</button>`;
    const most = Math.max(1e-9, ...curve.points.map((point) => point.events_a_day));
    const nearest = curve.points.reduce((best, point) => (Math.abs(point.on - threshold.on) < Math.abs(best.on - threshold.on) ? point : best));
    const chosen = curve.points.find(({ on }) => on === this.looked[id]) ?? nearest;
    const false_alarms = chosen.false_alarms_a_day === null || chosen.reviewed < 10 ? "" : ` · ${t("false_a_day", { n: number(chosen.false_alarms_a_day, 1), low: number(chosen.interval[0], 1), high: number(chosen.interval[1], 1), reviews: chosen.reviewed })}`;
    return html`<div class="curve" role="group" aria-label=${t("events_by_threshold")}>${curve.points.map((point) => html`
        <button aria-pressed=${point === chosen} aria-label="${number(point.on, 2)}: ${t("events_a_day", { n: number(point.events_a_day, 1) })}" .style=${`height: ${Math.max(2, (100 * point.events_a_day) / most)}%`} @click=${() => { this.looked = { ...this.looked, [id]: point.on }; }}></button>`)}</div>
      <p class="small outcome"><b>${number(chosen.on, 2)}</b>: ${t("events_a_day", { n: number(chosen.events_a_day, 1) })}${false_alarms} <span class="dim">· ${t("listened", { time: curve.days < 1 ? amount(24 * curve.days, "hour", 1) : amount(curve.days, "day", 1) })}</span></p>
      ${can("write") && Math.abs(chosen.on - threshold.on) > .02 ? html`<div class="row"><button class="button small" ?disabled=${Object.values(trials).some(({ state }) => state === "running")} @click=${() => this.attempt(id, chosen.on)}>${t("try_it", { days: Math.min(this.days, 30) })}</button>
        <button class="button small" @click=${() => this.set(`threshold/${id}`, plain(threshold, chosen.on))}>${t("set_it")}</button></div>${this.yaml(id, plain(threshold, chosen.on))}` : nothing}${this.trial(id)}`;
  }

  card({ id, name, priority, heard }) {
    const counts = this.counts.filter(({ sound }) => sound === id), n = counts.reduce((sum, one) => sum + one.n, 0);
    const threshold = model.control[this.source]?.thresholds[id];
    return html`<article class="panel stack" aria-label=${name}>
      <div class="row spread"><h2 class="row"><span class="swatch" .style=${`background: ${colour(id)}`}></span>${name}</h2>
        ${priority === "critical" ? html`<span class="verdict critical">${t("priority_critical")}</span>` : nothing}</div>
      <p>${rich("events_in_days", { n: html`<b>${number(n)}</b>`, days: this.days })} <span class="dim">· ${t("a_day", { n: number(n / this.days, 1) })}</span></p>
      ${this.heat(id, counts)}
      ${threshold ? html`<div><label class="row spread small"><span class="dim">${t("begins_at")}</span><output><b>${number(threshold.on, 2)}</b></output></label>
        <input class="slider" type="range" min="0.02" max="0.98" step="0.01" aria-label=${t("threshold_of", { name })} .value=${threshold.set} ?disabled=${!can("write")} @change=${(event) => this.set(`threshold/${id}`, Number(event.target.value))}>
        <div class="row spread small dim"><span>${t("hears_more")}</span><span>${t("fewer_mistakes")}</span></div>${this.consequences(id, threshold)}</div><st-veto .sound=${id} .source=${this.source}></st-veto>` : nothing}
      ${heardWords[heard] ? html`<p class="small dim">${heardWords[heard]}</p>` : nothing}
    </article>`;
  }

  render() {
    const profile = model.control[this.source]?.profile;
    return html`<header><h1>${t("sounds")}</h1><div class="row">
        ${model.info.sources.length > 1 ? html`<select class="field" aria-label=${t("source")} @change=${(event) => { this.source = event.target.value; this.load(); }}>${model.info.sources.map(({ id, name }) => html`<option value=${id}>${name}</option>`)}</select>` : nothing}
        <div class="chips" role="group" aria-label=${t("days")}>${[7, 30, 90].map((days) => html`<button class="chip" aria-pressed=${this.days === days} @click=${() => { this.days = days; this.load(); }}>${amount(days, "day")}</button>`)}</div></div></header>
      ${can("write") && profile ? html`<section class="panel row spread below"><div><h2>${t("sensitivity")}</h2><p class="small dim">${t("for_all_sounds")}</p></div>
        <div class="chips" role="group" aria-label=${t("sensitivity")}>${model.info.profiles.map((name) => html`<button class="chip" aria-pressed=${profile === name} @click=${() => this.set("profile", name)}>${profileName(name)}</button>`)}</div></section>` : nothing}
      <div class="sounds">${model.info.sounds.map((sound) => this.card(sound))}</div>
      <st-taught></st-taught><st-recurring></st-recurring>`;
  }
}
customElements.define("st-sounds", Sounds);
