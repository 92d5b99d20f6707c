// The view: what is drawn where, and what the user does with it.

const GUTTER = 120;
const RULER = 20;
const STRIP = 9;
const NOWHERE = 26;
const FOLDED = lanes.length > 30 ? 18 : 28;
const ROW = 9;
const LANE_GAP = 3;
const MOVES_MAX = 500;
const NARROWEST = 200;
const SUGGESTED_MAX = 2000;

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const pen = canvas.getContext("2d");
const tip = byId("tip");
const view = { from: 0, to: END, scroll: 0, chosen: null, problem: -1, width: 0, height: 0 };
let colours = {};
let planned = false;

const head = RULER + faultKinds.length * STRIP + NOWHERE + 6;
const heightOf = (lane) => (lane.unfolded ? Math.max(FOLDED, rowsOf(lane).length * ROW + 4) : FOLDED);
const x = (at) => GUTTER + ((at - view.from) / (view.to - view.from)) * (view.width - GUTTER);
const timeAt = (px) => view.from + ((px - GUTTER) / (view.width - GUTTER)) * (view.to - view.from);
const isChosen = (child) => view.chosen !== null && view.chosen.has(child);

function plan() {
  if (!planned) requestAnimationFrame(draw);
  planned = true;
}

/** Gives each lane its place from the top, scrolled. */
function arrange() {
  let y = head;
  for (const lane of lanes) {
    lane.y = y;
    lane.height = heightOf(lane);
    y += lane.height + LANE_GAP;
  }
  view.scroll = Math.min(Math.max(view.scroll, 0), Math.max(0, y - view.height));
  for (const lane of lanes) lane.y -= view.scroll;
}

const rowY = (bar) => {
  const lane = lanes[bar.node];
  return lane.unfolded ? lane.y + 2 + bar.row * ROW + (ROW - 1) / 2 : lane.y + lane.height / 2;
};

function draw() {
  planned = false;
  arrange();
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, view.width, view.height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  clipped(0, head, view.width, view.height - head, () => {
    const visible = lanes.filter((lane) => lane.y + lane.height > head && lane.y < view.height);
    visible.forEach(drawLaneName);
    clipped(GUTTER, head, view.width - GUTTER, view.height - head, () => {
      visible.forEach(drawLane);
      drawMoves();
    });
  });
  drawStrips();
  drawRuler();
  drawViolations();
}

function clipped(left, top, width, height, inside) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  inside();
  pen.restore();
}

/** A box from one time to another, at least a pixel wide; nothing if it is out of sight. */
function box(from, to, y, height, colour) {
  if (to < view.from || from > view.to) return;
  const left = Math.max(x(from), GUTTER - 1);
  const right = Math.min(x(to), view.width + 1);
  pen.fillStyle = colour;
  pen.fillRect(left, y, Math.max(right - left, 1), height);
}

/** Fills a count over time: each pixel as high as the most within it, neighbours of one height in one piece. */
function area(steps, y, height, most, colour) {
  let next = firstWhere(steps.times, (time) => time > view.from);
  let count = next === 0 ? 0 : steps.counts[next - 1];
  let [since, high] = [GUTTER, 0];
  pen.fillStyle = colour;
  for (let px = GUTTER; px <= view.width; px += 1) {
    const until = timeAt(px + 1);
    let peak = count;
    while (next < steps.times.length && steps.times[next] <= until) {
      count = steps.counts[next];
      peak = Math.max(peak, count);
      next += 1;
    }
    const here = peak === 0 ? 0 : Math.max(2, (Math.min(peak, most) / most) * height);
    if (here === high && px < view.width) continue;
    if (high > 0) pen.fillRect(since, y + height - high, px - since, high);
    [since, high] = [px, here];
  }
}

function drawLaneName(lane) {
  pen.fillStyle = colours.dim;
  pen.fillText(lane.unfolded ? "▾" : "▸", 4, lane.y + Math.min(lane.height, FOLDED) / 2);
  pen.fillStyle = colours.ink;
  pen.fillText(lane.name, 18, lane.y + Math.min(lane.height, FOLDED) / 2, GUTTER - 24);
}

