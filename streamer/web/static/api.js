// Requests to the server, all relative, so that any path in front of the page works.
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
