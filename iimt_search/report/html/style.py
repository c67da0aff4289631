"""The page's look: light and dark by the reader's own setting, one column on a phone."""

CSS = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1b1f24; --faint: #57606a; --line: #d0d7de;
  --box: #f6f8fa; --link: #0550ae; --good: #0072B2; --doubt: #B35806; --open: #57606a; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1318; --text: #e6edf3; --faint: #9aa7b4;
  --line: #333c46; --box: #171d24; --link: #79b8ff; --good: #56B4E9; --doubt: #E69F00; --open: #9aa7b4; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
header, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 1rem; overflow-wrap: anywhere; }
header { padding-top: 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem;
  border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1.02rem; margin: 1rem 0 .3rem; } h4 { font-size: .95rem; margin: .6rem 0 .2rem; }
p { margin: .4rem 0; } a { color: var(--link); }
.skip { position: absolute; left: -9999px; }
.skip:focus { left: 1rem; top: .5rem; background: var(--page); padding: .4rem .8rem; z-index: 9; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; padding: 0; margin: .6rem 0 0; }
nav a { display: inline-block; padding: .3rem 0; }
.faint, figcaption, dt { color: var(--faint); } figcaption { font-size: .92rem; max-width: 75ch; }
.answer { background: var(--box); border: 1px solid var(--line); border-left: 6px solid var(--open);
  border-radius: 6px; padding: .8rem 1rem; }
.answer.good { border-left-color: var(--good); } .answer.doubt { border-left-color: var(--doubt); }
.answer .title { font-size: 1.35rem; font-weight: 650; margin: 0; }
ul.caveats li::marker { content: "! "; font-weight: 700; color: var(--doubt); }
dl { display: flex; flex-wrap: wrap; gap: .2rem 1.8rem; margin: .6rem 0; }
dt { font-size: .85rem; } dd { margin: 0; font-weight: 600; }
code, pre { font: .9em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { background: var(--box); border: 1px solid var(--line); border-radius: 4px; padding: 0 .25em; }
pre, .scroll { overflow-x: auto; } pre { background: var(--box); padding: .6rem; max-height: 24rem; }
.scroll { max-height: 26rem; width: fit-content; max-width: 100%; overflow: auto;
  border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); max-width: 30rem; overflow: hidden; text-overflow: ellipsis; }
td.long { white-space: normal; min-width: 22rem; }
thead th { position: sticky; top: 0; background: var(--box); } tbody th { font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .6rem 1.6rem; }
figure { margin: 0 0 1rem; min-width: 0; } figure.wide { grid-column: 1 / -1; }
@media (max-width: 760px) { .figures { grid-template-columns: minmax(0, 1fr); } h1 { font-size: 1.35rem; } }
.sideways { overflow-x: auto; overflow-y: hidden; }
.plot { width: 100%; } .plot:empty { background: var(--box); }
summary { cursor: pointer; padding: .3rem 0; color: var(--link); }
ul.images { list-style: none; display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: .2rem 0 .6rem; }
ul.images li { width: 72px; font-size: .8rem; text-align: center; }
ul.images img { width: 64px; height: 64px; object-fit: contain; image-rendering: pixelated; }
ul.images span { display: block; line-height: 1.2; }
footer { padding: 2rem 1rem; color: var(--faint); font-size: .9rem; }
@media print { nav, .skip { display: none; } figure { break-inside: avoid; } }
"""

# The figures are drawn one after the other, so that the page answers meanwhile; `drawn` on the root
# element tells that all are there.
SCRIPT = """
(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var narrow = window.matchMedia("(max-width: 760px)");
  function template() {
    var text = dark.matches ? "#e6edf3" : "#1b1f24", line = dark.matches ? "#333c46" : "#d0d7de";
    var axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true,
      title: { standoff: 8, font: { size: 13 } } };
    return { layout: { font: { color: text, size: 12, family: "system-ui, sans-serif" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      hoverlabel: { align: "left", bgcolor: dark.matches ? "#171d24" : "#ffffff", font: { color: text } },
      annotationdefaults: { font: { color: text } }, dragmode: false } };
  }
  function layout(plot) {
    var content = plot.content, height = plot.place.clientHeight;
    var found = Object.assign({}, content.layout, { template: template(), autosize: true });
    found.margin = { l: narrow.matches ? 8 : 40, r: narrow.matches ? 8 : 20, t: 24, b: 40 };
    found.legend = Object.assign({ orientation: "h", x: 0, y: -58 / (height - 64), yanchor: "top" },
      found.legend || {});
    return found;
  }
  var plots = Array.prototype.map.call(document.querySelectorAll("figure .plot"), function (place) {
    return { place: place, content: JSON.parse(place.closest("figure").querySelector("script").textContent) };
  });
  var config = { responsive: true, displaylogo: false, displayModeBar: "hover", scrollZoom: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "sendDataToCloud"] };
  function draw(at) {
    if (at === plots.length) { document.documentElement.setAttribute("data-drawn", String(at)); return; }
    var plot = plots[at];
    Plotly.newPlot(plot.place, plot.content.data, layout(plot), config).then(function () {
      window.setTimeout(function () { draw(at + 1); }, 0);
    });
  }
  function again() {
    plots.forEach(function (plot) {
      if (plot.place.data) Plotly.react(plot.place, plot.content.data, layout(plot), config);
    });
  }
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
  draw(0);
}());
"""
