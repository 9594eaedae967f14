// What people teach: this is …, not this, and what recurs and has no name yet.
import { LitElement, html, nothing } from "./vendor/lit.js";
import { can, get, model, nameOf, post, put, remove, subscribe, url } from "./model.js";
import { amount, clock, dayOf, duration, number, rich, shortDay, t } from "./words.js";
import { drawSpectrum } from "./now.js";

const DAYS = 7;
const tell = (text) => dispatchEvent(new CustomEvent("toast", { detail: text }));
const moment = (iso) => `${shortDay(dayOf(iso))}, ${clock(iso)}`;
const seconds = (s) => t("seconds", { n: number(s, 1) });
const plain = (text) => text.trim().toLowerCase().replace(/[^a-z0-9_-]+/g, "_").replace(/^[_-]+/, "");
const yaml = (text) => html`<pre class="mono">${text}</pre>`;

// A dialog: an event, or a stretch of what was just heard, is kept as an example of a sound.
class Example extends LitElement {
  static properties = { event: {}, source: {}, pieces: {}, names: { state: true }, from: { state: true }, to: { state: true }, busy: { state: true } };
  constructor() { super(); this.names = []; this.from = 0; this.to = 0; }
  createRenderRoot() { return this; }

  connectedCallback() {
    super.connectedCallback();
    const last = this.pieces?.at(-1);
    if (last) {
      this.end = last.start + last.n / last.columns_s;
      this.begin = Math.max(this.pieces[0].start, this.end - 30);
      [this.from, this.to] = [Math.max(0, this.end - this.begin - 6), this.end - this.begin];
    }
    get("teaching").then(({ sounds, needed }) => { this.names = sounds.map(({ name }) => name); this.needed = needed; }, (error) => tell(error.message));
  }
  firstUpdated() {
    const canvas = this.querySelector("canvas");
    if (canvas) drawSpectrum(canvas, this.pieces, this.end, this.end - this.begin);
    this.querySelector("input[name=name]").focus();
  }
  close() { this.dispatchEvent(new CustomEvent("closed")); }

  get length() { return this.event ? this.event.duration_s ?? 0 : this.to - this.from; }

  async keep(submitted) {
    submitted.preventDefault();
    const fields = new FormData(submitted.target), name = plain(fields.get("name")), iso = (at) => new Date(1000 * (this.begin + at)).toISOString();
    const what = this.event ? { event: this.event.id } : { source: this.source, begin: iso(this.from), end: iso(this.to) };
    this.busy = true;
    try {
      const is_not = fields.has("is_not"), { examples } = await post(`teaching/${name}/examples`, { ...what, is_not, keep_audio: true });
      tell(t(is_not ? "counter_kept" : "example_kept", { name, n: examples.filter((one) => one.is_not === is_not).length, needed: this.needed }));
      this.close();
    } catch (error) { tell(error.message); }
    this.busy = false;
  }

  slider(which, label) {
    const most = this.end - this.begin;
    const move = ({ target }) => {
      this[which] = Number(target.value);
      if (which === "from") this.to = Math.min(most, Math.max(this.to, this.from + .5)); else this.from = Math.max(0, Math.min(this.from, this.to - .5));
    };
    return html`<label class="row spread small"><span class="dim">${label}</span><output>${clock(new Date(1000 * (this.begin + this[which])).toISOString())}</output></label>
      <input class="slider" type="range" min="0" max=${most} step="0.1" aria-label=${label} .value=${String(this[which])} @input=${move}>`;
  }

