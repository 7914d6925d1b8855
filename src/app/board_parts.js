// What the board is made of: rows of sliders, the chart of z, and small helpers.

// The bars of z in the order of the list.
function chart(svg, dimensions, z) {
  const values = z ? dimensions.map(({ index }) => z[index]) : [];
  const top = Math.max(3, ...values.map(Math.abs));
  const [width, height] = [svg.clientWidth || 320, svg.clientHeight || 150];
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [left, bottom] = [34, 30];
  const middle = (height - bottom) / 2;
  const y = (value) => middle - (value / top) * (middle - 8);
  const step = (width - left - 2) / Math.max(values.length, 1);
  const lines = [-top, 0, top].flatMap((value) => [
    shape("line", { x1: left, x2: width, y1: y(value), y2: y(value) }),
    shape("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, tidy(value)),
  ]);
  const bars = values.map((value, i) => {
    const [from, to] = [Math.min(y(value), y(0)), Math.max(y(value), y(0))];
    const height = Math.max(to - from, 0.5);
    return shape("rect", { x: left + step * (i + 0.12), width: step * 0.76, y: from, height });
  });
  const up = shape("text", { x: 0, y: middle + 4 }, "z");
  svg.replaceChildren(...lines, ...bars, ...names(dimensions, left, step, height - bottom + 13), up);
  const framed = dimensions[0].name.includes("frame") ? " @ frame" : "";
  const title = { x: (left + width) / 2, y: height - 3, "text-anchor": "middle" };
  svg.append(shape("text", title, `dimension of z${framed}, most informative first`));
}

// As many names below the bars as there is room for.
function names(dimensions, left, step, y) {
  const short = (name) => name.replace("z ", "").replace(", frame ", "@").replace(/, level.*/, "");
  const every = Math.ceil((dimensions[0].name.includes("frame") ? 34 : 20) / step);
  return dimensions.flatMap(({ name }, i) => {
    const place = { x: left + step * (i + 0.5), y, "text-anchor": "middle" };
    return i % every ? [] : [shape("text", place, short(name))];
  });
}

// The row of one dimension, its inputs by list, and where its z is told.
function line({ index, name, told, active }, largest, { reach, unit }) {
  const row = element("div", { className: `row${active ? "" : " idle"}`, role: "group" });
  row.ariaLabel = active ? name : `${name}, inactive`;
  row.dataset.testid = `board-row-${index}`;
  const bar = element("span", { className: "told" });
  if (!active) bar.title = "Inactive: its code hardly varies with the data";
  bar.dataset.unit = told === null ? "" : unit;
  const tip = element("i");
  tip.style.width = `${told === null ? 0 : Math.max((100 * told) / largest, 0)}%`;
  bar.append(tip, element("span", {}, told === null ? "–" : told.toPrecision(3)));
  const [muReach, zReach] = reach;
  const inputs = {
    mu: pair("mu", "μ", index, name, -muReach, muReach),
    sigma: pair("sigma", "σ", index, name, 0, 2),
    z: pair("z", "z", index, name, -zReach, zReach),
  };
  const cells = Object.entries(inputs).map(([list, both]) => {
    const cell = element("span", { className: `pair ${list === "z" ? "at" : list}` });
    cell.dataset.name = { mu: "μ", sigma: "σ", z: "z" }[list];
    cell.append(...both);
    return cell;
  });
  const value = element("span", { className: "value" });
  row.append(element("span", { className: "name" }, name), bar, ...cells, value);
  return { row, value, active, inputs };
}

function place(frame, picture) {
  const image = frame.querySelector("img");
  frame.classList.toggle("drawn", Boolean(picture?.drawn));
  image.hidden = !picture;
  if (!picture) return;
  frame.style.aspectRatio = `${picture.width} / ${picture.height}`;
  image.style.width = `${100 * picture.frames}%`;
  image.alt = picture.alt;
  image.src = picture.uri;
}

function pair(list, letter, index, name, min, max) {
  // 0 and both ends must be a whole number of steps away from one another.
  const step = max < 1 ? 0.01 : 0.05;
  const [low, high] = [Math.floor(min / step), Math.ceil(max / step)].map((steps) => (steps * step).toFixed(2));
  const range = element("input", { type: "range", min: low, max: high, step, ariaLabel: `${letter} of ${name}` });
  const number = element("input", { type: "number", step: "any", ariaLabel: `${letter} of ${name}, as a number` });
  if (list === "sigma") number.min = 0;
  for (const input of [range, number]) Object.assign(input.dataset, { list, index });
  return [range, number];
}

function radio(mode) {
  const label = element("label");
  label.append(element("input", { type: "radio", name: "mode", value: mode }), MODES[mode]);
  return label;
}

function element(tag, properties = {}, text = "") {
  const made = Object.assign(document.createElement(tag), properties);
  if (text) made.textContent = text;
  return made;
}

function shape(tag, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== "") made.textContent = text;
  return made;
}

// As much of a number as there is room for; the sliders keep all of it.
function tidy(value) {
  const number = Number(value);
  return String(Number(Math.abs(number) < 0.1 ? number.toPrecision(2) : number.toFixed(3)));
}

function whole(text, largest) {
  return Math.min(Math.max(Math.trunc(Number(text)) || 0, 0), Math.max(largest, 0));
}
