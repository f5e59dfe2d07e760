// Nodes and numbers as the page writes them.

/**
 * @typedef {Node | string | null | undefined | false} Child
 * @typedef {Object<string, any>} Attributes
 */

/**
 * An element; `on…` attributes are listeners, `style` an object of CSS properties.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[] | Child[][])} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * The same in SVG.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  return /** @type {SVGElement} */ (filled(node, attributes, children));
}

/** @param {any} node @param {Attributes} attributes @param {any[]} children */
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'style') {
      for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    } else node.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of /** @type {Child[]} */ (children.flat(2))) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

/** A formula with its numbers below the line. @param {string} text */
export function formula(text) {
  const parts = text.split(/(?<=[A-Za-z)])(\d+\.?\d*)/);
  return h('span', { class: 'formula' }, parts.map((part, i) => (i % 2 ? h('sub', {}, part) : part)));
}

/** A space group's symbol: screw axes below the line, inversions under a bar. @param {string | undefined} text */
export function spaceGroup(text) {
  const parts = (text ?? '').split(/(_\d|-\d)/);
  return h('span', { class: 'group-symbol' }, parts.map((part) => (part.startsWith('_') ? h('sub', {}, part.slice(1))
    : part.startsWith('-') ? h('span', { class: 'bar' }, part.slice(1)) : part)));
}

/** A number as a reader compares it. @param {any} value @returns {string} */
export function number(value) {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value !== 'number') return Array.isArray(value) ? value.map(number).join(', ') : String(value);
  if (Number.isInteger(value)) return value.toLocaleString('en').replace('-', '−');
  const size = Math.abs(value);
  const text = size >= 1000 ? Math.round(value).toLocaleString('en')
    : size < 0.0005 ? value.toExponential(1).replace('e-', 'e−') : value.toFixed(3);
  return text.replace(/^-/, '−');
}

/** @param {number} count @param {string} noun */
export function counted(count, noun) {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

/** The text of an error with what mends it. @param {any} error */
export function complaint(error) {
  return h('p', { class: 'complaint' }, error.message || String(error),
    error.hint && h('span', { class: 'hint' }, ` ${error.hint}`));
}

/** A word that says what a number is not, after it. @param {string} text */
export function caveat(text) {
  return h('span', { class: 'caveat' }, text);
}

/** Say something to who cannot see the page change. @param {string} text */
export function announce(text) {
  const status = document.getElementById('status');
  if (status) status.textContent = text;
}
