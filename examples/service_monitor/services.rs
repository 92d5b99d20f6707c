//! The services to be monitored: those of a file, or small listeners of our own.

use std::collections::BTreeSet;
use std::path::Path;

use haulout::BoxError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Something that listens on TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The id of its monitor.
    pub(crate) id: String,
    /// `host:port`.
    pub(crate) target: String,
}

/// Reads one `host:port` per line; `#` begins a comment.
pub(crate) fn from_file(path: &Path) -> Result<Vec<Service>, BoxError> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn parse(text: &str) -> Result<Vec<Service>, String> {
    let mut seen = BTreeSet::new();
    let mut services = Vec::new();
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let target = line.split('#').next().unwrap_or_default().trim();
        if target.is_empty() {
            continue;
        }
        let number = index + 1;
        match check_target(target) {
            Err(error) => wrong.push(format!("line {number}: {error}")),
            Ok(()) if !seen.insert(target) => wrong.push(format!("line {number}: {target} is listed twice")),
            Ok(()) => services.push(Service { id: target.into(), target: target.into() }),
        }
    }
    match (wrong.is_empty(), services.is_empty()) {
        (false, _) => Err(wrong.join("; ")),
        (true, true) => Err("it lists no service".into()),
        (true, false) => Ok(services),
    }
}

/// Whether it reads as `host:port`.
pub(crate) fn check_target(target: &str) -> Result<(), String> {
    let port = target.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) if !target.contains(char::is_whitespace) && target.len() <= 255 => Ok(()),
        _ => Err(format!("{target:?} is not host:port")),
    }
}

/// Listeners of our own, closed when dropped.
pub(crate) struct OwnServices {
    _listeners: JoinSet<()>,
}

/// Opens `count` listeners on loopback that greet whoever connects.
pub(crate) async fn own(count: usize) -> Result<(Vec<Service>, OwnServices), BoxError> {
    let mut listeners = JoinSet::new();
    let mut services = Vec::new();
    for number in 1..=count {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        services.push(Service { id: format!("service-{number:02}"), target: listener.local_addr()?.to_string() });
        listeners.spawn(greet(listener));
    }
    Ok((services, OwnServices { _listeners: listeners }))
}

async fn greet(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        // Whoever hangs up early misses the greeting, nothing else.
        let _ = stream.write_all(b"hello\r\n").await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_hold_comments_and_blank_lines() -> Result<(), String> {
        let services = parse("# mail\nmail.example:25\n\n  [::1]:80 # web\n")?;
        let targets: Vec<_> = services.iter().map(|service| service.target.as_str()).collect();
        assert_eq!(targets, ["mail.example:25", "[::1]:80"]);
        Ok(())
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_line() {
        for (text, reason) in [
            ("", "it lists no service"),
            ("a:1\nb", "line 2: \"b\" is not host:port"),
            ("a:0", "line 1: \"a:0\" is not host:port"),
            (":80", "line 1: \":80\" is not host:port"),
            ("a:1\na:1", "line 2: a:1 is listed twice"),
        ] {
            assert_eq!(parse(text), Err(reason.into()));
        }
    }
}
