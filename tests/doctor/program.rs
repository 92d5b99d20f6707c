//! The program as an operator runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::ports::free_addr;
use crate::{config, start};

/// A configuration in a file, removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("haulout-doctor-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("a file can be written");
        File(path)
    }

    fn of_seed(name: &str, seed: SocketAddr) -> Self {
        File::new(name, &format!("name = {name:?}\nseeds = [\"{seed}\"]\n"))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_haulout-doctor")).args(arguments).output().expect("it was built")
}

/// Goal: scripts can tell what came of it from the exit code, and people from the lines.
/// Method: a node that runs, a port at which none does, and what is no configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_says_what_came_of_it() {
    let node = start(config("node", &[])).await;
    let file = File::of_seed("here", node.addr());
    let well = tokio::task::spawn_blocking(move || run(&["check", "--config", file.0.to_str().expect("a path")]));
    let well = well.await.expect("it ends");
    let lines = String::from_utf8_lossy(&well.stdout);
    assert_eq!(well.status.code(), Some(0), "{lines}");
    assert!(lines.contains(&format!("ok      udp       to {}: 128 bytes there and back", node.addr())), "{lines}");

    let closed = File::of_seed("closed", free_addr());
    let failed = run(&["check", "--config", closed.0.to_str().expect("a path")]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stdout).contains("FAILED  tcp"));

    let wrong = File::new("wrong", "port = 7946\n");
    for arguments in [&[][..], &["check"], &["check", "--config", wrong.0.to_str().expect("a path")]] {
        let unusable = run(arguments);
        assert_eq!(unusable.status.code(), Some(2), "{arguments:?}");
        assert!(!unusable.stderr.is_empty());
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}
