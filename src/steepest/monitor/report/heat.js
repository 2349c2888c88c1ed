// What the heat map shows: another measurement, the value under the pointer, the course of the layer that was clicked.
const steepest = (() => {
  const about = JSON.parse(document.getElementById("heat-about").textContent);
  const model = (name) => Bokeh.documents.map((d) => d.get_model_by_name(name)).find((m) => m);
  const count = about.names.length;
  let measurement = about.measurement, layer = about.layer;

  const row = () => {
    const image = model("heat cells").data_source.data[measurement][0];
    const start = (count - 1 - layer) * about.columns;
    return Array.from(image.slice(start, start + about.columns));
  };
  const said = (index) => {
    const scale = about.measurements[measurement];
    if (index == 0) return "not known";
    if (index > about.levels) return "infinite";
    const share = (index - 1) / (about.levels - 1);
    const value = scale.log ? scale.low * (scale.high / scale.low) ** share : scale.low + share * (scale.high - scale.low);
    const words = scale.percent ? `${(100 * value).toFixed(0)} %` : String(Number(value.toPrecision(2)));
    return (index == 1 && scale.log ? "≤ " : index == about.levels && !scale.percent ? "≥ " : "about ") + words;
  };
  const draw = () => {
    const shown = row().map((i) => (i == 0 || i > about.levels ? NaN : i));
    const source = model("heat course").data_source;
    source.data = {x: source.data.x, y: Float32Array.from(shown)};
    document.getElementById("heat-layer").textContent = about.names[layer];
  };
  const choose = (name) => {
    measurement = name;
    const scale = about.measurements[name];
    const labels = new Map(scale.ticks.map((tick, i) => [tick, scale.labels[i]]));
    const cells = model("heat cells"), bar = model("heat bar"), axis = model("heat axis");
    model("heat colours").palette = about.palettes[scale.palette];
    cells.glyph.image = {field: name};
    for (const one of [bar, axis]) {
      one.ticker.ticks = scale.ticks;
      one.major_label_overrides = labels;
    }
    for (const one of document.querySelectorAll(".heat-title")) one.textContent = scale.title;
    document.getElementById("heat-meaning").textContent = scale.meaning;
    const cell = document.getElementById("heat-cell"); // where a cell is one record, nothing is said
    if (cell) cell.textContent = scale.largest ? "the largest" : "the mean";
    draw();
  };
  const select = document.getElementById("heat-measurement");
  select.value = measurement; // a reloaded page remembers what was chosen before
  select.addEventListener("change", () => choose(select.value));
  for (const button of document.querySelectorAll(".see")) {
    button.addEventListener("click", () => {
      select.value = button.dataset.measurement;
      layer = Math.max(0, about.names.findIndex((name) => name.split(" ")[0] == button.dataset.layer));
      choose(select.value);
      document.getElementById("layer-by-layer").scrollIntoView({behavior: "smooth"});
    });
  }
  return {
    pick: (y) => {
      if (y < 0 || y >= count) return;
      layer = count - 1 - Math.floor(y);
      draw();
    },
    said: (x, y) => {
      const width = (about.last - about.first) / about.columns;
      const column = Math.ceil((x - about.first) / width) - 1, line = Math.floor(y);  // a record stands at the end of its cell
      if (column < 0 || column >= about.columns || line < 0 || line >= count) return "";
      const index = model("heat cells").data_source.data[measurement][0][line * about.columns + column];
      return `${about.names[count - 1 - line]}, step ${Math.round(about.first + (column + 1) * width)}: ${said(index)}`;
    },
  };
})();