function drawLane(lane) {
  const { y, height } = lane;
  if (lane.lives.length) box(lane.lives[0].from, END, y, height, colours.down);
  for (const life of lane.lives) box(life.from, endOf(life), y, height, colours.lane);
  for (const life of lane.lives) if (life.from > 0) box(life.from, life.from, y, height, colours.dim);
  pen.globalAlpha = 0.35;
  for (const [from, to] of lane.pauses) box(from, to ?? END, y, height, colours.pause);
  pen.globalAlpha = 1;
  if (view.chosen !== null) pen.globalAlpha = 0.3;
  if (lane.unfolded) drawRows(lane);
  else area(lane.running, y + 2, height - 6, mostRunning, colours.density);
  pen.globalAlpha = 1;
  drawDoubles(lane);
  drawOrphanEnds(lane);
  if (view.chosen !== null) drawChosen(lane);
  area(lane.cut, y + height - 3, 3, 1, colours.cut);
}

function drawRows(lane) {
  rowsOf(lane).forEach((row, place) => {
    const y = lane.y + 2 + place * ROW;
    if (y + ROW < head || y > view.height) return;
    let drawnTo = -1;
    for (let i = firstWhere(row.runs, (index) => (run.runs[index].ended ?? END) >= view.from); i < row.runs.length; i += 1) {
      const bar = run.runs[row.runs[i]];
      if (bar.began > view.to) break;
      const right = x(bar.ended ?? END);
      // Bars that fall into a pixel that is drawn already add nothing to it.
      if (right < drawnTo) continue;
      drawnTo = Math.ceil(right);
      drawBar(bar, y, ROW - 1, colours.children[bar.child]);
    }
  });
}

function drawBar(bar, y, height, colour) {
  const ended = bar.ended ?? END;
  box(bar.began, ended, y, height, colour);
  if (bar.started == null || bar.started - bar.began > 1e3) box(bar.began, bar.started ?? ended, y, height, colours.init);
  if (bar.signalled != null) box(bar.signalled, ended, y + height / 2, height / 2, colours.init);
  if (bar.failed && x(ended) - x(bar.began) > 3) box(ended, ended, y, height, colours.orphan);
  const left = Math.max(x(bar.began), GUTTER);
  const room = Math.min(x(ended), view.width) - left;
  if (room > 46) {
    pen.fillStyle = colours.ink;
    pen.font = "8px system-ui, sans-serif";
    pen.fillText(run.children[bar.child], left + 3, y + height / 2 + 0.5, room - 6);
    pen.font = "12px system-ui, sans-serif";
  }
}

function drawDoubles(lane) {
  let drawnTo = -1;
  pen.globalAlpha = view.chosen === null ? 1 : 0.3;
  for (const double of lane.doubles) {
    if (double.from > view.to || endOf(double) < view.from) continue;
    if (!lane.unfolded) {
      const right = Math.max(x(endOf(double)), x(double.from) + 1);
      if (right <= drawnTo) continue;
      drawnTo = right;
      box(double.from, endOf(double), lane.y + 2, 5, colours.duplicate);
      continue;
    }
    for (const index of runsOf(lane, double.child, double.from, endOf(double))) {
      const bar = run.runs[index];
      box(Math.max(bar.began, double.from), Math.min(bar.ended ?? END, endOf(double)), lane.y + 2 + bar.row * ROW, ROW - 1, colours.duplicate);
    }
  }
  pen.globalAlpha = 1;
}

/** Where a run ended and nobody went on with its child; short gaps show when they are a pixel wide. */
function drawOrphanEnds(lane) {
  const shortest = (view.to - view.from) / (view.width - GUTTER);
  for (const orphan of lane.orphans) {
    if (endOf(orphan) - orphan.from < shortest || orphan.from < view.from || orphan.from > view.to) continue;
    if (view.chosen !== null && !isChosen(orphan.child)) continue;
    const bar = run.runs[orphan.after];
    const [y, height] = lane.unfolded ? [lane.y + 2 + bar.row * ROW, ROW - 1] : [lane.y + 2, lane.height - 6];
    pen.fillStyle = colours.orphan;
    pen.fillRect(x(orphan.from) - 1, y, 2, height);
  }
}

/** The runs of a child on a node that touch this span. */
function runsOf(lane, child, from, to) {
  lane.byChild ??= Map.groupBy(lane.runs, (index) => run.runs[index].child);
  return (lane.byChild.get(child) ?? []).filter((index) => run.runs[index].began <= to && (run.runs[index].ended ?? END) >= from);
}

function drawChosen(lane) {
  for (const child of view.chosen) {
    for (const index of runsOf(lane, child, view.from, view.to)) {
      const bar = run.runs[index];
      const [y, height] = lane.unfolded ? [lane.y + 2 + bar.row * ROW, ROW - 1] : [lane.y + 8, lane.height - 13];
      box(bar.began, bar.ended ?? END, y, height, colours.chosen);
    }
  }
  for (const double of lane.doubles) {
    if (isChosen(double.child)) box(double.from, endOf(double), lane.y + 2, 5, colours.duplicate);
  }
}

