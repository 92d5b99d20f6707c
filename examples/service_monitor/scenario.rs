//! The story that is played, and what is expected of each of its steps.

use std::collections::BTreeSet;
use std::time::Duration;

use haulout::BoxError;

use crate::clock::{self, show};
use crate::control::Request;
use crate::judge::{Finding, History, few, spread};
use crate::orchestra::Orchestra;
use crate::prompt;

const FORMED_WITHIN: Duration = Duration::from_secs(20);
const STARTED_WITHIN: Duration = Duration::from_secs(10);
/// Failure detection takes about 2 s with the profile `local`.
const FAILED_OVER_WITHIN: Duration = Duration::from_secs(15);
const MOVED_WITHIN: Duration = Duration::from_secs(15);
const TERMINATED_WITHIN: Duration = Duration::from_secs(5);
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// Less than `sync_interval`, so that it shows if a single start or hand-over had to wait for the safety net.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Moves are over when no monitor has started or stopped for so long.
const QUIET: Duration = Duration::from_secs(1);
/// With fewer monitors it would be no surprise if none moved: each moves with a probability of at least a quarter
/// (three nodes after the join), and 0.75 to the power of 18 is half a percent.
const MOVE_EXPECTED_FROM: usize = 18;

/// What the user chose.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) nodes: usize,
    pub(crate) duration: Duration,
    pub(crate) keep: bool,
    /// The services are our own, so that each must be found up.
    pub(crate) all_up: bool,
}

/// The steps between which the cluster is watched for a while.
const PAUSES: u32 = 4;

/// A story in progress.
pub(crate) struct Scenario<'a> {
    orchestra: &'a mut Orchestra,
    script: Script,
    findings: Vec<Finding>,
    figures: Vec<(&'static str, String)>,
    /// Monitors that were terminated, and when that was asked.
    terminated: Vec<(String, u64)>,
}

/// Plays the story; `true` if every expectation held. The cluster is gone afterwards.
pub(crate) async fn play(orchestra: &mut Orchestra, script: Script) -> bool {
    let mut scenario =
        Scenario { orchestra, script, findings: Vec::new(), figures: Vec::new(), terminated: Vec::new() };
    let told = scenario.tell().await;
    scenario.finish(told).await
}