  render() {
    const most = this.end - this.begin, at = (part) => `${(100 * part) / most}%`;
    return html`<dialog open aria-label=${t("this_is")} @keydown=${(event) => { if (event.key === "Escape") { event.stopPropagation(); this.close(); } }}><h2>${t("this_is")}</h2>
      <form class="stack missed" @submit=${this.keep}>
        ${this.event ? html`<p class="dim small">${moment(this.event.onset)} · ${duration(this.event.duration_s)}</p>` : html`<div>
          <div class="scope rounded"><canvas class="spectrum" role="img" aria-label=${t("spectrogram_30_s")}></canvas><span class="span" .style=${`left: ${at(this.from)}; width: ${at(this.to - this.from)}`}></span></div>
          ${this.slider("from", t("stretch_from"))}${this.slider("to", t("stretch_to"))}</div>`}
        <label class="stack close">${t("teach_name")}<input class="field" name="name" list="taught" maxlength="64" autocomplete="off" required></label>
        <datalist id="taught">${this.names.map((name) => html`<option value=${name}></option>`)}</datalist>
        <label class="row"><input type="checkbox" name="is_not"><span>${t("teach_not")}</span></label>
        <label class="row consent"><input type="checkbox" required><span>${t("teach_consent", { s: seconds(this.length), source: nameOf("sources", this.source ?? this.event.source) })}</span></label>
        <div class="row"><button class="button primary" ?disabled=${this.busy}>${t("keep_example")}</button><button class="button quiet" type="button" @click=${() => this.close()}>${t("cancel")}</button></div>
      </form></dialog>`;
  }
}
customElements.define("st-example", Example);

// What was taught: its examples, what may be expected of it, and whether it is listened for.
class Taught extends LitElement {
  static properties = { found: { state: true }, busy: { state: true }, fault: { state: true } };
  constructor() { super(); this.fault = {}; }
  createRenderRoot() { return this; }
  connectedCallback() { super.connectedCallback(); this.load(); }
  async load() { try { this.found = await get("teaching"); } catch (error) { tell(error.message); } }

  async teach(name) {
    this.busy = name;
    this.fault = {};
    try { await post(`teaching/${name}`, {}); } catch (error) { this.fault = { [name]: error.message }; }
    this.busy = null;
    this.load();
  }

  async drop(path, question) {
    if (!confirm(question)) return;
    try { await remove(`teaching/${path}`); } catch (error) { tell(error.message); }
    this.load();
  }

  outcome({ name, state, taught }) {
    const { good } = this.found, { clips, heard, others, too_few, too_different, alike } = taught;
    return html`<ul class="why">
      <li>${t("taught_heard", { heard, n: clips })}</li><li>${t("taught_false", { n: taught.false, all: number(others) })}</li>
      ${too_few ? html`<li>${t("taught_too_few", { n: clips, good })}</li>` : nothing}${too_different ? html`<li>${t("taught_different")}</li>` : nothing}
      ${alike.map((other) => html`<li class="alert">${t("taught_alike", { name: other.name, n: other.n, all: other.clips })}</li>`)}</ul>
      <p class="small ${state === "in use" ? "dim" : ""}">${state === "in use" ? t("taught_in_use") : state === "restart" ? t("taught_restart") : t("taught_unused")}</p>
      ${state === "unused" ? yaml(`sounds:\n  ${name}:\n    taught: ${name}`) : nothing}`;
  }

