//! A scenario on processes: its steps at their times, then the end of all faults, then convergence.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use haulout::BoxError;
use haulout::proto::Time;
use haulout_sim::Scenario;
use tokio::time::sleep;

use super::figures::Figures;
use super::links::Links;
use super::record::Record;
use super::script::Step;
use super::stage::Stage;
use crate::clock;
use crate::control::Request;
use crate::journal::What;

/// How long everything may take to converge when all faults are over; far more than it should take, for loaded machines.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(40);

/// How often it is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A scenario under way.
struct Play {
    stage: Stage,
    record: Record,
    began: u64,
    first_fault: Option<u64>,
}

/// Plays a scenario; its figures, and the promises that were broken, in words.
pub(crate) async fn play(
    scenario: &Scenario,
    steps: &[(Duration, Step)],
    number: u8,
    dir: &Path,
) -> Result<(Figures, Vec<String>), BoxError> {
    let mut stage = Stage::build(scenario, number, dir).await?;
    let names = stage.names();
    stage.start(&names).await?;
    let began = clock::now();
    let mut play = Play { stage, record: Record::new(began, names), began, first_fault: None };
    for (at, step) in steps {
        play.wait_until(*at).await;
        play.take(step).await?;
    }
    play.wait_until(scenario.duration).await;
    let healing = clock::now();
    play.heal().await?;
    let healed = play.record.time(clock::now());
    play.converge().await?;
    let converged = Duration::from_nanos(clock::now() - healing);
    let (figures, mut broken) = play.judge(healed)?;
    let figures = Figures { convergence: Some(converged), ..figures };
    broken.extend(figures.beyond(&scenario.expect));
    let running = play.record.desired.len();
    if let Some(count) = scenario.expect.count.filter(|count| *count != running) {
        broken.push(format!("{running} monitors run in the end instead of {count}"));
    }
    play.stage.end().await?;
    Ok((figures, broken))
}

impl Play {
    async fn wait_until(&self, at: Duration) {
        let passed = Duration::from_nanos(clock::now() - self.began);
        sleep(at.saturating_sub(passed)).await;
    }

    async fn take(&mut self, step: &Step) -> Result<(), BoxError> {
        let now = clock::now();
        if step.is_fault() {
            self.first_fault.get_or_insert(now);
        }
        match step {
            Step::Go(name, how) => self.stage.go(name, *how).await?,
            Step::Readdress(name) => self.stage.readdress(name).await?,
            Step::Back(name) => self.stage.back(std::slice::from_ref(name)).await?,
            Step::Pause(name) => self.pause(name, true)?,
            Step::Resume(name) => self.pause(name, false)?,
            Step::Links(links) => self.link(links).await?,
            Step::Start { id, on } => {
                if self.stage.call(on, Stage::start_of(id)).await?.is_some() {
                    self.record.started(id);
                }
            }
            Step::Terminate { id, on } => {
                if self.stage.call(on, Request::Terminate { id: id.clone() }).await?.is_some() {
                    self.record.terminated(id, on, now)?;
                }
            }
        }
        Ok(())
    }

    fn pause(&mut self, name: &str, paused: bool) -> Result<(), BoxError> {
        let now = clock::now();
        match (self.stage.pause(name, paused)?, paused) {
            (true, true) => self.record.paused(name, now),
            (true, false) => self.record.resumed(name, now),
            (false, _) => {}
        }
        Ok(())
    }

    async fn link(&mut self, links: &Links) -> Result<(), BoxError> {
        let before = clock::now();
        self.stage.link(links).await?;
        // Filters are set one host after the other: what there was lasts until all are, what comes begins before.
        self.record.linked(links, before, clock::now());
        Ok(())
    }

    /// Ends every fault; what is down comes back.
    async fn heal(&mut self) -> Result<(), BoxError> {
        self.link(&Links::new()).await?;
        let names = self.stage.names();
        for name in &names {
            self.pause(name, false)?;
        }
        self.stage.back(&names).await
    }

    /// Waits until all agree, and until what they agree on is what really runs.
    async fn converge(&mut self) -> Result<(), BoxError> {
        let deadline = clock::now() + CONVERGENCE_TIMEOUT.as_nanos() as u64;
        loop {
            let obstacle = match self.stage.agree(&self.record.desired).await {
                Ok(places) => self.differs_from(places)?,
                Err(obstacle) => Some(obstacle),
            };
            match obstacle {
                None => return Ok(()),
                Some(why) if clock::now() > deadline => {
                    return Err(format!("it had not converged after {CONVERGENCE_TIMEOUT:?}: {why}").into());
                }
                Some(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    fn differs_from(&mut self, places: BTreeMap<String, String>) -> Result<Option<String>, BoxError> {
        self.stage.look()?;
        let journal = self.record.journal(self.stage.entries(), self.stage.kills())?;
        let running = self.record.running(&journal);
        let listed: BTreeMap<_, _> = places.into_iter().map(|(id, node)| (id, vec![node])).collect();
        let wrong = running.iter().find(|(id, nodes)| listed.get(*id) != Some(nodes));
        let missing = listed.keys().find(|id| !running.contains_key(*id));
        Ok(match (wrong, missing) {
            (Some((id, nodes)), _) => Some(format!("{id} runs on {nodes:?} and is listed on {:?}", listed.get(id))),
            (None, Some(id)) => Some(format!("{id} is listed and runs nowhere")),
            (None, None) => None,
        })
    }

    fn judge(&mut self, healed: Time) -> Result<(Figures, Vec<String>), BoxError> {
        self.stage.look()?;
        let entries = self.stage.entries();
        let journal = self.record.journal(entries, self.stage.kills())?;
        let losses: Vec<Time> =
            entries.iter().filter(|entry| entry.what == What::Lost).map(|entry| self.record.time(entry.at)).collect();
        let fault = self.record.time(self.first_fault.unwrap_or(self.began));
        let now = self.record.time(clock::now());
        let figures = Figures::of(&journal, self.record.history(), now, fault, &losses);
        Ok((figures, self.record.broken(&journal, healed)))
    }
}
