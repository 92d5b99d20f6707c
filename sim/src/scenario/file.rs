//! Scenarios as files: TOML that people read, one line per event.

use std::fmt::{self, Display, Write};
use std::str::FromStr;

use super::{Scenario, ScenarioError};

impl FromStr for Scenario {
    type Err = ScenarioError;

    /// Reads a scenario and checks it.
    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Scenario = toml::from_str(text).map_err(|error| ScenarioError(error.to_string()))?;
        // What happens at one moment keeps its order.
        scenario.events.sort_by_key(|timed| timed.at);
        scenario.check()?;
        Ok(scenario)
    }
}

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = toml::Table::try_from(self).map_err(|_| fmt::Error)?;
        table.remove("events");
        let nodes = table.get_mut("cluster").and_then(|cluster| cluster.as_table_mut()?.remove("nodes"));
        let is_simple = |value: &toml::Value| !value.is_table();
        // Simple values come before tables in TOML, and lists with a line per entry can't be had from the serializer.
        for (key, value) in table.iter().filter(|(_, value)| is_simple(value)) {
            writeln!(f, "{key} = {value}")?;
        }
        list(f, "events", self.events.iter())?;
        for (key, value) in table.iter().filter(|(_, value)| !is_simple(value)) {
            let text = toml::to_string(&toml::Table::from_iter([(key.clone(), value.clone())]));
            write!(f, "\n{}", text.map_err(|_| fmt::Error)?)?;
            if key == "cluster"
                && let Some(toml::Value::Array(nodes)) = &nodes
            {
                // Behind the sub-tables of the cluster, which end it.
                for node in nodes.iter().filter_map(toml::Value::as_table) {
                    f.write_str("\n[[cluster.nodes]]\n")?;
                    node.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))?;
                }
            }
        }
        Ok(())
    }
}

fn list<T: Display>(f: &mut fmt::Formatter<'_>, key: &str, items: impl ExactSizeIterator<Item = T>) -> fmt::Result {
    if items.len() == 0 {
        return Ok(());
    }
    let mut text = format!("{key} = [\n");
    for item in items {
        writeln!(text, "  {item},")?;
    }
    writeln!(f, "{text}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Draw, Profile};

    #[test]
    fn what_a_seed_was_expanded_to_is_read_back_as_it_was_written() {
        for seed in 0..50 {
            let scenario = Draw::seeded(seed).scenario();
            let text = scenario.to_string();
            let read: Scenario = text.parse().unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
            assert_eq!(read, scenario, "seed {seed}\n{text}");
        }
        let rest = Draw { profile: Profile::Rest, ..Draw::seeded(1) }.scenario();
        assert_eq!(rest.to_string().parse(), Ok(rest));
    }

    #[test]
    fn mistakes_are_refused_with_what_and_where() {
        for (text, message) in [
            ("duration = \"1s\"\nsed = 1", "unknown field `sed`"),
            ("seed = 1", "duration"),
            ("duration = \"1s\"\nevents = [{ at = \"2s\", do = \"ring\" }]", "behind the end"),
            ("duration = \"9s\"\nevents = [{ at = \"2s\", do = \"dance\" }]", "dance"),
            ("duration = \"9s\"\nevents = [{ at = \"2s\", do = \"down\", node = \"x\" }]", "there is no node x"),
            ("duration = \"9s\"\nevents = [{ at = \"2s\", do = \"down\", nod = \"node-0\" }]", "nod"),
            ("duration = \"9s\"\nevents = [{ at = \"2s\", do = \"cut\", links = [\"a-b\"] }]", "a=b"),
            ("duration = \"9s\"\nevents = [{ do = \"ring\" }]", "`at`"),
            ("duration = \"9s\"\nevents = [{ at = \"2s\", do = \"readdress\", node = \"node-1\" }]", "seeds keep"),
            (
                "duration = \"9s\"\nevents = [{ at = \"2s\", do = \"ring\", scope = \"x\" }]",
                "only calls are in a scope",
            ),
            (
                "duration = \"9s\"\nevents = [{ at = \"2s\", do = \"read\", id = \"a\", on = \"node-0\", scope = \"x\" }]",
                "there is no scope x",
            ),
            ("duration = \"9s\"\n[cluster]\nscopes = [\"a\", \"a\"]", "there are two scopes a"),
            ("duration = \"9s\"\n[[cluster.nodes]]\nname = \"a\"\nscopes = { x = 100 }", "there is no scope x"),
            ("duration = \"9s\"\n[cluster]\ncount = 0", "a cluster needs a node"),
            ("duration = \"9s\"\n[cluster]\ncount = 900000000", "900000000 nodes are too many"),
            ("duration = \"9s\"\n[cluster]\nsites = { drop-piggyback = nan }", "drop-piggyback fires with NaN"),
            ("duration = \"9s\"\n[network]\nloss = 1.5", "1.5 is no probability"),
            ("duration = \"9s\"\n[cluster]\nwithout = [\"x\"]", "no rule is called x"),
            ("duration = \"9s\"\n[cluster]\nsites = { x = 0.1 }", "no fault site is called x"),
            ("duration = \"9s\"\n[config]\nsync_interval = \"0s\"", "sync_interval"),
        ] {
            let error = text.parse::<Scenario>().expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