function drawMoves() {
  let shown = [];
  // They are ordered by where they end; where one begins may be long before.
  for (let i = firstWhere(moves, (move) => move.at >= view.from); i < moves.length && shown.length <= MOVES_MAX; i += 1) {
    if (moves[i].left <= view.to && (view.chosen === null || isChosen(moves[i].child))) shown.push(moves[i]);
  }
  view.moves = shown.length;
  if (shown.length > MOVES_MAX) shown = [];
  for (const move of shown) arrow(move);
}

function arrow(move) {
  const [from, to] = [run.runs[move.from], run.runs[move.to]];
  const [x0, y0, x1, y1] = [x(move.left), rowY(from), x(move.at), rowY(to)];
  const angle = Math.atan2(y1 - y0, x1 - x0);
  pen.strokeStyle = pen.fillStyle =
    move.why === "taken over" ? colours.duplicate : move.why === "failed over" ? colours.failover : colours.move;
  pen.globalAlpha = isChosen(move.child) || view.moves < 60 ? 1 : 0.4;
  pen.lineWidth = isChosen(move.child) ? 1.5 : 1;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - 6 * Math.cos(angle - 0.4), y1 - 6 * Math.sin(angle - 0.4));
  pen.lineTo(x1 - 6 * Math.cos(angle + 0.4), y1 - 6 * Math.sin(angle + 0.4));
  pen.fill();
  pen.globalAlpha = 1;
}

const faultColour = (kind) => colours[{ cut: "cut", pause: "pause", loss: "loss" }[kind] ?? "other"];

/** The faults, a strip for each kind, and the children that run nowhere. */
function drawStrips() {
  pen.fillStyle = colours.paper;
  pen.fillRect(0, 0, view.width, head);
  faultKinds.forEach(({ kind, over }, place) => {
    const y = RULER + place * STRIP;
    pen.fillStyle = colours.dim;
    pen.font = "9px system-ui, sans-serif";
    pen.fillText(`${kind}`, 18, y + STRIP / 2, GUTTER - 24);
    area(over, y + 1, STRIP - 2, 1, faultColour(kind));
  });
  const y = RULER + faultKinds.length * STRIP + 2;
  pen.fillStyle = colours.dim;
  pen.font = "11px system-ui, sans-serif";
  pen.fillText("runs nowhere", 18, y + NOWHERE / 2, GUTTER - 24);
  pen.font = "12px system-ui, sans-serif";
  box(0, END, y, NOWHERE, colours.lane);
  pen.globalAlpha = view.chosen === null ? 1 : 0.3;
  area(nowhere, y + 2, NOWHERE - 4, Math.max(nowhere.most, 1), colours.orphan);
  pen.globalAlpha = 1;
  if (view.chosen === null) return;
  for (const orphan of run.orphans.filter((orphan) => isChosen(orphan.child))) {
    box(orphan.from, endOf(orphan), y + 4, NOWHERE - 8, colours.orphan);
  }
}

function drawRuler() {
  const span = view.to - view.from;
  const rough = (span / (view.width - GUTTER)) * 90;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((step) => step >= rough);
  const decimals = Math.max(0, 6 - Math.floor(Math.log10(step)));
  for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) {
    pen.fillStyle = colours.line;
    pen.globalAlpha = 0.6;
    pen.fillRect(x(at), RULER - 4, 1, view.height);
    pen.globalAlpha = 1;
    pen.fillStyle = colours.dim;
    pen.fillText(`${(at / 1e6).toFixed(Math.min(decimals, 6))} s`, x(at) + 3, RULER / 2);
  }
  if (view.moves > MOVES_MAX) {
    const text = `more than ${MOVES_MAX} moves here: zoom in or follow a child to see them`;
    pen.fillStyle = colours.paper;
    pen.fillRect(view.width - 12 - pen.measureText(text).width, 0, view.width, RULER - 4);
    pen.fillStyle = colours.dim;
    pen.fillText(text, view.width - 8 - pen.measureText(text).width, RULER / 2);
  }
}

function drawViolations() {
  for (const broken of run.violations) {
    if (broken.at < view.from || broken.at > view.to) continue;
    const px = x(broken.at);
    pen.fillStyle = colours.duplicate;
    pen.fillRect(px - 0.5, 0, 1.5, view.height);
    pen.beginPath();
    pen.moveTo(px, 0);
    pen.lineTo(px + 9, 5);
    pen.lineTo(px, 10);
    pen.fill();
  }
}

