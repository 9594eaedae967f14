// The frame of the page: navigation by the address after #, sign-in, messages.
import { LitElement, html, nothing, svg } from "./vendor/lit.js";
import { load, model, post, Refused, remove, subscribe, watch } from "./model.js";
import { t } from "./words.js";
import "./events.js";
import "./health.js";
import "./now.js";
import "./sounds.js";
import "./teach.js";

const icons = {
  now: svg`<path d="M3 10v4M7.500 7v10M12 4v16M16.500 8v8M21 10.500v3"/>`,
  events: svg`<path d="M4 6h16M4 12h16M4 18h10"/>`,
  sounds: svg`<path d="M4 20V11M10 20V5M16 20v-7M22 20V9"/>`,
  health: svg`<path d="M2 12h5l2.500-7 5 14 2.500-7h5"/>`,
};
const views = {
  now: { title: t("now"), draw: () => html`<st-now></st-now>` },
  events: { title: t("events"), draw: (rest) => html`<st-events .place=${rest}></st-events>` },
  sounds: { title: t("sounds"), draw: () => html`<st-sounds></st-sounds>` },
  health: { title: t("health"), draw: () => html`<st-health></st-health>` },
};
const icon = (name) => html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${icons[name]}</svg>`;

class App extends LitElement {
  static properties = { view: { state: true }, rest: { state: true }, stage: { state: true }, fault: { state: true }, toast: { state: true } };
  constructor() { super(); this.stage = "loading"; this.fault = ""; this.toast = ""; this.follow(); }
  createRenderRoot() { return this; }

  connectedCallback() {
    super.connectedCallback();
    addEventListener("hashchange", () => this.follow());
    addEventListener("toast", (event) => this.say(event.detail));
    subscribe((kind) => { if (kind === "online" || kind === "control") this.requestUpdate(); });
    this.begin();
  }

  async begin() {
    try {
      await load();
      this.stage = "in";
      watch(null);
    } catch (error) {
      if (error instanceof Refused && error.status === 401) this.stage = "sign-in";
      else { this.fault = error.message; setTimeout(() => this.begin(), 3000); }
    }
  }

  follow() {
    const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
    const before = this.view;
    this.view = view in views ? view : "now";
    if (before && before !== this.view) scrollTo(0, 0);
    this.rest = rest.map(decodeURIComponent);
    document.title = `${views[this.view].title} · streamer`;
  }

  say(text) {
    this.toast = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.toast = ""; }, 5000);
  }

  async signIn(event) {
    event.preventDefault();
    const password = new FormData(event.target).get("password");
    try {
      await post("session", { password });
      this.fault = "";
      this.begin();
    } catch (error) { this.fault = error.message; }
  }

  async signOut() { await remove("session").catch(() => {}); location.reload(); }

  render() {
    if (this.stage === "sign-in") return html`
      <main class="sign-in"><form class="panel" @submit=${this.signIn}>
        <div class="brand"><img src="static/icon.svg" alt="">streamer</div>
        <label>${t("password")} <input class="field" name="password" type="password" autocomplete="current-password" required autofocus></label>
        <p role="alert" class="small">${this.fault}</p>
        <button class="button primary">${t("sign_in")}</button>
      </form></main>`;
    if (this.stage === "loading") return html`<main class="empty" aria-busy="true">${this.fault || t("loading")}</main>`;
    return html`
      <div class="frame">
        <nav class="side" aria-label=${t("views")}>
          <div class="brand"><img src="static/icon.svg" alt="">streamer</div>
          ${Object.entries(views).map(([name, view]) => html`
            <a href="#/${name}" aria-current=${this.view === name ? "page" : nothing}>${icon(name)}<span>${view.title}</span></a>`)}
          <div class="foot">${model.info.node} · ${model.info.zone}<br>${t("version", { version: model.info.version })}
            ${model.info.signed_in ? html`<br><button class="button quiet small" @click=${this.signOut}>${t("sign_out")}</button>` : nothing}</div>
        </nav>
        <main tabindex="-1">
          ${model.online ? nothing : html`<p class="banner" role="status">${t("no_connection")}</p>`}
          ${views[this.view].draw(this.rest)}
        </main>
      </div>
      ${this.toast ? html`<div class="toast" role="status">${this.toast}</div>` : nothing}`;
  }
}
customElements.define("st-app", App);
