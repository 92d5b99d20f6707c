"use strict";
// The run, and what is worked out of it once: lanes, counts over time, rows of bars.

const run = JSON.parse(document.getElementById("data").textContent);
const END = Math.max(run.end, 1);
const endOf = (span) => span.to ?? END;

/** The place of the first element for which `after` holds; it must hold for all behind it. */
function firstWhere(list, after) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (after(list[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** How many of these spans hold at any time: the times at which that changes, and the count from there on. */
function countOver(spans) {
  const changes = spans.flatMap(([from, to]) => [[from, 1], [to, -1]]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const steps = { times: [], counts: [], most: 0 };
  let count = 0;
  for (const [at, change] of changes) {
    count += change;
    const last = steps.times.length - 1;
    if (steps.times[last] === at) steps.counts[last] = count;
    else {
      steps.times.push(at);
      steps.counts.push(count);
    }
    steps.most = Math.max(steps.most, count);
  }
  return steps;
}

function countAt(steps, at) {
  const next = firstWhere(steps.times, (time) => time > at);
  return next === 0 ? 0 : steps.counts[next - 1];
}

/** Puts runs into as few rows as they need side by side; each row is ordered by time. */
function packRows(runs) {
  const rows = [];
  for (const index of runs) {
    const bar = run.runs[index];
    let row = rows.findIndex((row) => row.free <= bar.began);
    if (row < 0) row = rows.push({ free: 0, runs: [] }) - 1;
    rows[row].runs.push(index);
    rows[row].free = bar.ended ?? END;
    bar.row = row;
  }
  return rows;
}

const lanes = run.nodes.map((node, place) => ({ ...node, place, runs: [], doubles: [], cuts: [], unfolded: false, rows: null }));
run.runs.forEach((bar, index) => lanes[bar.node].runs.push(index));
for (const double of run.overlaps) {
  for (const node of new Set([double.earlier, double.later])) lanes[node].doubles.push(double);
}
for (const fault of run.faults) {
  if (fault.kind === "pause") continue;
  for (const node of new Set(fault.nodes)) lanes[node].cuts.push([fault.from, endOf(fault)]);
}
for (const lane of lanes) {
  lane.running = countOver(lane.runs.map((index) => [run.runs[index].began, run.runs[index].ended ?? END]));
  lane.cut = countOver(lane.cuts);
}
const mostRunning = Math.max(1, ...lanes.map((lane) => lane.running.most));
const rowsOf = (lane) => (lane.rows ??= packRows(lane.runs));

/** Runs that end with nobody running the child are orphans; before its first run a child only has not started yet. */
const orphans = run.orphans.filter((orphan) => orphan.after !== undefined);
for (const lane of lanes) lane.orphans = [];
for (const orphan of orphans) lanes[run.runs[orphan.after].node].orphans.push(orphan);
const nowhere = countOver(orphans.map((orphan) => [orphan.from, endOf(orphan)]));
const faultKinds = [...new Set(run.faults.map((fault) => fault.kind))].map((kind) => {
  const faults = run.faults.filter((fault) => fault.kind === kind);
  return { kind, faults, over: countOver(faults.map((fault) => [fault.from, endOf(fault)])) };
});
const moves = run.moves.map((move) => {
  const [from, to] = [run.runs[move.from], run.runs[move.to]];
  return { ...move, child: to.child, left: Math.min(from.ended ?? END, to.began), at: to.began };
});
/** What the buttons go through: the broken promises, else the duplicates. */
const problems = (run.violations.length ? [...run.violations] : run.overlaps.map((double) => ({ at: double.from, node: double.later, child: double.child })))
  .sort((a, b) => a.at - b.at);

const clock = (at) => `${(at / 1e6).toFixed(3)} s`;
function lasting(micros) {
  if (micros < 1e3) return `${Math.round(micros)} µs`;
  return micros < 1e6 ? `${(micros / 1e3).toPrecision(3)} ms` : `${(micros / 1e6).toFixed(2)} s`;
}

function runInWords(bar) {
  const up = bar.started == null ? "never came up" : `up after ${lasting(bar.started - bar.began)}`;
  const told = bar.signalled == null ? "" : `\ntold to stop ${clock(bar.signalled)}`;
  const ended = bar.ended == null ? "runs to the end" : `ended ${clock(bar.ended)} after ${lasting(bar.ended - bar.began)}: ${bar.ending}`;
  return `${run.children[bar.child]}, run ${bar.epoch} on ${run.nodes[bar.node].name}\nbegan ${clock(bar.began)}, ${up}${told}\n${ended}`;
}

function faultInWords(fault) {
  return `${fault.label}, from ${clock(fault.from)} ${fault.to == null ? "to the end" : `for ${lasting(fault.to - fault.from)}`}`;
}

function doubleInWords(double) {
  const names = [double.earlier, double.later].map((node) => run.nodes[node].name).join(" and ");
  const until = double.to == null ? "to the end" : `for ${lasting(double.to - double.from)}`;
  return `${run.children[double.child]} runs on ${names} from ${clock(double.from)} ${until}${double.excuse ? `: ${double.excuse}` : ""}`;
}

function orphanInWords(orphan) {
  const what = orphan.after === undefined ? "was asked for, but has not run yet" : "runs nowhere";
  return `${run.children[orphan.child]} ${what} from ${clock(orphan.from)} ${orphan.to == null ? "to the end" : `for ${lasting(orphan.to - orphan.from)}`}`;
}

/** Everything about one child in order of time. */
function storyOf(child) {
  const lines = [];
  const tell = (at, text, style) => lines.push({ at, text, style });
  const name = (node) => run.nodes[node].name;
  for (const call of run.calls.filter((call) => call.child === child)) {
    const answer = call.answer == null ? "never answered" : `${call.answer} ${call.answered === call.at ? "at once" : `after ${lasting(call.answered - call.at)}`}`;
    tell(call.at, `${name(call.node)} was asked to ${call.asked} and ${answer}`);
  }
  for (const bar of run.runs.filter((bar) => bar.child === child)) {
    tell(bar.began, `${name(bar.node)} begins to run it as ${bar.epoch}`);
    if (bar.ended != null) tell(bar.ended, `its run ${bar.epoch} on ${name(bar.node)} ${bar.ending}`, bar.failed ? "warn" : "");
  }
  run.overlaps.filter((double) => double.child === child).forEach((double) => tell(double.from, doubleInWords(double), "bad"));
  run.orphans.filter((orphan) => orphan.child === child).forEach((orphan) => tell(orphan.from, orphanInWords(orphan), "warn"));
  run.events.filter((told) => told.child === child).forEach((told) => tell(told.at, `${name(told.node)} ${told.text}`));
  run.violations.filter((broken) => broken.child === child).forEach((broken) => tell(broken.at, `${broken.invariant}: ${broken.detail}`, "bad"));
  return lines.sort((a, b) => a.at - b.at);
}
