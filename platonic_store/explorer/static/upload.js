// Bring your own: a file that is dropped is embedded on the spot, and looked at like any other.

import { refusal } from './api.js';
import * as batch from './batch.js';
import { complaint, h } from './format.js';
import { overview } from './points.js';
import { go } from './state.js';

const EVERY = 500; // ms between looks at the progress
const place = h('section', { id: 'drop', 'aria-label': 'Bring your own crystal' });

/** @returns {HTMLElement} */
export function mount() {
  draw();
  for (const type of ['dragenter', 'dragover']) {
    addEventListener(type, (event) => { event.preventDefault(); document.body.classList.add('dropping'); });
  }
  for (const type of ['dragleave', 'drop']) {
    addEventListener(type, (event) => {
      event.preventDefault();
      if (type === 'drop' || !(/** @type {DragEvent} */ (event).relatedTarget)) document.body.classList.remove('dropping');
    });
  }
  addEventListener('drop', (event) => {
    const file = event.dataTransfer?.files[0];
    if (file) send(file);
  });
  return place;
}

/** @param {...(Node | string)} said */
async function draw(...said) {
  const { uploads } = await overview();
  const input = h('input', { type: 'file', id: 'file', class: 'hidden', onchange: () => input.files?.[0] && send(input.files[0]) });
  place.replaceChildren(h('h3', {}, 'Bring your own'),
    uploads ? h('p', { class: 'caveat' }, uploads)
      : h('label', { class: 'drop', for: 'file' }, input, 'Drop a CIF, POSCAR, extxyz or pymatgen JSON here, or choose one; several structures in one file are screened'),
    h('div', { role: 'status' }, ...said));
}

/** @param {File} file */
async function send(file) {
  const { uploads } = await overview();
  if (uploads) return draw();
  await draw(`reading ${file.name}…`);
  try {
    const response = await fetch(`/api/batches?name=${encodeURIComponent(file.name)}`, { method: 'POST', body: file });
    if (!response.ok) throw await refusal(response);
    const sent = await response.json();
    if (sent.structures.length > 1 || sent.rejected.length) await followBatch(sent, file.name);
    else await follow(await known(`uploads/${sent.structures[0].id}`), file.name);
  } catch (error) {
    await draw(complaint(error));
  }
}

/** @param {string} path of what was sent */
async function known(path) {
  const response = await fetch(`/api/${path.split('/').map(encodeURIComponent).join('/')}`);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** Look until every model has embedded all, then screen them. @param {any} sent @param {string} name */
async function followBatch(sent, name) {
  go({ tab: 'results' });
  let now = sent;
  for (;;) {
    await draw(...batch.progress(now, name));
    if (batch.isDone(now)) break;
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    now = await known(`batches/${sent.id}`);
  }
  await draw(...batch.progress(now, name), h('p', { class: 'quiet' }, 'screening…'));
  await batch.screen(now);
  await draw(...batch.progress(now, name));
}

/** Look until every model has embedded it, or says why not. @param {any} upload @param {string} name */
async function follow(upload, name) {
  go({ id: upload.id, site: null, level: 'structure', tab: 'nearest', analogy: '' });
  let now = upload;
  for (;;) {
    const states = Object.entries(now.embedded);
    await draw(h('p', {}, `${name}: ${now.formula}, ${now.nsites} atoms`),
      h('ul', { class: 'progress' }, states.map(([model, text]) => h('li', { class: String(text).split(':')[0] }, `${model}: ${text}`))));
    if (states.every(([, text]) => text === 'done' || String(text).startsWith('error'))) break;
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    now = await known(`uploads/${upload.id}`);
  }
  dispatchEvent(new CustomEvent('embedded', { detail: upload.id }));
}
