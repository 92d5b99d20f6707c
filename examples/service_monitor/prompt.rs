//! Playing with the cluster by hand.

use haulout::BoxError;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::clock;
use crate::control::Request;
use crate::orchestra::Orchestra;
use crate::services::{Service, check_target};

const HELP: &str = "commands:
    list                    which node monitors what
    start <host:port>       monitor a service, asked of the first node
    terminate <monitor>     asked of the last node
    kill <node>             SIGKILL
    leave <node>            let a node hand over and go
    join                    start a fresh process
    help                    this
    quit                    stop everything and judge (also at the end of input)";

/// Obeys commands on stdin until `quit`; returns the monitors that were terminated and not started again, and when.
pub(crate) async fn play_by_hand(orchestra: &mut Orchestra) -> Result<Vec<(String, u64)>, BoxError> {
    orchestra.screen.still();
    orchestra.screen.print(HELP);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut terminated = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            // Keeps the journals read, so that they never pile up.
            watched = orchestra.watch(std::time::Duration::from_secs(3600)) => { watched?; continue }
        };
        let Some(line) = line else { return Ok(terminated) };
        let words: Vec<_> = line.split_whitespace().collect();
        if words == ["quit"] {
            return Ok(terminated);
        }
        if let Err(error) = obey(orchestra, &words, &mut terminated).await {
            orchestra.screen.say(format!("that failed: {error}"));
        }
    }
}

async fn obey(o: &mut Orchestra, words: &[&str], terminated: &mut Vec<(String, u64)>) -> Result<(), BoxError> {
    let names = o.names();
    match words {
        [] => {}
        ["list"] => {
            o.look()?;
            let table = o.table();
            o.screen.keep(&table);
            for overlap in o.history.overlaps() {
                o.screen.say(format!("ran twice: {overlap}"));
            }
        }
        ["start", target] => {
            check_target(target)?;
            let service = Service { id: (*target).to_owned(), target: (*target).to_owned() };
            let first = names.first().ok_or("no node is left")?;
            o.ask(first, &Request::Start { id: service.id.clone(), target: service.target.clone() }).await?;
            terminated.retain(|(id, _)| *id != service.id);
            o.services.retain(|other| other.id != service.id);
            o.services.push(service);
        }
        ["terminate", id] => {
            let last = names.last().ok_or("no node is left")?;
            o.ask(last, &Request::Terminate { id: (*id).to_owned() }).await?;
            o.services.retain(|service| service.id != *id);
            terminated.push(((*id).to_owned(), clock::now()));
        }
        ["kill", name] => {
            o.kill(name).await?;
        }
        ["leave", name] => o.leave(name).await?,
        ["join"] => {
            let name = o.launch()?;
            o.ready(&name).await?;
        }
        ["help"] => o.screen.print(HELP),
        [unknown, ..] => {
            o.screen.say(format!("{unknown:?} with {} arguments is no command", words.len() - 1));
            o.screen.print(HELP);
        }
    }
    Ok(())
}
