"use strict";

// Figures bring their data; the page's own colours, light or dark, are laid on here.
const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")].map(box => ({
  box, json: box.querySelector("script").textContent,
}));

function paint({ box, json }, isDark) {
  const style = isDark === null ? null : getComputedStyle(document.documentElement);
  const ink = style ? style.getPropertyValue("--ink").trim() : "#000000";
  const rule = style ? style.getPropertyValue("--rule").trim() : "#dddddd";
  const paper = style ? style.getPropertyValue("--paper").trim() : "#ffffff";
  const { data, layout } = JSON.parse(json.replaceAll('"#000000"', JSON.stringify(ink)));
  const fontFamily = getComputedStyle(document.querySelector("h2")).fontFamily;
  layout.font = { ...layout.font, color: ink, family: fontFamily };
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: paper, bordercolor: rule, font: { color: ink } };
  for (const name of Object.keys(layout).filter(key => /^[xy]axis\d*$/.test(key))) {
    Object.assign(layout[name], { gridcolor: rule, zerolinecolor: rule, linecolor: rule });
  }
  return Plotly.react(box, data, layout, { responsive: true, displayModeBar: false });
}

// In linked figures, point at one atom and see the same one in every panel.
function link(box) {
  let panels = [];
  let dots = [];
  const clear = () => dots.forEach(dot => dot.classList.remove("same"));
  box.on("plotly_afterplot", () => {
    panels = [...box.querySelectorAll(".scatterlayer .trace .points")].map(all => [...all.children]);
  });
  box.on("plotly_hover", event => {
    clear();
    dots = panels.map(panel => panel[event.points[0].pointIndex]);
    for (const dot of dots) {
      dot.classList.add("same");
      dot.parentNode.append(dot);  // above its neighbours
    }
  });
  box.on("plotly_unhover", clear);
}

for (const plot of plots) {
  plot.box.textContent = "";
  paint(plot, dark.matches).then(() => {
    if (plot.box.classList.contains("linked")) {
      link(plot.box);
      plot.box.emit("plotly_afterplot");
    }
  });
}
const repaint = isDark => plots.forEach(plot => paint(plot, isDark));
dark.addEventListener("change", () => repaint(dark.matches));
addEventListener("beforeprint", () => repaint(null));
addEventListener("afterprint", () => repaint(dark.matches));

// A click on a column's name sorts by it, a second one the other way round.
for (const head of document.querySelectorAll("th:has(button)")) {
  head.firstChild.addEventListener("click", () => {
    const column = [...head.parentNode.children].indexOf(head);
    const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = row => {
      const cell = row.children[column];
      return cell.dataset.value === undefined ? cell.textContent : parseFloat(cell.dataset.value);
    };
    const compare = (a, b) => typeof a === "string" ? a.localeCompare(b) : (a - b || isNaN(a) - isNaN(b));
    const body = head.closest("table").tBodies[0];
    body.append(...[...body.rows].sort((a, b) => sign * compare(value(a), value(b))));
  });
}

// The table of contents says where the reader is.
const links = new Map([...document.querySelectorAll("nav a")].map(a => [a.hash.slice(1), a]));
const seen = new IntersectionObserver(entries => {
  for (const entry of entries) links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
}, { rootMargin: "-20% 0px -70% 0px" });
document.querySelectorAll("section").forEach(section => seen.observe(section));
