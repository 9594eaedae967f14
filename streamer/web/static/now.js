// What is heard at this moment: a card for each source with its spectrogram, and what sounds.
import { LitElement, html, nothing, repeat } from "./vendor/lit.js";
import { can, colour, model, nameOf, put, subscribe, watch } from "./model.js";
import { clock, duration, number, phaseName, rich, t } from "./words.js";

const SPAN_S = 30;
const LANE_PX = 26;
const LANES_MAX = 6;
const FAINT = 0.08;

// From near black over the accent to pale yellow; by lightness alone it reads in grey, too.
const RAMP = Array.from({ length: 256 }, (_, i) => {
  const stops = [[10, 20, 19], [8, 62, 60], [20, 122, 108], [112, 178, 120], [232, 220, 140], [255, 250, 225]];
  const at = (i / 255) ** 1.15 * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(at)), part = at - low;
  return stops[low].map((value, c) => Math.round(value + part * (stops[low + 1][c] - value)));
});

export function drawSpectrum(canvas, pieces, end, span_s) {
  const first = pieces?.[0];
  if (!first) return;
  const rate = first.columns_s, width = Math.round(span_s * rate), bands = first.bytes.length / first.n;
  if (canvas.width !== width || canvas.height !== bands) Object.assign(canvas, { width, height: bands });
  const context = canvas.getContext("2d"), image = context.createImageData(width, bands);
  for (let i = 3; i < image.data.length; i += 4) image.data[i] = 255;
  for (const piece of pieces) {
    const column = Math.round((piece.start - (end - span_s)) * rate);
    for (let c = 0; c < piece.n; c++) {
      const x = column + c;
      if (x < 0 || x >= width) continue;
      for (let band = 0; band < bands; band++) {
        const [r, g, b] = RAMP[piece.bytes[c * bands + band]], at = 4 * ((bands - 1 - band) * width + x);
        image.data[at] = r; image.data[at + 1] = g; image.data[at + 2] = b;
      }
    }
  }
  context.putImageData(image, 0, 0);
}

class SourceCard extends LitElement {
  static properties = { source: {}, selected: { type: Boolean }, taught: { state: true } };
  createRenderRoot() { return this; }

  connectedCallback() {
    super.connectedCallback();
    this.leave = subscribe((kind) => {
      if (kind === "spectrum") { if (this.hasSpectrum) this.draw(); else this.requestUpdate(); }
      else if (["heard", "state", "control", "event", "events"].includes(kind)) this.requestUpdate();
    });
  }
  disconnectedCallback() { super.disconnectedCallback(); this.leave(); }
  updated() { this.hasSpectrum = Boolean(model.spectra[this.source.id]?.length); this.draw(); this.drawLanes(); }

  get end() {
    const pieces = model.spectra[this.source.id], last = pieces?.at(-1);
    return last ? last.start + last.n / last.columns_s : model.heard[this.source.id]?.at ?? Date.now() / 1000;
  }

  draw() {
    const canvas = this.querySelector("canvas.spectrum");
    if (canvas) drawSpectrum(canvas, model.spectra[this.source.id], this.end, SPAN_S);
  }

  lanes() {
    const highest = {};
    for (const { sounds } of model.history[this.source.id] ?? [])
      for (const [sound, score] of Object.entries(sounds)) highest[sound] = Math.max(highest[sound] ?? 0, score);
    for (const event of this.events()) highest[event.sound] = 2;
    return Object.entries(highest).filter(([, score]) => score >= FAINT).sort((a, b) => b[1] - a[1]).slice(0, LANES_MAX).map(([sound]) => sound).sort();
  }

  events() {
    const begin = this.end - SPAN_S;
    return [...Object.values(model.open), ...model.recent].filter((event, i, all) => event.source === this.source.id
      && all.findIndex((other) => other.id === event.id) === i
      && (event.offset === null || Date.parse(event.offset) / 1000 > begin));
  }

