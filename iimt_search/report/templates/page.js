// The figures are drawn one after the other, so that the page answers meanwhile; `drawn` on the root element
// tells that all are there.
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
