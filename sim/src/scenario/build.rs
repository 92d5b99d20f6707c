//! Scenarios in code, for tests of a service that embeds haulout: the same as a file says, in a chain of calls.

use std::fs;
use std::path::Path;
use std::time::Duration;

use haulout::Config;

use super::{Act, Expect, How, KindPlan, RunPlan, Scenario, ScenarioError, SpecPlan, Timed, config};
use crate::network::{Class, Link};
use crate::run::{Ran, Settings, run};

impl Scenario {
    /// Reads a scenario file, or the `scenario.toml` of a run directory, and checks it.
    ///
    /// # Errors
    /// If it can't be read or run; the message names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let file = if path.is_dir() { path.join("scenario.toml") } else { path.to_owned() };
        let wrong = |what: String| ScenarioError(format!("{}: {what}", file.display()));
        let text = fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
        text.parse().map_err(|error: ScenarioError| wrong(error.0))
    }

    /// With so many nodes, `node-0`, `node-1` and so on.
    #[must_use]
    pub fn with_nodes(mut self, count: usize) -> Self {
        self.cluster.count = count;
        self
    }

    /// With a scope that every node joins beside the first one.
    #[must_use]
    pub fn with_scope(mut self, name: &str) -> Self {
        self.cluster.scopes.push(name.into());
        self
    }

    /// With the configuration of a service. Name, addresses, seeds and security are those of the simulation.
    #[must_use]
    pub fn with_config(mut self, given: &Config) -> Self {
        let Config { name, bind, advertise, seeds, security, .. } = config();
        self.config = Config { name, bind, advertise, seeds, security, ..given.clone() };
        self
    }

    /// With links like this.
    #[must_use]
    pub fn with_network(mut self, link: Link) -> Self {
        self.network = link;
        self
    }

    /// With children of this kind that behave like this: a [`RunPlan`] if all runs go the same way to the end, a
    /// [`KindPlan`] if they differ, or behave once everything heals.
    #[must_use]
    pub fn with_kind(mut self, kind: &str, plan: impl Into<KindPlan>) -> Self {
        self.kinds.insert(kind.into(), plan.into());
        self
    }

    /// Faults and calls go on for so long; then everything heals and must converge.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Something happens so long after the beginning.
    #[must_use]
    pub fn at(self, at: Duration, act: Act) -> Self {
        self.at_in("", at, act)
    }

    /// A user calls so long after the beginning, in one of the further scopes.
    #[must_use]
    pub fn at_in(mut self, scope: &str, at: Duration, act: Act) -> Self {
        let place = self.events.partition_point(|timed| timed.at <= at);
        self.events.insert(place, Timed { scope: scope.into(), ..Timed::new(at, act) });
        self
    }

    /// This must hold beside the invariants.
    #[must_use]
    pub fn expecting(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Runs it to its end and judges it, as [`run`] does.
    ///
    /// # Panics
    /// If it does not pass its own [`check`](Self::check).
    pub fn run(&self) -> Ran {
        run(self, Settings::default())
    }
}

impl From<RunPlan> for KindPlan {
    /// All runs go like this, also when everything else has healed.
    fn from(run: RunPlan) -> Self {
        KindPlan { for_ever: true, runs: vec![run] }
    }
}

impl Act {
    /// A user of node `on` starts a child of this kind.
    pub fn start(id: &str, kind: &str, on: &str) -> Self {
        Act::Start { id: id.into(), on: on.into(), replicated: 0, spec: SpecPlan::of_kind(kind) }
    }

    /// A user of node `on` starts so many children of this kind, `id-0`, `id-1` and so on.
    pub fn start_many(id: &str, count: usize, kind: &str, on: &str) -> Self {
        Act::StartMany { id: id.into(), on: on.into(), count, spec: SpecPlan::of_kind(kind) }
    }

    /// A user of node `on` terminates a child.
    pub fn terminate(id: &str, on: &str) -> Self {
        Act::Terminate { id: id.into(), on: on.into(), replicated: 0 }
    }

    /// A process is killed and started again so much later.
    pub fn crash(node: &str, lasting: Duration) -> Self {
        Act::down(node, How::Crash, lasting)
    }

    /// A machine loses power and comes back so much later.
    pub fn power_loss(node: &str, lasting: Duration) -> Self {
        Act::down(node, How::Power, lasting)
    }

    /// A node leaves and comes back so much later, or when it has left.
    pub fn leave(node: &str, lasting: Duration) -> Self {
        Act::down(node, How::Leave, lasting)
    }

    /// A process is stopped (SIGSTOP) for so long.
    pub fn pause(node: &str, lasting: Duration) -> Self {
        Act::Pause { node: node.into(), resume: None, lasting: Some(lasting) }
    }

    /// The nodes fall into groups that can't talk for so long; who is in none can talk to all.
    pub fn split(sides: &[&[&str]], lasting: Duration) -> Self {
        let sides = sides.iter().map(|side| side.iter().map(|name| (*name).into()).collect()).collect();
        Act::Split { sides, class: Class::All, flap: None, lasting: Some(lasting) }
    }

    /// All links are like this for so long.
    pub fn weather(link: Link, lasting: Duration) -> Self {
        Act::Weather { link, lasting: Some(lasting) }
    }

    fn down(node: &str, how: How, lasting: Duration) -> Self {
        Act::Down { node: node.into(), how, lasting: Some(lasting) }
    }
}

impl SpecPlan {
    fn of_kind(kind: &str) -> Self {
        SpecPlan { kind: kind.into(), ..SpecPlan::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn what_is_built_is_what_a_file_says() {
        let built = Scenario::new(7)
            .with_nodes(4)
            .with_kind("mailer", RunPlan::default())
            .lasting(secs(20))
            .at(secs(5), Act::crash("node-1", secs(2)))
            .at(secs(1), Act::start("a", "mailer", "node-0"))
            .with_scope("second")
            .at_in("second", secs(2), Act::terminate("a", "node-2"))
            .at(secs(5), Act::split(&[&["node-0"], &["node-2", "node-3"]], secs(3)));
        let written: Scenario = r#"
            seed = 7
            duration = "20s"
            events = [
              { at = "1s", do = "start", id = "a", on = "node-0", spec = { kind = "mailer" } },
              { at = "2s", scope = "second", do = "terminate", id = "a", on = "node-2" },
              { at = "5s", do = "down", node = "node-1", for = "2s" },
              { at = "5s", do = "split", sides = [["node-0"], ["node-2", "node-3"]], for = "3s" },
            ]
            [cluster]
            count = 4
            scopes = ["second"]
            [kinds.mailer]
            for_ever = true
            runs = [{}]
        "#
        .parse()
        .expect("a scenario");
        assert_eq!(built, written);
    }

    #[test]
    fn the_configuration_of_a_service_is_taken_without_its_addresses() {
        let service = Config {
            name: Some("checkout-2".into()),
            bind: SocketAddr::from(([0, 0, 0, 0], 7946)),
            seeds: vec!["10.0.0.11:7946".into()],
            sync_interval: secs(9),
            ..Config::default()
        };
        assert!(service.check().is_err(), "it needs an address that it is reached by");
        let scenario = Scenario::new(1).with_config(&service);
        assert_eq!(scenario.config, Config { sync_interval: secs(9), ..config() });
        assert_eq!(scenario.check(), Ok(()));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Scenario::read("no/such.toml").expect_err("it is not there");
        assert!(error.to_string().starts_with("no/such.toml: "), "{error}");
    }
}