/** Shows this span of time, kept within the run. */
function show(from, to) {
  const span = Math.min(Math.max(to - from, NARROWEST), END);
  view.from = Math.min(Math.max(from, 0), END - span);
  view.to = view.from + span;
  plan();
}

function zoom(factor, around = (view.from + view.to) / 2) {
  show(around - (around - view.from) * factor, around + (view.to - around) * factor);
}

const pan = (share) => show(view.from + share * (view.to - view.from), view.to + share * (view.to - view.from));

/** Follows these children; none: shows all alike. */
function choose(children) {
  view.chosen = children.length ? new Set(children) : null;
  byId("found").textContent = children.length > 1 ? `${children.length} children` : "";
  const story = byId("story");
  story.hidden = children.length !== 1;
  story.replaceChildren();
  if (!story.hidden) {
    const title = document.createElement("h2");
    title.textContent = run.children[children[0]];
    story.append(title);
    for (const line of storyOf(children[0])) {
      const button = document.createElement("button");
      button.textContent = `${clock(line.at)}  ${line.text}`;
      button.className = line.style ?? "";
      button.addEventListener("click", () => centre(line.at, view.to - view.from));
      story.append(button);
    }
  }
  resize();
}

function centre(at, widest = 4e6) {
  const span = Math.min(END, widest);
  show(at - span / 2, at + span / 2);
}

function search(text) {
  const exact = run.children.indexOf(text);
  if (exact >= 0) {
    const inSight = lanes.some((lane) => runsOf(lane, exact, view.from, view.to).length);
    if (!inSight) show(0, END);
    return choose([exact]);
  }
  const lower = text.toLowerCase();
  choose(text === "" ? [] : [...run.children.keys()].filter((child) => run.children[child].toLowerCase().includes(lower)));
  if (text !== "" && view.chosen === null) byId("found").textContent = "no such child";
}

function follow(child) {
  byId("search").value = child == null ? "" : run.children[child];
  choose(child == null ? [] : [child]);
}

/** Goes to a broken promise, or to a duplicate where none is broken. */
function goTo(place) {
  if (!problems.length) return;
  view.problem = (place + problems.length) % problems.length;
  const { at, node, child } = problems[view.problem];
  follow(child);
  // Close enough to see the duplicate that it is about, however short.
  const double = run.overlaps.find((double) => double.child === child && double.from <= at && endOf(double) >= at);
  centre(at, double ? Math.min(Math.max((endOf(double) - double.from) * 8, 2e4), 8e6) : 4e6);
  if (node != null) {
    arrange();
    const { y, height } = lanes[node];
    if (y < head || y + height > view.height) view.scroll += y - (head + view.height) / 2;
  }
}

const visibleLane = (y) => (y < head ? undefined : lanes.find((lane) => y >= lane.y && y < lane.y + lane.height));

/** The run under the pointer, in a lane that is unfolded. */
function runAt(lane, px, py) {
  const row = lane.unfolded ? rowsOf(lane)[Math.floor((py - lane.y - 2) / ROW)] : undefined;
  if (!row) return undefined;
  const [from, to] = [timeAt(px - 2), timeAt(px + 2)];
  const index = row.runs[firstWhere(row.runs, (index) => (run.runs[index].ended ?? END) >= from)];
  return index !== undefined && run.runs[index].began <= to ? run.runs[index] : undefined;
}

function underPointer(px, py) {
  const lane = visibleLane(py);
  const [from, to] = [timeAt(px - 2), timeAt(px + 2)];
  const touches = (span) => span.from <= to && endOf(span) >= from;
  const doubles = lane ? lane.doubles.filter(touches) : [];
  const bar = lane && runAt(lane, px, py);
  return { lane, from, to, touches, doubles, bar };
}

const some = (lines) => (lines.length > 8 ? [...lines.slice(0, 8), `… and ${lines.length - 8} more`] : lines);

