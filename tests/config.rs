//! The configuration as an operator writes it: a TOML file, durations as text, and one answer that names every
//! mistake at once.

use std::time::Duration;

use haulout::{Config, Key, Profile, Security};

#[test]
fn an_empty_file_is_the_default() {
    let config: Config = toml::from_str("").unwrap();
    assert_eq!(config, Config::default());
    config.check().unwrap();
}

#[test]
fn a_full_file_is_read_and_written_back_unchanged() {
    let text = r#"
        cluster = "reef"
        name = "seal-1"
        bind = "0.0.0.0:7946"
        advertise = "10.0.0.5:7946"
        seeds = ["10.0.0.5:7946", "seals.example:7946", "[fd00::5]:7946"]
        profile = "wan"
        sync_interval = "250ms"
        settle_timeout = "never"
        confirm_timeout = "1200ms"
        start_timeout = "1m 30s"
        leave_timeout = "8s"
        backoff_min = "1s"
        backoff_max = "5m"
        check_source = true

        [security]
        mode = "plaintext"
        allow_beyond_loopback = true

        [limits]
        streams_max = 64
        datagram_buffer_bytes = 1_048_576
    "#;
    let config: Config = toml::from_str(text).unwrap();
    config.check().unwrap();
    assert_eq!(config.profile, Profile::Wan);
    assert_eq!(config.sync_interval, Duration::from_millis(250));
    assert_eq!(config.settle_timeout, None);
    assert_eq!(config.confirm_timeout, Some(Duration::from_millis(1_200)));
    assert_eq!(config.start_timeout, Duration::from_secs(90));
    assert_eq!(config.security, Security::Plaintext { allow_beyond_loopback: true });
    assert!(config.check_source);
    assert_eq!((config.limits.streams_max, config.limits.datagram_buffer_bytes), (64, 1 << 20));
    let written = toml::to_string(&config).unwrap();
    assert!(written.contains("sync_interval = \"250ms\""), "{written}");
    assert_eq!(toml::from_str::<Config>(&written).unwrap(), config);
}

