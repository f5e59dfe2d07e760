// What becomes static/vendor/scatterplot.js. regl compiles its draw commands with `new Function`,
// which the page's Content-Security-Policy forbids: Plotly's fork takes them compiled.
import createRegl from 'regl';
import createScatterplot, { createRenderer as create } from 'regl-scatterplot';
import compiled from './compiled.js';

const EXTENSIONS = ['OES_texture_float', 'OES_element_index_uint', 'WEBGL_color_buffer_float', 'EXT_float_blend'];

function createRenderer() {
  const canvas = document.createElement('canvas');
  const gl = canvas.getContext('webgl', { antialias: true, preserveDrawingBuffer: true });
  if (!gl) throw new Error('this browser has no WebGL');
  const extensions = EXTENSIONS.filter((name) => gl.getExtension(name));
  const regl = createRegl({ gl, extensions, cachedCode: compiled });
  const renderer = create({ regl, canvas });
  const resize = () => renderer.resize();
  window.addEventListener('resize', resize);
  window.addEventListener('orientationchange', resize);
  resize();
  return renderer;
}

export { createRenderer, createScatterplot };
