// The live board: sliders say where z comes from, the server answers with z and what the model decodes from it.
// One question is on its way at a time; while it is, the newest one waits and those between are dropped.

const LISTS = ["mu", "sigma", "z"];
const MODES = {
  normal: "N(μ, σ²)",
  standard: "N(0, I)",
  prior: "Prior p(z)",
  exact: "Exact z",
};
const SEEDS = 2 ** 31;
const LOST = 8000; // ms after which a question counts as lost
const REST = 500; // ms without a move after which the address is written
const FRAME = 170; // ms that a frame of a sequence is shown
const boards = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".board");
  let board = boards.get(root);
  if (!board) {
    board = new Board(root);
    boards.set(root, board);
  }
  board.send = (question) => setStateValue("asked", question);
  board.take(data);
}

class Board {
  constructor(root) {
    this.root = root;
    this.find = (selector) => root.querySelector(selector);
    this.said = null; // what the sliders say
    this.data = null;
    this.rows = [];
    this.number = 0; // of the last question
    this.waiting = null; // a question that has not been sent, its action
    this.busy = false;
    this.playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    root.addEventListener("input", (event) => this.moved(event.target));
    root.addEventListener("click", (event) => this.clicked(event.target.dataset));
    // What was typed and is out of range is written as it is meant.
    root.addEventListener("change", (event) => event.target.matches(".seed, .pair [type=number]") && this.write());
    this.find(".play").addEventListener("click", () => this.play(!this.playing));
    this.find(".time").addEventListener("input", () => this.play(false));
    this.find("[data-testid=board-picture]").addEventListener("load", () => this.painted());
    this.timer = setInterval(() => this.tick(), FRAME);
  }

  // What the server says.

  take(data) {
    const other = !this.data || this.data.run !== data.run;
    // The page may hand over the same answer twice, and sliders have moved on since.
    const adopted = data.adopt && data.answer !== this.data?.answer;
    this.data = data;
    if (other) this.build();
    if (other || adopted) this.adopt(data);
    this.number = Math.max(this.number, data.answer);
    if (data.answer === this.number) this.answered();
    this.show();
    if (other) this.rest();
  }

  adopt(data) {
    this.said = structuredClone(data.sliders);
    this.said.row = data.row;
    this.waiting = null;
    this.showOriginal(data.original);
    this.write();
  }

  // The board has been taken off the page.
  leave() {
    clearInterval(this.timer);
    clearTimeout(this.lost);
    clearTimeout(this.resting);
  }

  answered() {
    this.busy = false;
    clearTimeout(this.lost);
    if (this.waiting) this.ask(this.waiting.action);
  }

  // What the person does.

  moved(element) {
    const { list, index } = element.dataset;
    if (element.matches(".fixed")) this.said.fixed = element.checked;
    else if (element.matches(".seed")) this.said.seed = whole(element.value, SEEDS - 1);
    else if (element.matches(".label select")) this.said.label = Number(element.value);
    else if (element.matches(".active")) return this.filter();
    else if (element.name === "mode") this.choose(element.value);
    else if (!list || !this.set(list, Number(index), element)) return;
    if (list && !this.said.fixed && this.noisy()) this.reseed();
    this.question();
  }

  // Whether it was a number.
  set(list, index, element) {
    const value = Number(element.value);
    if (element.value === "" || !Number.isFinite(value)) return false;
    this.said[list][index] = list === "sigma" ? Math.max(value, 0) : value;
    for (const twin of this.rows[index].inputs[list]) if (twin !== element) twin.value = value;
    return true;
  }

  choose(mode) {
    // An exact z begins where the last one was.
    if (mode === "exact" && this.data.z) this.said.z = [...this.data.z];
    this.said.mode = mode;
    if (mode === "standard" || mode === "prior") this.leaveSample();
    this.write();
  }

  clicked({ action }) {
    if (!action) return;
    if (action === "reset") {
      this.said.mu.fill(0);
      this.said.sigma.fill(1);
      this.said.z.fill(0);
      if (this.said.mode !== "exact") this.said.mode = "normal";
    }
    if (action === "sample") this.said.row = whole(this.find("input.row").value, this.data.samples - 1);
    if (action === "reset" || action === "randomise") this.leaveSample();
    if (action === "resample" || action === "randomise") this.reseed();
    if (action === "resample" && this.said.mode === "exact") this.said.mode = "normal";
    this.write();
    this.question(action);
  }

  leaveSample() {
    this.said.row = null;
    this.showOriginal(null);
  }

  noisy() {
    return this.said.mode !== "exact";
  }

  reseed() {
    this.said.seed = (this.said.seed + 1) % SEEDS;
    this.find(".seed").value = this.said.seed;
  }

  // Questions.

  question(action = "") {
    if (this.busy) this.waiting = { action };
    else this.ask(action);
  }

  ask(action) {
    this.waiting = null;
    this.busy = true;
    this.number += 1;
    this.send({ ...this.said, action, number: this.number });
    this.lost = setTimeout(() => this.answered(), LOST);
    this.rest();
  }

  rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => (this.busy ? this.rest() : this.writeAddress()), REST);
  }

  writeAddress() {
    if (!this.root.isConnected) return;
    const url = new URL(location.href);
    for (const [key, value] of Object.entries(this.data.address)) {
      if (value === null) url.searchParams.delete(key);
      else url.searchParams.set(key, value);
    }
    const search = url.searchParams.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
    if (`?${search}` !== location.search) history.replaceState(history.state, "", `?${search}${url.hash}`);
  }

  // The page.

  build() {
    const { data } = this;
    this.find(".unit").textContent = data.information;
    this.root.classList.toggle("wide-names", data.dimensions.some(({ name }) => name.length > 7));
    this.find(".modes").replaceChildren(...data.modes.map((mode) => radio(mode)));
    const largest = Math.max(...data.dimensions.map(({ told }) => told ?? 0), 1e-12);
    this.rows = [];
    for (const dimension of data.dimensions) this.rows[dimension.index] = line(dimension, largest, data);
    this.find(".rows").replaceChildren(...data.dimensions.map(({ index }) => this.rows[index].row));
    const active = data.dimensions.filter((dimension) => dimension.active).length;
    this.find(".activity").hidden = data.dimensions.every(({ told }) => told === null);
    const meant = `code variance above ${data.threshold} latent²`;
    this.find(".count").textContent = `${active} of ${data.dimensions.length} are active: ${meant}`;
    this.find(".notes").replaceChildren(...data.notes.map((note) => element("p", {}, note)));
    this.find(".sample").hidden = !data.samples;
    this.find("input.row").max = data.samples - 1;
    this.find(".label").hidden = !data.classes;
    const classes = [-1, ...Array(data.classes).keys()];
    const options = classes.map((c) => element("option", { value: c }, c < 0 ? "unknown" : String(c)));
    this.find(".label select").replaceChildren(...options);
    this.filter();
  }

  filter() {
    const only = this.find(".active").checked;
    for (const { row, active } of this.rows) row.hidden = only && !active;
  }

  // The sliders as they are meant to stand.
  write() {
    const { said } = this;
    for (const input of this.root.querySelectorAll("[name=mode]")) input.checked = input.value === said.mode;
    this.find("[data-action=reset]").textContent = said.mode === "exact" ? "Reset to 0" : "Reset to N(0, 1)";
    this.find(".seed").value = said.seed;
    this.find(".fixed").checked = said.fixed;
    for (const noise of [".seed", ".fixed"]) this.find(noise).disabled = said.mode === "exact";
    this.find(".label select").value = said.label;
    if (said.row !== null) this.find("input.row").value = said.row;
    this.rows.forEach(({ inputs, row }, i) => {
      for (const list of LISTS) {
        for (const input of inputs[list]) input.value = input.type === "number" ? tidy(said[list][i]) : said[list][i];
      }
      for (const cell of row.querySelectorAll(".mu, .sigma")) cell.hidden = said.mode !== "normal";
      row.querySelector(".at").hidden = said.mode !== "exact";
    });
    for (const title of this.root.querySelectorAll(".head .mu, .head .sigma")) {
      title.style.visibility = said.mode === "normal" ? "" : "hidden";
    }
  }

  show() {
    const { data } = this;
    const error = this.find(".error");
    error.textContent = data.error;
    error.hidden = !data.error;
    place(this.find(".frame"), data.picture);
    this.find(".player").hidden = !(data.picture?.frames > 1);
    this.find(".time").max = (data.picture?.frames ?? 1) - 1;
    this.turn();
    this.rows.forEach(({ value }, i) => (value.textContent = data.z ? data.z[i].toFixed(2) : ""));
    this.find(".numbers").value = data.z ? data.z.join(", ") : "";
    chart(this.find(".chart svg"), data.dimensions, data.z);
  }

  painted() {
    // What a browser test and a stopwatch wait for: the answer to this question is on the screen.
    this.root.dataset.painted = this.data.answer;
  }

  showOriginal(original) {
    const figure = this.find(".original");
    const note = this.find(".sample-note");
    figure.hidden = !original;
    note.hidden = !original?.note;
    if (!original) return;
    note.textContent = original.note;
    place(figure.querySelector(".frame"), original);
    figure.querySelector("figcaption").textContent = original.caption;
  }

  // Sequences.

  play(on) {
    this.playing = on;
    this.find(".play").textContent = on ? "Pause" : "Play";
    this.turn();
  }

  tick() {
    if (!this.root.isConnected) return this.leave();
    const frames = this.data?.picture?.frames ?? 1;
    if (!this.playing || frames < 2) return;
    const time = this.find(".time");
    time.value = (Number(time.value) + 1) % frames;
    this.turn();
  }

  turn() {
    const frames = this.data?.picture?.frames ?? 1;
    const t = Math.min(Number(this.find(".time").value), frames - 1);
    this.find(".told-time").textContent = `frame ${t} of 0–${frames - 1}`;
    this.find(".play").textContent = this.playing ? "Pause" : "Play";
    for (const image of this.root.querySelectorAll(".frame img")) {
      image.style.transform = `translateX(${(-100 * t) / frames}%)`;
    }
  }
}