  card(sound) {
    const { name, examples, state, taught, problem } = sound, { needed } = this.found, writes = can("write"), n = examples.filter(({ is_not }) => !is_not).length;
    return html`<article class="panel stack" aria-label=${name}>
      <div class="row spread"><h2>${name}</h2>${writes && (state === "untaught" || state === "unused") ? html`<button class="button quiet small" @click=${() => this.drop(name, t("forget_sure", { name }))}>${t("forget")}</button>` : nothing}</div>
      ${problem ? html`<p class="alert small">${problem}</p>` : nothing}
      ${taught ? this.outcome(sound) : nothing}
      ${taught && !examples.length ? nothing : html`<p class="small dim">${n < needed ? t("examples_needed", { n, needed }) : t("examples", { n })}</p>`}
      <ul class="examples">${examples.map(({ id, kept_at, is_not }) => html`<li><span class="small dim">${moment(kept_at)}${is_not ? ` · ${t("counter_example")}` : nothing}</span>
        ${can("hear") ? html`<audio controls preload="none" src=${url(`teaching/${name}/examples/${id}.flac`)}></audio>` : nothing}
        ${writes ? html`<button class="button quiet small" @click=${() => this.drop(`${name}/examples/${id}`, t("example_remove_sure"))}>${t("remove")}</button>` : nothing}</li>`)}</ul>
      ${writes && examples.length ? html`<div class="row"><button class="button ${taught ? "" : "primary"}" ?disabled=${this.busy || n < needed} @click=${() => this.teach(name)}>${taught ? t("teach_again") : t("teach")}</button>
        ${this.busy === name ? html`<span class="small dim" role="status" aria-busy="true">${t("teaching")}</span>` : nothing}</div>` : nothing}
      <p class="alert small" role="alert" lang="en">${this.fault[name]}</p>
    </article>`;
  }

  render() {
    if (!this.found) return nothing;
    return html`<section class="part"><h2 class="title">${t("own_sounds")}</h2><p class="small dim">${t("own_sounds_how", { needed: this.found.needed, good: this.found.good })}</p>
      <div class="sounds">${this.found.sounds.map((sound) => this.card(sound))}</div></section>`;
  }
}
customElements.define("st-taught", Taught);

// What holds a sound back where it is like events that were marked wrong: shown first, then put in force.
class Veto extends LitElement {
  static properties = { sound: {}, source: {}, offer: { type: Boolean }, found: { state: true }, fault: { state: true } };
  createRenderRoot() { return this; }
  connectedCallback() { super.connectedCallback(); this.leave = subscribe((kind) => { if (kind === "control") this.requestUpdate(); }); }
  disconnectedCallback() { super.disconnectedCallback(); this.leave(); }

  async propose() {
    this.found = "asked";
    this.fault = "";
    try { this.found = await post(`sounds/${this.sound}/veto`, {}); }
    catch (error) { this.found = null; this.fault = error.message; }
  }

  async set(change) {
    try { await change(`sounds/${this.sound}/veto`, { proposal: this.found?.proposal }); this.found = null; model.control = await get("control"); this.requestUpdate(); }
    catch (error) { tell(error.message); }
  }

  effect() {
    const { n_wrong, n_right, n_unreviewed, held_back_by, gone, gone_events, same, new: added } = this.found, n = (verdict) => gone_events.filter((event) => event.verdict === verdict).length;
    const judged = [n("wrong") && t("judged_wrong", { n: n("wrong") }), n("right") && t("judged_right", { n: n("right") })].filter(Boolean).join(", ");
    return html`<section class="stack" aria-label=${t("veto_effect")}>
      <p class="small">${rich("veto_found", { days: DAYS, gone: html`<b>${number(gone)}</b>`, same: number(same), added: html`<b>${number(added)}</b>` })}${judged ? html` <span class="dim">(${judged})</span>` : nothing}</p>
      <p class="small dim">${t("veto_learned", { wrong: n_wrong, others: n_right + n_unreviewed })} ${held_back_by.length ? t("veto_by", { labels: held_back_by.join(", ") }) : nothing}</p>
      ${gone ? html`<ul class="tried">${gone_events.map((event) => html`<li><span>${moment(event.onset)}<br><span class="dim">${nameOf("sources", event.source)} · ${duration(event.duration_s)}</span></span>
        <a class="verdict ${event.verdict ?? ""}" href="#/events/${event.id}">${t(event.verdict ?? "look")}</a></li>`)}</ul>` : nothing}
      <div class="row"><button class="button primary" @click=${() => this.set(put)}>${t("veto_apply")}</button><button class="button quiet" @click=${() => { this.found = null; }}>${t("cancel")}</button></div></section>`;
  }