  drawLanes() {
    const canvas = this.querySelector("canvas.lanes");
    if (!canvas) return;
    const lanes = this.lanes(), width = canvas.clientWidth, ratio = devicePixelRatio, style = getComputedStyle(document.documentElement);
    const height = Math.max(lanes.length, 1) * LANE_PX + 6;
    canvas.style.height = `${height}px`;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    const context = canvas.getContext("2d"), end = this.end, x = (at) => ((at - (end - SPAN_S)) / SPAN_S) * width;
    context.scale(ratio, ratio);
    context.font = `12px ${style.fontFamily || "system-ui"}`;
    context.textBaseline = "middle";
    lanes.forEach((sound, i) => {
      const top = i * LANE_PX + 5, bottom = top + LANE_PX - 6, tint = colour(sound);
      for (const event of this.events().filter((one) => one.sound === sound)) {
        const from = x(Date.parse(event.onset) / 1000), to = event.offset === null ? width : x(Date.parse(event.offset) / 1000);
        context.globalAlpha = .28; context.fillStyle = tint;
        context.beginPath(); context.roundRect(from, top, Math.max(3, to - from), bottom - top, 4); context.fill();
      }
      context.globalAlpha = 1;
      const on = model.control[this.source.id]?.thresholds[sound]?.on;
      if (on) {
        context.strokeStyle = style.getPropertyValue("--strong-line"); context.setLineDash([3, 4]); context.lineWidth = 1;
        const y = bottom - on * (bottom - top);
        context.beginPath(); context.moveTo(0, y); context.lineTo(width, y); context.stroke(); context.setLineDash([]);
      }
      context.strokeStyle = tint; context.lineWidth = 2; context.lineJoin = "round"; context.beginPath();
      for (const { at, sounds } of model.history[this.source.id] ?? []) context.lineTo(x(at), bottom - (sounds[sound] ?? 0) * (bottom - top));
      context.stroke();
      const name = nameOf("sounds", sound);
      context.globalAlpha = .8; context.fillStyle = style.getPropertyValue("--panel");
      context.beginPath(); context.roundRect(12, top + 1, context.measureText(name).width + 12, bottom - top - 2, 4); context.fill();
      context.globalAlpha = 1; context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(name, 18, (top + bottom) / 2);
    });
    if (!lanes.length) {
      context.fillStyle = style.getPropertyValue("--dim");
      context.fillText(t("nothing_sounds"), 18, height / 2);
    }
  }

  async listen(event) {
    try { await put(`control/${this.source.id}/listen`, { value: event.target.checked }); }
    catch (error) { dispatchEvent(new CustomEvent("toast", { detail: error.message })); }
  }

  render() {
    const { id, name } = this.source, heard = model.heard[id], state = model.states[id];
    const phase = state?.phase ?? "waiting", calibrated = this.source.calibrated;
    const level = heard ? `${number(calibrated ? heard.level_dba : heard.level_dbfs)} ${calibrated ? "dB(A)" : "dBFS"}` : "";
    const top = Object.entries(heard?.top ?? {});
    return html`<article class="panel source" aria-label=${name}>
      <header><h2>${name}</h2><span class="state"><span class="dot ${phase}"></span>${phaseName(phase)}${this.source.demo ? ` · ${t("demo")}` : ""}</span>
        <span class="loud">${level}</span>
        ${can("write") ? html`<input class="switch" type="checkbox" role="switch" aria-label=${t("listen_to", { name })} .checked=${model.control[id]?.listen ?? true} @change=${this.listen}>` : nothing}
      </header>
      ${heard?.problem || (state?.reason && phase !== "listening") ? html`<p class="fault">${heard?.problem || state.reason}</p>` : nothing}
      <div class="scope">
        ${this.selected ? html`<canvas class="spectrum" width="480" height="64" role="img" aria-label=${t("spectrogram_30_s")}></canvas>` : nothing}
        <canvas class="lanes" role="img" aria-label=${t("scores_30_s")}></canvas>
      </div>
      ${this.selected && can("write") ? html`<div class="teach"><button class="ask small" ?disabled=${!model.spectra[id]?.length} @click=${() => { this.taught = [...(model.spectra[id] ?? [])]; }}>${t("this_is")}</button></div>` : nothing}
      ${this.taught?.length ? html`<st-example .source=${id} .pieces=${this.taught} @closed=${() => { this.taught = null; }}></st-example>` : nothing}
      <ul class="heard" aria-label=${t("heard_now")}>
        ${top.length ? top.map(([label, score]) => html`<li><span>${label}</span>
          <span class="bar"><i .style=${`width: ${Math.round(100 * score)}%`}></i></span><span class="value">${number(score, 2)}</span></li>`)
          : html`<li class="dim">${phase === "listening" ? t("quiet") : t("nothing_heard")}</li>`}
      </ul>
    </article>`;
  }
}
customElements.define("st-source", SourceCard);

