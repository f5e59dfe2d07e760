// What is looked at. Every view is its URL: this module alone reads and writes it.

/**
 * @typedef {Object} State
 * @property {string} id of the crystal, '' for none
 * @property {number | null} site of the atom, from 0
 * @property {'structure' | 'atom'} level
 * @property {string} a model and layer on the left
 * @property {string} b and on the right
 * @property {string} color
 * @property {string[]} filters chips
 * @property {string[]} hide categories that the legend hides
 * @property {number[] | null} range of the colour that the legend keeps
 * @property {string} lasso a polygon on one of the maps, `a:x,y;x,y…`
 * @property {boolean} across
 * @property {string} tab
 * @property {string} analogy
 * @property {string} query of the cookbook, `name` or `name?variable=value`
 * @property {string} view of the crystal: cell or environment
 * @property {string} atoms what the crystal's atoms are coloured by
 */

/** @type {State} */
const DEFAULTS = {
  id: '', site: null, level: 'structure', a: '', b: '', color: 'group', filters: [], hide: [],
  range: null, lasso: '', across: false, tab: 'nearest', analogy: '', query: '', view: 'cell',
  atoms: 'element',
};
/** A page that was opened from a file keeps its state after the `#`. */
const IN_HASH = location.protocol === 'file:';
/** @type {((state: State, before: State) => void)[]} */
const listeners = [];

/** @type {State} */
export let state = read();

/** @param {Partial<State>} defaults of this store */
export function begin(defaults) {
  Object.assign(DEFAULTS, defaults);
  state = read();
}

/** @param {(state: State, before: State) => void} listener */
export function onChange(listener) {
  listeners.push(listener);
}

/**
 * Change what is looked at.
 * @param {Partial<State>} changes
 * @param {{quiet?: boolean}} [how] quiet: not a step that "back" undoes
 */
export function go(changes, how = {}) {
  const before = state;
  state = { ...state, ...changes };
  const target = url(state);
  if (target === url(before)) return;
  if (how.quiet) history.replaceState(null, '', target);
  else history.pushState(null, '', target);
  for (const listener of listeners) listener(state, before);
}

addEventListener('popstate', () => {
  const before = state;
  state = read();
  for (const listener of listeners) listener(state, before);
});

/** The address of a view. @param {Partial<State>} [changes] */
export function address(changes = {}) {
  return url({ ...state, ...changes });
}

/** Where the page begins. */
export const home = () => (IN_HASH ? '#/' : '/');

/** The address of this view's data. @param {string} kind json or csv @param {string} [id] of the crystal; '' for what the filters find */
export function twin(kind, id = state.id) {
  const path = id ? `/s/${readable(encodeURIComponent(id))}.${kind}` : `/index.${kind}`;
  return path + parameters(state);
}

/** @param {State} view */
function url(view) {
  const path = view.id ? `/s/${readable(encodeURIComponent(view.id))}` : '/';
  const whole = path + parameters(view);
  return IN_HASH ? `#${whole}` : whole;
}

/** @param {State} view */
function parameters(view) {
  const search = new URLSearchParams();
  if (view.site !== null && view.id) search.set('site', String(view.site));
  for (const name of /** @type {const} */ (['level', 'a', 'b', 'color', 'lasso', 'tab', 'analogy', 'query', 'view', 'atoms'])) {
    if (view[name] && view[name] !== DEFAULTS[name]) search.set(name, view[name]);
  }
  for (const one of view.filters) search.append('filter', one);
  for (const one of view.hide) search.append('hide', one);
  if (view.range) search.set('range', view.range.join(','));
  if (view.across) search.set('across', '1');
  const text = readable(search.toString());
  return text && `?${text}`;
}

/** An address without escapes that it can do without. @param {string} text */
const readable = (text) => text.replaceAll('%40', '@').replaceAll('%3A', ':').replaceAll('%2C', ',').replaceAll('%3B', ';');

/** @returns {State} */
function read() {
  const whole = IN_HASH ? location.hash.slice(1) || '/' : location.pathname + location.search;
  const [path, query = ''] = splitOnce(whole, '?');
  const search = new URLSearchParams(query);
  const site = search.get('site');
  const range = search.get('range')?.split(',').map(Number);
  const level = search.get('level') === 'atom' ? 'atom' : 'structure';
  /** @param {keyof State} name */
  const text = (name) => search.get(name) ?? /** @type {string} */ (DEFAULTS[name]);
  // A plus sign that nobody has escaped, as in `a=sevennet-0@0+1`, is a space there.
  const side = (/** @type {'a' | 'b'} */ name) => text(name).replaceAll(' ', '+');
  return {
    id: path.startsWith('/s/') ? decodeURIComponent(path.slice(3)) : '',
    site: site !== null && /^\d+$/.test(site) ? Number(site) : null,
    level: search.has('level') || site === null ? level : 'atom',
    a: side('a'), b: side('b'), color: text('color'), lasso: text('lasso'), tab: text('tab'),
    analogy: text('analogy'), query: text('query'), view: text('view'), atoms: text('atoms'),
    filters: search.getAll('filter'), hide: search.getAll('hide'),
    range: range && range.length === 2 && range.every(Number.isFinite) ? range : null,
    across: search.has('across'),
  };
}

/** @param {string} text @param {string} mark */
function splitOnce(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
