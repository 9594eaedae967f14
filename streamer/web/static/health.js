// How the daemon is: sources, model, delivery, room on disk, what was dropped, who is signed in.
import { LitElement, html, nothing } from "./vendor/lit.js";
import { can, get, model, nameOf, post, remove } from "./model.js";
import { amount, dayName, dayOf, number, phaseName, roomName, t } from "./words.js";

const count = (value) => (typeof value === "number" ? number(value) : value ?? "–");
const bytes = (n) => (n > 1e9 ? amount(n / 1e9, "gigabyte", 1, "short") : n > 1e6 ? amount(n / 1e6, "megabyte", 1, "short") : amount(n / 1e3, "kilobyte", 0, "short"));
const uptime = (s) => (s < 90 ? amount(s, "second") : s < 5400 ? amount(s / 60, "minute") : s < 172800 ? amount(s / 3600, "hour", 1) : amount(s / 86400, "day"));

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
    if (!report) return html`<header><h1>${t("health")}</h1></header><p class="empty">${t("loading")}</p>`;
    const outbox = report.outbox ?? {}, latency = report.latency_ms ?? {}, inference = report.inference ?? {}, dropped = Object.entries(report.dropped ?? {});
    return html`<header><h1>${t("health")}</h1><span class="dim">${t(report.healthy ? "all_alive" : "up_for", { time: uptime(report.uptime_s) })}</span></header>
      ${report.problems?.map((problem) => html`<p class="banner" role="alert">${problem}</p>`)}
      ${report.overdue?.map((clause) => html`<p class="banner" role="status">${clause}</p>`)}
      <div class="health">
        <section class="panel wide"><h2>${t("sources")}</h2><div class="scroll" tabindex="0" role="region" aria-label=${t("sources")}><table>
          <thead><tr><th>${t("source")}</th><th>${t("state")}</th>${[t("windows"), t("skipped"), t("gaps"), t("reopened"), t("events")].map((name) => html`<th class="number">${name}</th>`)}</tr></thead>
          <tbody>${Object.entries(report.sources ?? {}).map(([id, own]) => html`<tr><td><b>${nameOf("sources", id)}</b></td><td>${phaseName(own.phase)}${model.states[id]?.reason && own.phase !== "listening" ? html`<br><span class="small dim">${model.states[id].reason}</span>` : nothing}</td>
            <td class="number">${count(own.windows)}</td><td class="number">${count(own.windows_skipped)}</td><td class="number">${t("seconds", { n: number(own.gap_s ?? 0, 1) })}</td><td class="number">${count(own.reopens)}</td><td class="number">${count(own.events)}</td></tr>`)}</tbody></table></div></section>
        <section class="panel stack"><h2>${t("model")}</h2><p class="small">${report.model}</p>${this.facts([[t("latency"), latency.p50 === null || latency.p50 === undefined ? null : t("latency_of", { typical: number(latency.p50), worst: number(latency.p99) })], [t("device"), inference.device], [t("one_window"), inference.ms_a_window ? `${number(inference.ms_a_window, inference.ms_a_window < 10 ? 1 : 0)} ms` : null], [t("windows_scored"), count(inference.windows)], [t("restarts"), count(inference.restarts)]])}</section>
        <section class="panel stack"><h2>${t("delivery")}</h2>${this.facts([[t("broker"), report.broker && (report.broker.problem || t("connected_to", { address: report.broker.address }))], [t("waiting"), count(outbox.depth ?? 0)], [t("oldest"), outbox.oldest_s ? t("seconds", { n: number(outbox.oldest_s) }) : null], [t("in_memory"), outbox.in_memory ? t("in_memory_of", { n: count(outbox.in_memory) }) : null], [t("refused"), outbox.refused ? count(outbox.refused) : null], [t("reconnections"), count(report.reconnects)], ...Object.entries(report.alerts ?? {}).map(([name, own]) => [t("alerts_to", { name }), `${t("alerts_sent", { n: count(own.sent) })}${own.expired ? `, ${t("alerts_expired", { n: count(own.expired) })}` : ""}${own.problem ? `; ${own.problem}` : ""}`]), ...dropped.map(([sink, n]) => [t("dropped_by", { name: sink }), count(n)]), [t("open_pages"), count(report.streams)]])}</section>
        ${report.store ? html`<section class="panel stack"><h2>${t("history")}</h2>${this.facts([[t("problem"), report.store.problem], [t("events"), count(report.store.events)], [t("since"), report.store.since ? dayName(dayOf(report.store.since)) : null], [t("on_disk"), report.store.bytes ? bytes(report.store.bytes) : null], [t("free_room"), report.store.free_bytes ? bytes(report.store.free_bytes) : null], [t("kept_for"), report.store.days ? amount(report.store.days, "day") : null], [t("set_aside"), report.store.set_aside?.join(", ")]])}
          ${Object.entries(report.store.rooms ?? {}).map(([name, { bytes: used, most }]) => html`<div class="room small"><span>${roomName(name)}</span><span class="bar" role="meter" aria-label=${roomName(name)} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round((100 * used) / most)}><i .style=${`width: ${Math.min(100, (100 * used) / most)}%`}></i></span><span class="dim">${t("of_bytes", { n: bytes(used), all: bytes(most) })}</span></div>`)}</section>` : nothing}
        ${this.sessions ? html`<section class="panel stack"><h2>${t("sessions")}</h2>
          <table><tbody>${this.sessions.map((one) => html`<tr><td><b>${one.name}</b><br><span class="small dim">${one.kind} · ${one.scopes.join(", ")}</span></td><td class="number"><button class="button quiet" @click=${() => remove(`tokens/${one.id}`).catch(() => {}).then(() => this.load())}>${t("end")}</button></td></tr>`)}</tbody></table>
          <form class="row" @submit=${this.addToken}><input class="field" name="name" required maxlength="60" placeholder=${t("script_name")} aria-label=${t("script_name")}><select class="field" name="scope" aria-label=${t("scope")}><option>look</option><option>write</option></select><button class="button">${t("new_token")}</button></form>
          ${this.token ? html`<p class="small">${t("shown_once")} <code class="mono">${this.token}</code></p>` : nothing}</section>` : nothing}
      </div>`;
  }
}
customElements.define("st-health", Health);