function hoverText(px, py) {
  const at = timeAt(px);
  const { lane, from, to, touches, doubles, bar } = underPointer(px, py);
  const lines = [clock(at)];
  if (lane) {
    const life = lane.lives.findIndex((life) => life.from <= at && endOf(life) >= at);
    const paused = lane.pauses.some(([from, to]) => from <= at && (to ?? END) >= at);
    const ended = lane.lives.findLast((life) => endOf(life) <= at);
    const state = life < 0 ? (ended ? `down: it ${ended.end}` : "not started yet") : paused ? "paused" : `up, life ${life + 1}`;
    lines.push(`${lane.name}: ${state}; ${countAt(lane.running, at)} children run here`);
    lines.push(...some(run.faults.filter((fault) => fault.kind !== "pause" && fault.nodes.includes(lane.place) && touches(fault)).map(faultInWords)));
    if (bar) lines.push("", runInWords(bar));
    else if (view.chosen !== null) {
      const chosen = [...view.chosen].flatMap((child) => runsOf(lane, child, from, to));
      lines.push(...some(chosen.map((index) => runInWords(run.runs[index]))));
    }
    const shown = doubles.filter((double) => (bar ? double.child === bar.child : view.chosen === null || isChosen(double.child)));
    if (shown.length) lines.push("", ...some(shown.map(doubleInWords)));
  } else if (py >= RULER && py < RULER + faultKinds.length * STRIP) {
    const { kind, faults } = faultKinds[Math.floor((py - RULER) / STRIP)];
    const here = faults.filter(touches);
    lines.push(`${kind}: ${here.length} at once`, ...some(here.map(faultInWords)));
  } else if (py >= RULER && py < head) {
    const here = (view.chosen === null ? orphans : run.orphans.filter((orphan) => isChosen(orphan.child))).filter(touches);
    lines.push(`${here.length} children run nowhere`, ...some(here.map(orphanInWords)));
  }
  for (const broken of run.violations.filter((broken) => Math.abs(x(broken.at) - px) < 4)) lines.push("", `BROKEN ${broken.invariant}: ${broken.detail}`);
  return lines.join("\n");
}

