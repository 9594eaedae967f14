// How the daemon is: sources, model, delivery, room on disk, what was dropped, who is signed in.
import { LitElement, html, nothing } from "./vendor/lit.js";
import { get, post, remove } from "./api.js";
import { can, model, nameOf } from "./model.js";
import { phases } from "./words.js";

const amount = (value) => (typeof value === "number" ? value.toLocaleString("en") : value ?? "–");
const bytes = (n) => (n > 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n > 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.round(n / 1e3)} kB`);
const uptime = (s) => (s < 3600 ? `${Math.round(s / 60)} minutes` : s < 172800 ? `${(s / 3600).toFixed(1)} hours` : `${Math.round(s / 86400)} days`);

class Health extends LitElement {
  static properties = { report: { state: true }, sessions: { state: true }, token: { state: true } };
  createRenderRoot() { return this; }
  connectedCallback() { super.connectedCallback(); this.load(); this.timer = setInterval(() => this.load(), 5000); }
  disconnectedCallback() { super.disconnectedCallback(); clearInterval(this.timer); }

  async load() {
    try {
      this.report = await get("health");
      if (can("owner") && model.info.signed_in) this.sessions = (await get("tokens")).sessions;
    } catch (error) { if (!this.report) dispatchEvent(new CustomEvent("toast", { detail: error.message })); }
  }
  async addToken(event) {
    event.preventDefault();
    const fields = new FormData(event.target);
    this.token = (await post("tokens", { name: fields.get("name"), scopes: [fields.get("scope")] })).token;
    this.load();
  }

  facts(rows) { return html`<dl class="facts">${rows.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`; }

  render() {
    const report = this.report;
    if (!report) return html`<header><h1>Health</h1></header><p class="empty">Loading…</p>`;
    const outbox = report.outbox ?? {}, latency = report.latency_ms ?? {};
    return html`<header><h1>Health</h1><span class="dim">${report.healthy ? "All parts are alive" : ""} · up for ${uptime(report.uptime_s)}</span></header>
      ${report.problems?.map((problem) => html`<p class="banner" role="alert">${problem}</p>`)}
      <div class="health">
        <section class="panel wide"><h2>Sources</h2><div class="scroll" tabindex="0" role="region" aria-label="Sources"><table>
          <thead><tr><th>Source</th><th>State</th><th class="number">Windows</th><th class="number">Skipped</th><th class="number">Gaps</th><th class="number">Re-opened</th><th class="number">Events</th></tr></thead>
          <tbody>${Object.entries(report.sources ?? {}).map(([id, own]) => html`<tr><td><b>${nameOf("sources", id)}</b></td><td>${phases[own.phase] ?? own.phase}${model.states[id]?.reason && own.phase !== "listening" ? html`<br><span class="small dim">${model.states[id].reason}</span>` : nothing}</td>
            <td class="number">${amount(own.windows)}</td><td class="number">${amount(own.windows_skipped)}</td><td class="number">${(own.gap_s ?? 0).toFixed(1)} s</td><td class="number">${amount(own.reopens)}</td><td class="number">${amount(own.events)}</td></tr>`)}</tbody></table></div></section>
        <section class="panel stack"><h2>Model</h2><p>${report.model}</p>${this.facts([["Latency", latency.p50 === null || latency.p50 === undefined ? null : `${Math.round(latency.p50)} ms typical, ${Math.round(latency.p95 ?? latency.p99)} ms at worst`], ["Restarts", amount(report.worker_restarts)], ["Event loop", report.loop_lag_s === undefined ? null : `${Math.round(1000 * report.loop_lag_s)} ms late`]])}</section>
        <section class="panel stack"><h2>Delivery</h2>${this.facts([["MQTT", report.mqtt ?? null], ["Waiting", `${amount(outbox.depth ?? 0)} messages`], ["Refused", outbox.refused ? amount(outbox.refused) : null], ["Lost", outbox.dropped ? amount(outbox.dropped) : null]])}</section>
        ${report.store ? html`<section class="panel stack"><h2>History</h2>${this.facts([["Events", amount(report.store.events)], ["On disk", bytes(report.store.bytes)], ["Free room", bytes(report.store.free_bytes)], ["Kept", `${report.store.days} days`]])}</section>` : nothing}
        ${this.sessions ? html`<section class="panel stack"><h2>Sessions and tokens</h2>
          <table><tbody>${this.sessions.map((one) => html`<tr><td><b>${one.name}</b><br><span class="small dim">${one.kind} · ${one.scopes.join(", ")}</span></td><td class="number"><button class="button quiet" @click=${async () => { await remove(`tokens/${one.id}`); this.load(); }}>End</button></td></tr>`)}</tbody></table>
          <form class="row" @submit=${this.addToken}><input class="field" name="name" required maxlength="60" placeholder="Name of a script" aria-label="Name of a script"><select class="field" name="scope" aria-label="Scope"><option>look</option><option>write</option></select><button class="button">New token</button></form>
          ${this.token ? html`<p class="small">Shown once: <code class="mono">${this.token}</code></p>` : nothing}</section>` : nothing}
      </div>`;
  }
}
customElements.define("st-health", Health);