#[test]
fn a_file_that_can_not_be_read_says_which_field_and_what_is_expected() {
    for (text, expected) in [
        ("sync_interval = \"5 parsecs\"", "\"5s\""),
        ("sync_interval = 5", "\"5s\""),
        ("settle_timeout = \"forever\"", "never"),
        ("sync_intervall = \"5s\"", "sync_intervall"),
        ("profile = \"moon\"", "moon"),
        ("bind = \"localhost\"", "bind"),
        ("[security]\nmode = \"hope\"", "hope"),
        ("[limits]\nstreams = 5", "streams"),
        ("[security]\nmode = \"keyring\"\nkeys = [\"secret\"]", "44 characters of base64"),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// Every field is wrong; each must be named, in one answer, with what to change.
#[test]
fn every_wrong_field_is_named_at_once() {
    let mut config = Config {
        cluster: String::new(),
        name: Some("n".repeat(256)),
        bind: "0.0.0.0:7946".parse().unwrap(),
        advertise: None,
        seeds: vec!["seal".into(), ":7946".into(), "seal:port".into(), "seal:0".into()],
        profile: Profile::Lan,
        sync_interval: Duration::from_millis(1),
        settle_timeout: Some(Duration::from_secs(86_400)),
        confirm_timeout: Some(Duration::from_secs(60)),
        start_timeout: Duration::ZERO,
        leave_timeout: Duration::from_secs(1_000_000),
        backoff_min: Duration::ZERO,
        backoff_max: Duration::from_secs(1_000_000),
        security: Security::default(),
        check_source: false,
        limits: haulout::Limits {
            scopes_max: 0,
            members_max: 0,
            children_max: 0,
            streams_max: 0,
            stream_backlog_bytes_max: 0,
            datagram_buffer_bytes: 0,
            waiting_calls_max: 0,
            starting_max: 0,
        },
    };
    let expected = [
        "cluster has 0 bytes",
        "name has 256 bytes",
        "set advertise",
        "\"seal\" is not host:port",
        "\":7946\" is not host:port",
        "\"seal:port\" is not host:port",
        "\"seal:0\" is not host:port",
        "not loopback",
        "sync_interval is 1ms, set it to 50ms to 1h",
        "settle_timeout is 1day",
        "confirm_timeout is 1m, set it to 10ms to 1s 250ms",
        "start_timeout is 0s",
        "leave_timeout is",
        "backoff_min is 0s",
        "backoff_max is",
        "limits.scopes_max is 0, set it to 1 to",
        "limits.members_max is 0",
        "limits.children_max is 0",
        "limits.streams_max is 0",
        "limits.stream_backlog_bytes_max is 0",
        "limits.waiting_calls_max is 0",
        "limits.datagram_buffer_bytes is 0",
        "limits.starting_max is 0",
    ];
    let error = config.check().unwrap_err();
    for reason in expected {
        assert!(error.reasons.iter().any(|told| told.contains(reason)), "{reason:?} is missing in {error}");
        assert!(error.to_string().contains(reason));
    }
    assert_eq!(error.reasons.len(), expected.len(), "{:#?}", error.reasons);

    config.advertise = Some("[::]:7946".parse().unwrap());
    let error = config.check().unwrap_err().to_string();
    assert!(error.contains("advertise is [::]:7946") && error.contains("different IP versions"), "{error}");
}

/// Goal: nobody is exposed without knowing it, and the refusal says both ways out. Method: an address of a network.
#[test]
fn beyond_loopback_a_node_needs_a_key_or_plaintext_allowed_by_name() {
    let mut config = Config { bind: "192.0.2.1:7946".parse().unwrap(), ..Config::default() };
    let error = config.check().unwrap_err().to_string();
    for way_out in ["head -c 32 /dev/urandom | base64", "haulout::Key::generate()", "allow_beyond_loopback = true"] {
        assert!(error.contains(way_out), "{error}");
    }
    config.security = Security::Keyring { keys: vec![Key::new([1; 32])], file: None, env: None };
    config.check().unwrap();
    config.security = Security::Plaintext { allow_beyond_loopback: true };
    config.check().unwrap();
}

/// Goal: a keyring is read from a file and never shown by accident. Method: keys, a file and a variable; a keyring that
/// names none of them, and one that is too long.
#[test]
fn a_keyring_is_read_checked_and_not_shown() {
    let text = r#"
        bind = "192.0.2.1:7946"
        [security]
        mode = "keyring"
        keys = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
        file = "/etc/haulout/keys"
        env = "HAULOUT_KEYS"
    "#;
    let config: Config = toml::from_str(text).unwrap();
    config.check().unwrap();
    let key = Key::new(std::array::from_fn(|n| n as u8));
    let (file, env) = (Some("/etc/haulout/keys".into()), Some("HAULOUT_KEYS".into()));
    assert_eq!(config.security, Security::Keyring { keys: vec![key.clone()], file, env });
    assert!(!format!("{config:?}").contains("AAEC") && toml::to_string(&config).unwrap().contains("AAEC"));

    for (text, expected) in [
        ("mode = \"keyring\"", "names no keys, file or env"),
        (&format!("mode = \"keyring\"\nkeys = {:?}", vec![key.to_base64(); 17]), "security.keys has 17 keys"),
    ] {
        let config: Config = toml::from_str(&format!("[security]\n{text}")).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("AAEC"), "{error}");
    }
}

/// Goal: the configuration that the README shows is one. Method: find the block of TOML that names a cluster.
#[test]
fn the_file_in_the_readme_is_read_and_can_be_used() {
    let blocks = include_str!("../README.md").split("```toml\n").skip(1);
    let block = blocks.filter_map(|rest| rest.split("```").next()).find(|block| block.contains("cluster ="));
    let config: Config = toml::from_str(block.unwrap()).unwrap();
    config.check().unwrap();
    assert_eq!(config.seeds.len(), 3);
}