function hover(event) {
  const inside = event.offsetX > GUTTER && event.buttons === 0;
  tip.hidden = !inside;
  if (!inside) return;
  tip.textContent = hoverText(event.offsetX, event.offsetY);
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 8))}px`;
}

function click(event) {
  const lane = visibleLane(event.offsetY);
  if (lane && event.offsetX <= GUTTER) {
    lane.unfolded = !lane.unfolded;
    plan();
  } else if (lane) {
    const { bar, doubles } = underPointer(event.offsetX, event.offsetY);
    if (bar || doubles.length) follow((bar ?? doubles[0]).child);
  }
}

function unfoldAll() {
  const unfold = lanes.some((lane) => !lane.unfolded);
  for (const lane of lanes) lane.unfolded = unfold;
  byId("unfold").textContent = unfold ? "Fold all" : "Unfold all";
  plan();
}

const keys = {
  ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15), a: () => pan(-0.15), d: () => pan(0.15),
  ArrowUp: () => scroll(-60), ArrowDown: () => scroll(60), "+": () => zoom(0.6), "=": () => zoom(0.6), w: () => zoom(0.6),
  "-": () => zoom(1 / 0.6), s: () => zoom(1 / 0.6), 0: () => show(0, END), n: () => goTo(view.problem + 1), p: () => goTo(view.problem - 1),
  u: unfoldAll, "/": () => byId("search").focus(), Escape: () => follow(null),
};

function scroll(pixels) {
  view.scroll += pixels;
  plan();
}

function listen() {
  let grabbed = null;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 20 : event.deltaY;
    if (event.shiftKey) scroll(pixels || event.deltaX);
    else if (event.offsetX <= GUTTER) scroll(pixels);
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(event.deltaX / (view.width - GUTTER));
    else zoom(1.0015 ** pixels, timeAt(event.offsetX));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    grabbed = { x: event.offsetX, y: event.offsetY, from: view.from, to: view.to, scroll: view.scroll, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    hover(event);
    if (!grabbed) return;
    const [right, down] = [event.offsetX - grabbed.x, event.offsetY - grabbed.y];
    grabbed.moved ||= Math.hypot(right, down) > 3;
    if (!grabbed.moved) return;
    const shift = (right / (view.width - GUTTER)) * (grabbed.to - grabbed.from);
    view.scroll = grabbed.scroll - down;
    show(grabbed.from - shift, grabbed.to - shift);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (grabbed && !grabbed.moved) click(event);
    grabbed = null;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (event) => { if (event.offsetX > GUTTER) zoom(0.3, timeAt(event.offsetX)); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === byId("search");
    if (typing && event.key !== "Escape") return;
    const action = keys[event.key];
    if (!action) return;
    event.preventDefault();
    if (typing) canvas.focus();
    action();
  });
  byId("search").addEventListener("input", (event) => search(event.target.value));
  byId("problem").addEventListener("click", () => goTo(0));
  byId("before").addEventListener("click", () => goTo(view.problem - 1));
  byId("after").addEventListener("click", () => goTo(view.problem + 1));
  byId("unfold").addEventListener("click", unfoldAll);
  byId("in").addEventListener("click", () => zoom(0.5));
  byId("out").addEventListener("click", () => zoom(2));
  byId("fit").addEventListener("click", () => show(0, END));
  byId("copy").addEventListener("click", () => navigator.clipboard?.writeText(run.reproduce));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  new ResizeObserver(resize).observe(canvas);
}

function resize() {
  const { clientWidth, clientHeight } = canvas;
  view.width = Math.max(clientWidth, GUTTER + 50);
  view.height = clientHeight;
  canvas.width = Math.round(view.width * devicePixelRatio);
  canvas.height = Math.round(clientHeight * devicePixelRatio);
  plan();
}

function recolour() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "dim", "line", "lane", "density", "init", "duplicate", "orphan", "cut", "pause", "down", "loss", "other", "move", "failover", "chosen"];
  colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  colours.children = run.children.map((_, child) => `hsl(${(child * 137.5) % 360} 38% ${dark ? 36 : 76}%)`);
  const legend = [["density", "children that run (how many)"], ["chosen", "the child that is followed"], ["duplicate", "runs twice"], ["orphan", "runs nowhere; end by failure"],
    ["move", "handed over"], ["failover", "failed over"], ["cut", "cut off from somebody"], ["pause", "paused"], ["down", "down"]];
  byId("legend").replaceChildren(...legend.map(([name, text]) => {
    const [item, sample] = [document.createElement("li"), document.createElement("i")];
    sample.style.background = colours[name];
    item.append(sample, text);
    return item;
  }));
  plan();
}

function fillTable(table, rows) {
  for (const [name, value] of rows) {
    const row = table.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = value;
  }
}

function fillPage() {
  const failed = run.violations.length > 0 || run.verdict.startsWith("FAILED");
  document.title = `${failed ? "FAILED" : "PASSED"}, seed ${run.seed}`;
  byId("verdict").textContent = run.verdict || `seed ${run.seed}`;
  byId("verdict").classList.toggle("failed", failed);
  const counts = [[run.nodes.length, "nodes"], [run.children.length, "children"], [run.runs.length, "runs"], [run.moves.length, "moves"], [run.overlaps.length, "duplicates"], [run.faults.length, "lasting faults"]];
  byId("headline").textContent = `Seed ${run.seed}, ${clock(run.end)} of virtual time: ${counts.map(([count, what]) => `${count} ${what}`).join(", ")}.`;
  byId("reproduce").textContent = run.reproduce;
  fillTable(byId("figures"), run.figures.rows);
  fillTable(byId("options"), run.options);
  [...run.violations].sort((a, b) => a.at - b.at).forEach((broken, place) => {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    button.textContent = `${clock(broken.at)}  ${broken.invariant} (${broken.class}): ${broken.detail}`;
    button.addEventListener("click", () => goTo(place));
    item.append(button);
    byId("violations").append(item);
  });
  byId("problem").textContent = run.violations.length ? "Jump to the first violation" : problems.length ? "Jump to the first duplicate" : "Nothing is broken";
  byId("problem").classList.toggle("broken", run.violations.length > 0);
  for (const id of ["problem", "before", "after"]) byId(id).disabled = problems.length === 0;
  byId("children").replaceChildren(...run.children.slice(0, SUGGESTED_MAX).map((name) => Object.assign(document.createElement("option"), { value: name })));
}

/** What the address asks for: #child=child-7&from=1.5&to=3&unfold, in seconds; #problem goes to the first one. */
function openAsAsked() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (asked.has("unfold")) unfoldAll();
  if (asked.has("problem")) return goTo(0);
  if (asked.has("child")) follow(Math.max(0, run.children.indexOf(asked.get("child"))));
  if (asked.has("from") || asked.has("to")) show(Number(asked.get("from") ?? 0) * 1e6, asked.has("to") ? Number(asked.get("to")) * 1e6 : END);
}

// A few children on a few nodes are best seen one by one.
if (lanes.reduce((rows, lane) => rows + lane.running.most, 0) <= 60) for (const lane of lanes) lane.unfolded = true;
fillPage();
recolour();
listen();
resize();
openAsAsked();
window.timeline = { view, show, zoom, choose, search, goTo, unfoldAll, draw, hoverText };