  render() {
    const own = model.control[this.source], in_force = own?.vetoes?.includes(this.sound);
    if (!can("write") || !own?.thresholds[this.sound] || model.info.sounds.find(({ id }) => id === this.sound)?.priority === "critical") return nothing;
    if (!in_force && !this.offer) return nothing;
    return html`<div class="stack veto">
      ${in_force ? html`<div class="row spread small"><span>${t("veto_in_force")}</span><button class="button quiet small" @click=${() => this.set(remove)}>${t("veto_remove")}</button></div>` : nothing}
      ${!this.offer ? nothing : this.found === "asked" ? html`<p class="small dim" role="status" aria-busy="true">${t("deciding")}</p>` : this.found ? this.effect()
        : html`<button class="ask small" @click=${() => this.propose()}>${t("veto_ask")}</button>`}
      <p class="alert small" role="alert" lang="en">${this.fault}</p></div>`;
  }
}
customElements.define("st-veto", Veto);

// What is loud again and again and no sound explains: to be named, or left out.
class Recurring extends LitElement {
  static properties = { found: { state: true }, named: { state: true }, fault: { state: true } };
  constructor() { super(); this.named = {}; }
  createRenderRoot() { return this; }

  async ask(question) {
    const before = this.found;
    this.found = "asked";
    this.fault = "";
    try { this.found = await question(); } catch (error) { this.found = before; this.fault = error.message; }
  }

  // The hours may lie across midnight.
  when(hours) {
    const at = (hour) => { const minutes = Math.round(60 * hour) % 1440; return `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`; };
    return hours ? t("recurs_mostly", { from: at(hours[0]), to: at(hours[1]) }) : t("recurs_any_time");
  }

  item({ id, source, seconds: length, n, hours, most_like, latest }) {
    const name = this.named[id];
    return html`<li class="stack"><div class="row spread"><div><b>${most_like.length ? t("recurs_like", { labels: most_like.join(", ") }) : t("recurs_unknown")}</b>
        <p class="small dim">${nameOf("sources", source)} · ${t("recurs_times", { n, s: seconds(length) })} · ${this.when(hours)}</p>
        <p class="small dim">${t("recurs_last", { times: latest.map(moment).join(" · ") })}</p></div>
        ${can("write") ? html`<button class="button" @click=${() => this.ask(() => post("recurring/ignored", { id, days: DAYS }))}>${t("ignore")}</button>` : nothing}</div>
      <label class="row small"><span class="dim">${t("recurs_name")}</span><input class="field" maxlength="64" autocomplete="off" @input=${({ target }) => { this.named = { ...this.named, [id]: plain(target.value) }; }}></label>
      ${!name ? nothing : most_like.length ? html`<p class="small">${t("recurs_configure")}</p>${yaml(`sounds:\n  ${name}:\n    labels: [${most_like.map((label) => JSON.stringify(label)).join(", ")}]`)}` : html`<p class="small">${t("recurs_teach", { name })}</p>`}</li>`;
  }

  render() {
    const { found } = this;
    return html`<section class="part"><h2 class="title">${t("recurring")}</h2><p class="small dim">${t("recurring_how")}</p>
      ${found === "asked" ? html`<p class="small dim" role="status" aria-busy="true">${t("recurs_looking")}</p>` : html`<button class="button" @click=${() => this.ask(() => get("recurring", { days: DAYS }))}>${t("recurs_look", { days: DAYS })}</button>`}
      ${found && found !== "asked" ? found.sounds.length ? html`<ul class="panel recurring">${found.sounds.map((one) => this.item(one))}</ul>`
        : html`<p class="small" role="status">${t("recurs_none", { n: number(found.stretches), time: amount(found.listened_s / 3600, "hour", 1) })}</p>` : nothing}
      <p class="alert small" role="alert" lang="en">${this.fault}</p></section>`;
  }
}
customElements.define("st-recurring", Recurring);
