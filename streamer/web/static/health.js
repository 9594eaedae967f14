// How the daemon is: sources, model, delivery, room on disk, what was dropped, who is signed in.
import { LitElement, html, nothing } from "./vendor/lit.js";
import { get, post, remove } from "./api.js";
import { can, model, nameOf } from "./model.js";
import { dayName, dayOf, phases } from "./words.js";

const amount = (value) => (typeof value === "number" ? value.toLocaleString("en") : value ?? "–");
const bytes = (n) => (n > 1e9 ? `${(n / 1e9).toFixed(1)} GB` : n > 1e6 ? `${(n / 1e6).toFixed(1)} MB` : `${Math.round(n / 1e3)} kB`);
const uptime = (s) => (s < 90 ? `${s} seconds` : s < 5400 ? `${Math.round(s / 60)} minutes` : s < 172800 ? `${(s / 3600).toFixed(1)} hours` : `${Math.round(s / 86400)} days`);

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
    try { this.token = (await post("tokens", { name: fields.get("name"), scopes: [fields.get("scope")] })).token; }
    catch (error) { dispatchEvent(new CustomEvent("toast", { detail: error.message })); }
    this.load();
  }

  facts(rows) { return html`<dl class="facts">${rows.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`; }

  render() {
    const report = this.report;
    if (!report) return html`<header><h1>Health</h1></header><p class="empty">Loading…</p>`;
    const outbox = report.outbox ?? {}, latency = report.latency_ms ?? {}, inference = report.inference ?? {}, dropped = Object.entries(report.dropped ?? {});
    return html`<header><h1>Health</h1><span class="dim">${report.healthy ? "All parts are alive · up for" : "Up for"} ${uptime(report.uptime_s)}</span></header>
      ${report.problems?.map((problem) => html`<p class="banner" role="alert">${problem}</p>`)}
      ${report.overdue?.map((clause) => html`<p class="banner" role="status">${clause}</p>`)}
      <div class="health">
        <section class="panel wide"><h2>Sources</h2><div class="scroll" tabindex="0" role="region" aria-label="Sources"><table>
          <thead><tr><th>Source</th><th>State</th><th class="number">Windows</th><th class="number">Skipped</th><th class="number">Gaps</th><th class="number">Re-opened</th><th class="number">Events</th></tr></thead>
          <tbody>${Object.entries(report.sources ?? {}).map(([id, own]) => html`<tr><td><b>${nameOf("sources", id)}</b></td><td>${phases[own.phase] ?? own.phase}${model.states[id]?.reason && own.phase !== "listening" ? html`<br><span class="small dim">${model.states[id].reason}</span>` : nothing}</td>
            <td class="number">${amount(own.windows)}</td><td class="number">${amount(own.windows_skipped)}</td><td class="number">${(own.gap_s ?? 0).toFixed(1)} s</td><td class="number">${amount(own.reopens)}</td><td class="number">${amount(own.events)}</td></tr>`)}</tbody></table></div></section>
        <section class="panel stack"><h2>Model</h2><p>${report.model}</p>${this.facts([["Latency", latency.p50 === null || latency.p50 === undefined ? null : `${Math.round(latency.p50)} ms typical, ${Math.round(latency.p99)} ms for one in a hundred`], ["Device", inference.device], ["One window", inference.ms_a_window ? `${inference.ms_a_window} ms` : null], ["Windows scored", amount(inference.windows)], ["Restarts", amount(inference.restarts)]])}</section>
        <section class="panel stack"><h2>Delivery</h2>${this.facts([["Waiting", `${amount(outbox.depth ?? 0)} events`], ["The oldest", outbox.oldest_s ? `${Math.round(outbox.oldest_s)} s` : null], ["Only in memory", outbox.in_memory ? `${amount(outbox.in_memory)} events: the disk does not take them` : null], ["Refused", outbox.refused ? amount(outbox.refused) : null], ["Reconnections", amount(report.reconnects)], ...Object.entries(report.alerts ?? {}).map(([name, own]) => [`Alerts to ${name}`, `${amount(own.sent)} sent${own.expired ? `, ${amount(own.expired)} too old` : ""}${own.problem ? `; ${own.problem}` : ""}`]), ...dropped.map(([sink, n]) => [`Dropped by ${sink}`, amount(n)]), ["Open pages", amount(report.streams)]])}</section>
        ${report.store ? html`<section class="panel stack"><h2>History</h2>${this.facts([["Problem", report.store.problem], ["Events", amount(report.store.events)], ["Since", report.store.since ? dayName(dayOf(report.store.since)) : null], ["On disk", report.store.bytes ? bytes(report.store.bytes) : null], ["Free room", report.store.free_bytes ? bytes(report.store.free_bytes) : null], ["Kept for", report.store.days ? `${report.store.days} days` : null], ["Set aside", report.store.set_aside?.join(", ")]])}</section>` : nothing}
        ${this.sessions ? html`<section class="panel stack"><h2>Sessions and tokens</h2>
          <table><tbody>${this.sessions.map((one) => html`<tr><td><b>${one.name}</b><br><span class="small dim">${one.kind} · ${one.scopes.join(", ")}</span></td><td class="number"><button class="button quiet" @click=${() => remove(`tokens/${one.id}`).catch(() => {}).then(() => this.load())}>End</button></td></tr>`)}</tbody></table>
          <form class="row" @submit=${this.addToken}><input class="field" name="name" required maxlength="60" placeholder="Name of a script" aria-label="Name of a script"><select class="field" name="scope" aria-label="Scope"><option>look</option><option>write</option></select><button class="button">New token</button></form>
          ${this.token ? html`<p class="small">Shown once: <code class="mono">${this.token}</code></p>` : nothing}</section>` : nothing}
      </div>`;
  }
}
customElements.define("st-health", Health);