impl Scenario<'_> {
    async fn tell(&mut self) -> Result<(), BoxError> {
        self.form().await?;
        self.start_monitors().await?;
        self.pause().await?;
        self.kill_a_node().await?;
        self.pause().await?;
        self.let_a_process_join().await?;
        self.pause().await?;
        self.terminate_a_monitor().await?;
        self.pause().await?;
        if self.script.keep {
            self.terminated.extend(prompt::play_by_hand(self.orchestra).await?);
        }
        Ok(())
    }

    async fn form(&mut self) -> Result<(), BoxError> {
        let count = self.script.nodes;
        self.orchestra.screen.say(format!("starting {count} processes"));
        let began = clock::now();
        let names = (0..count).map(|_| self.orchestra.launch()).collect::<Result<Vec<_>, _>>()?;
        for name in &names {
            self.orchestra.ready(name).await?;
        }
        let met = self.orchestra.until_met(FORMED_WITHIN).await?;
        let seen = met.clone().map_or_else(|text| text, |()| format!("after {}", show(since(began))));
        self.require(met.is_ok(), format!("each of {count} processes knows all as settled members"), seen)
    }

    /// Every monitor is asked of every node at the same moment.
    async fn start_monitors(&mut self) -> Result<(), BoxError> {
        let services = self.orchestra.services.clone();
        let count = services.len();
        self.orchestra.screen.say(format!("asking every node to start all {count} monitors"));
        let mut asked = Vec::new();
        for service in &services {
            asked.push((service.id.clone(), clock::now()));
            let request = Request::Start { id: service.id.clone(), target: service.target.clone() };
            self.orchestra.ask_all(&request).await?;
        }
        let ids = self.wanted();
        let running = self.orchestra.until(STARTED_WITHIN, |history| runs_once(history, &ids)).await?;
        let seen = self.whereabouts();
        self.require(running, format!("all {count} monitors run"), seen)?;

        let history = &self.orchestra.history;
        let first_lines = asked.iter().filter_map(|(id, at)| Some((history.runs_of(id).first()?.started, at)));
        let latencies: Vec<_> = first_lines.map(|(line, at)| Duration::from_nanos(line.saturating_sub(*at))).collect();
        self.expect_at_once("each starts at once", &latencies);
        self.figures.push(("start latency", spread(&latencies)));

        let checked = |history: &History| ids.iter().all(|id| history.last_check(id).is_some());
        let all_checked = self.orchestra.until(STARTED_WITHIN, checked).await?;
        let results = services.iter().filter_map(|service| self.orchestra.history.last_check(&service.id));
        let up = results.filter(|check| check.result.starts_with("up")).count();
        let expected = if self.script.all_up { "every service was found up" } else { "every service was checked" };
        self.expect(all_checked && (up == count || !self.script.all_up), expected, format!("{up} of {count} are up"));
        self.expect_listed().await?;
        let starts = self.orchestra.history.started_since(0).count();
        self.expect(starts == count, "asked for on every node, each was started once", format!("{starts} starts"));
        self.show_table();
        Ok(())
    }

    /// SIGKILL for the node that runs most.
    async fn kill_a_node(&mut self) -> Result<(), BoxError> {
        self.orchestra.look()?;
        let names = self.orchestra.names();
        let busiest = names.into_iter().max_by_key(|name| self.orchestra.history.running_on(name).len());
        let victim = busiest.ok_or("there is no node to kill")?;
        let orphans: BTreeSet<String> =
            self.orchestra.history.running_on(&victim).into_iter().map(str::to_owned).collect();
        self.orchestra.screen.say(format!("killing {victim}, which runs {} monitors", orphans.len()));
        let killed_at = self.orchestra.kill(&victim).await?;

        let ids = self.wanted();
        let taken_over = |history: &History| runs_once(history, &ids) && history.lost_at(&victim).is_some();
        let back = self.orchestra.until(FAILED_OVER_WITHIN, taken_over).await?;
        let seen = self.whereabouts();
        self.require(back, format!("the monitors of {victim} run elsewhere"), seen)?;

        let history = &self.orchestra.history;
        let restarted: Vec<_> = history.started_since(killed_at).cloned().collect();
        let failovers: Vec<_> = restarted.iter().map(|run| Duration::from_nanos(run.started - killed_at)).collect();
        let detection = history.lost_at(&victim).map(|at| Duration::from_nanos(at.saturating_sub(killed_at)));
        self.figures.push(("detection", detection.map_or_else(|| "not seen".into(), show)));
        self.figures.push(("failover", spread(&failovers)));
        let strangers = restarted.iter().filter(|run| !orphans.contains(&run.id)).map(|run| &run.id);
        let seen = format!("{} starts for {} monitors, of others: {}", restarted.len(), orphans.len(), few(strangers));
        let undisturbed = restarted.len() == orphans.len() && restarted.iter().all(|run| orphans.contains(&run.id));
        self.expect(undisturbed, "each of them was started once, and no other monitor was disturbed", seen);
        self.expect_listed().await?;
        self.show_table();
        Ok(())
    }

    async fn let_a_process_join(&mut self) -> Result<(), BoxError> {
        self.orchestra.screen.say("starting a fresh process");
        let began = clock::now();
        let fresh = self.orchestra.launch()?;
        self.orchestra.ready(&fresh).await?;
        let met = self.orchestra.until_met(FORMED_WITHIN).await?;
        let seen = met.clone().map_or_else(|text| text, |()| format!("after {}", show(since(began))));
        self.expect(met.is_ok(), format!("{fresh} and the others know each other"), seen);

        let ids = self.wanted();
        let met_at = clock::now();
        let must_move = ids.len() >= MOVE_EXPECTED_FROM;
        let moved = |history: &History| {
            runs_once(history, &ids)
                && since(history.last_change().max(met_at)) > QUIET
                && (!must_move || !history.running_on(&fresh).is_empty())
        };
        let moved = self.orchestra.until(MOVED_WITHIN, moved).await?;
        let seen = self.whereabouts();
        self.require(moved, format!("work moves to {fresh}"), seen)?;

        let history = &self.orchestra.history;
        let moves: Vec<_> = history.started_since(began).cloned().collect();
        let gaps = history.gaps(&moves);
        let elsewhere = moves.iter().filter(|run| run.node != fresh).map(|run| format!("{} to {}", run.id, run.node));
        let seen = format!("{} moves, elsewhere: {}", moves.len(), few(elsewhere));
        self.expect(moves.iter().all(|run| run.node == fresh), "and only there", seen);
        self.expect_at_once("each hand-over is done at once", &gaps);
        self.figures.push(("hand-over", spread(&gaps)));
        self.expect_listed().await?;
        self.show_table();
        Ok(())
    }

    /// From a node that does not run it.
    async fn terminate_a_monitor(&mut self) -> Result<(), BoxError> {
        let names = self.orchestra.names();
        let running = self.orchestra.history.running().next().ok_or("no monitor runs")?.clone();
        let via = names.into_iter().find(|name| *name != running.node).ok_or("there is no other node")?;
        self.orchestra.screen.say(format!("terminating {}, which {} runs, from {via}", running.id, running.node));
        let asked = clock::now();
        self.orchestra.ask(&via, &Request::Terminate { id: running.id.clone() }).await?;
        self.terminated.push((running.id.clone(), asked));
        let ended = |history: &History| history.running().all(|run| run.id != running.id);
        let ended = self.orchestra.until(TERMINATED_WITHIN, ended).await?;
        let runs = self.orchestra.history.runs_of(&running.id);
        let stopped = runs.last().and_then(|run| run.stopped).map(|at| Duration::from_nanos(at.saturating_sub(asked)));
        let seen = stopped.map_or_else(|| "it runs on".into(), |time| format!("after {}", show(time)));
        self.figures.push(("termination", stopped.map_or_else(|| "not seen".into(), show)));
        self.require(ended, format!("{} ends on {}", running.id, running.node), seen)?;
        self.orchestra.services.retain(|service| service.id != running.id);
        self.expect_listed().await
    }

    /// Stops everything and judges the whole story.
    async fn finish(mut self, told: Result<(), BoxError>) -> bool {
        if let Err(error) = told {
            self.expect(false, "the story is told to its end", error.to_string());
        }
        self.orchestra.screen.say("stopping every process");
        let stopped = self.orchestra.stop().await;
        let seen = stopped.as_ref().map_or_else(|error| error.to_string(), |()| "they did".into());
        self.expect(stopped.is_ok(), "the processes end in order when told to", seen);

        let history = &self.orchestra.history;
        let overlaps = history.overlaps();
        let twice = overlaps.iter().map(|overlap| &overlap.id).collect::<BTreeSet<_>>().len();
        let still_running = few(history.running().map(|run| format!("{} on {}", run.id, run.node)));
        let orderly = history.running().next().is_none();
        let epochs = history.epochs_not_rising();
        let back: Vec<_> = self.terminated.iter().filter(|(id, at)| restarted_after(history, id, *at)).collect();
        let back = few(back.into_iter().map(|(id, _)| id));
        self.expect(orderly, "every run has written its last line", format!("missing: {still_running}"));
        self.expect(
            epochs.is_empty(),
            "every run of a monitor has a higher epoch than the last",
            few_or(epochs, "it has"),
        );
        self.expect(back == "none", "no terminated monitor came back", back.clone());
        self.expect(twice == 0, "no monitor ever ran twice at the same time", few_or(overlaps, "none did"));
        self.figures.push(("children run twice", twice.to_string()));
        self.summarize()
    }

    fn summarize(self) -> bool {
        let screen = &mut self.orchestra.screen;
        screen.print("\nsummary, by the monitors' own first and last lines");
        for (name, value) in &self.figures {
            screen.print(&format!("    {name:18}  {value}"));
        }
        let failed: Vec<_> = self.findings.iter().filter(|finding| !finding.held).collect();
        match failed.as_slice() {
            [] => screen.print(&format!("every one of {} expectations held", self.findings.len())),
            failed => {
                screen.print(&format!("{} of {} expectations FAILED:", failed.len(), self.findings.len()));
                failed.iter().for_each(|finding| screen.print(&format!("    {finding}")));
            }
        }
        failed.is_empty()
    }

    /// Notes and prints an expectation.
    fn expect(&mut self, held: bool, expected: impl Into<String>, seen: impl Into<String>) {
        let finding = Finding { held, expected: expected.into(), seen: seen.into() };
        self.orchestra.screen.say(finding.to_string());
        self.findings.push(finding);
    }

    /// An expectation without which the story can't go on.
    fn require(&mut self, held: bool, expected: impl Into<String>, seen: impl Into<String>) -> Result<(), BoxError> {
        let expected = expected.into();
        self.expect(held, expected.clone(), seen);
        if held { Ok(()) } else { Err(format!("it broke off, because not {expected:?}").into()) }
    }

    fn expect_at_once(&mut self, expected: &str, times: &[Duration]) {
        let held = times.iter().all(|time| *time <= AT_ONCE);
        self.expect(held, format!("{expected} (at most {})", show(AT_ONCE)), spread(times));
    }

    async fn expect_listed(&mut self) -> Result<(), BoxError> {
        let listed = self.orchestra.until_listed(LISTED_WITHIN).await?;
        let seen = listed.clone().map_or_else(|text| text, |()| "they do".into());
        self.expect(listed.is_ok(), "all nodes list what really runs", seen);
        Ok(())
    }

    fn wanted(&self) -> BTreeSet<String> {
        self.orchestra.services.iter().map(|service| service.id.clone()).collect()
    }

    /// How many monitors each node runs, or which ran twice.
    fn whereabouts(&self) -> String {
        let history = &self.orchestra.history;
        let overlaps = history.overlaps();
        if !overlaps.is_empty() {
            return few(overlaps);
        }
        let counts = self.orchestra.names().into_iter().map(|name| (history.running_on(&name).len(), name));
        counts.map(|(count, name)| format!("{count} on {name}")).collect::<Vec<_>>().join(", ")
    }

    fn show_table(&mut self) {
        let table = self.orchestra.table();
        self.orchestra.screen.keep(&table);
    }

    async fn pause(&mut self) -> Result<(), BoxError> {
        self.orchestra.watch(self.script.duration / PAUSES).await
    }
}

fn since(time: u64) -> Duration {
    Duration::from_nanos(clock::now().saturating_sub(time))
}

/// Whether exactly these monitors run, each once.
fn runs_once(history: &History, ids: &BTreeSet<String>) -> bool {
    let mut running: Vec<_> = history.running().map(|run| &run.id).collect();
    running.sort();
    running.into_iter().eq(ids)
}

/// Whether a terminated monitor ran again. The cluster is at rest when a termination is asked, so nothing was on its
/// way.
fn restarted_after(history: &History, id: &str, asked: u64) -> bool {
    history.started_since(asked).any(|run| run.id == id)
}

fn few_or<T: std::fmt::Display>(items: Vec<T>, otherwise: &str) -> String {
    if items.is_empty() { otherwise.into() } else { few(items) }
}
