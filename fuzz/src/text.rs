//! Files that people write.

use haulout::Config;
use haulout_sim::Scenario;

/// A configuration: what can be read is checked without a panic, and read back as it was written.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = toml::from_str::<Config>(text) else { return };
    if let Err(error) = config.check() {
        assert!(!error.reasons.is_empty());
    }
    let written = toml::to_string(&config).expect("what was read can be written");
    let read: Config = toml::from_str(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(read, config, "{written}");
}

/// A scenario of the simulator: what can be read and passes its check is read back as it was written.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(scenario) = text.parse::<Scenario>() else { return };
    let written = scenario.to_string();
    let read: Scenario = written.parse().unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(read, scenario, "{written}");
}