class Now extends LitElement {
  static properties = { chosen: { state: true } };
  createRenderRoot() { return this; }
  connectedCallback() {
    super.connectedCallback();
    this.chosen ??= model.info.sources[0]?.id ?? null;
    watch(this.chosen);
    this.leave = subscribe((kind) => { if (["event", "events", "control"].includes(kind)) this.requestUpdate(); });
  }
  disconnectedCallback() { super.disconnectedCallback(); this.leave(); watch(null); }
  choose(id) { this.chosen = id; watch(id); }

  render() {
    const open = Object.values(model.open), done = model.recent.filter((event) => event.offset !== null).slice(0, 8);
    const first = model.info.sources[0], heard = model.heard[first?.id];
    return html`
      <header><h1>${t("now")}</h1>
        ${model.info.sources.length > 1 ? html`<div class="chips" role="group" aria-label=${t("spectrogram_of")}>
          ${model.info.sources.map(({ id, name }) => html`<button class="chip" aria-pressed=${this.chosen === id} @click=${() => this.choose(id)}>${name}</button>`)}</div>` : nothing}
      </header>
      ${model.recent.length ? nothing : html`<p class="banner calm" role="status">${first?.demo ? t("first_demo") : html`${rich(heard ? "first_heard" : "first_waiting", { source: html`<b>${first?.name}</b>`, level: heard && number(heard.level_dbfs) })}
        ${t("first_steps")}`}</p>`}
      <div class="now">
        <div class="cards">${repeat(model.info.sources, ({ id }) => id, (source) => html`<st-source .source=${source} ?selected=${this.chosen === source.id}></st-source>`)}</div>
        <div class="stack">
          <section class="panel"><h2>${t("sounding_now")}</h2>
            <ul class="sounding" aria-live="polite">${open.length ? open.map((event) => html`<li>
              <span class="pulse" .style=${`background: ${colour(event.sound)}`}></span><span class="name">${nameOf("sounds", event.sound)}</span>
              <span class="dim small">${nameOf("sources", event.source)} · ${t("since_time", { time: clock(event.onset) })}</span></li>`) : html`<li class="dim">${t("nothing")}</li>`}</ul></section>
          <section class="panel"><div class="row spread"><h2>${t("last_events")}</h2><a class="small" href="#/events">${t("all")}</a></div>
            <ul class="sounding">${done.length ? done.map((event) => html`<li>
              <span class="swatch" .style=${`background: ${colour(event.sound)}`}></span>
              <a class="name" href="#/events/${event.id}">${nameOf("sounds", event.sound)}</a>
              <span class="dim small">${clock(event.onset)} · ${duration(event.duration_s)}</span></li>`) : html`<li class="dim">${t("none_yet")}</li>`}</ul></section>
        </div>
      </div>`;
  }
}
customElements.define("st-now", Now);
