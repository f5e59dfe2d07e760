// Where the page's data comes from: the service, or the page itself where it was exported.

/** An answer that says no. */
export class Refusal extends Error {
  /** @param {string} message @param {string} [hint] */
  constructor(message, hint = '') {
    super(message);
    this.hint = hint;
  }
}

/**
 * @typedef {Object} Source
 * @property {(path: string, asked?: Object<string, any>) => Promise<any>} json
 * @property {(path: string, asked?: Object<string, any>) => Promise<ArrayBuffer>} bytes
 * @property {boolean} isLive whether there is a service that answers what is not in the page
 */

/** @type {Source} */
const served = {
  isLive: true,
  json: async (path, asked) => (await fetched(path, asked)).json(),
  bytes: async (path, asked) => (await fetched(path, asked)).arrayBuffer(),
};

/** @param {string} path @param {Object<string, any>} [asked] */
async function fetched(path, asked = {}) {
  let response;
  try {
    response = await fetch(address(path, asked), { headers: { Accept: 'application/json' } });
  } catch {
    throw new Refusal('the service does not answer', 'is it still running?');
  }
  notice(response.headers.get('ETag'));
  if (response.ok) return response;
  throw await refusal(response);
}

/** The snapshot that the page shows, and the newest that an answer came from. */
export const snapshots = { page: 0, newest: 0 };

/** Notice from which snapshot an answer came: `W/"42-…"`. @param {string | null} tag */
function notice(tag) {
  const id = Number(/^W\/"(\d+)-/.exec(tag ?? '')?.[1] ?? 0);
  snapshots.page ||= id;
  if (id <= Math.max(snapshots.page, snapshots.newest)) return;
  snapshots.newest = id;
  dispatchEvent(new CustomEvent('newer'));
}

/** Whether rows of answers may be other rows than the page's. */
export const isStale = () => snapshots.newest > snapshots.page;

/** What a response that is an error says. @param {Response} response */
export async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const detail = typeof problem.detail === 'string' ? problem.detail : problem.title;
  return new Refusal(detail || `${response.status} ${response.statusText}`, problem.hint);
}

/** The path with its query. @param {string} path @param {Object<string, any>} asked */
export function address(path, asked = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== '' && one !== false) search.append(name, String(one));
    }
  }
  const query = search.toString();
  return `/explore/${path}${query && `?${query}`}`;
}

/** @type {Promise<Source>} */
export const source = 'platonicData' in globalThis
  ? import('./embedded.js').then((module) => module.open())
  : Promise.resolve(served);

/** @param {string} path @param {Object<string, any>} [asked] */
export async function json(path, asked) {
  return (await source).json(path, asked);
}

/** @param {string} path @param {Object<string, any>} [asked] */
export async function bytes(path, asked) {
  return (await source).bytes(path, asked);
}
