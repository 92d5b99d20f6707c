//! What the place of a node answers while it is taken: as a node would, and nothing that makes anybody believe that one runs.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Finding;
use super::examination::examine;
use super::station::Station;
use super::talk::Talk;
use crate::proto::hint::Hint;
use crate::proto::packet::{Place, Turn};
use crate::proto::wire::{Message, Purpose, Welcome};

/// Streams that are answered at once; more than one cluster's operators need.
const VISITS_MAX: usize = 64;

/// How long one may last: an examination of the visitor, with everything that it may wait for.
const VISIT_MAX: Duration = Duration::from_secs(60);

/// The largest datagram that the network can carry.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// What is asked of somebody who takes the place of a node, after the handshake. A node ends the stream before that.
#[derive(Serialize, Deserialize)]
pub(super) enum Request {
    /// Examine me at the address that I advertise, and send me your findings as the answer.
    ExamineMe,
}

/// Answers for as long as it is polled.
pub(super) async fn receive(
    station: &Arc<Station>,
    listener: Option<TcpListener>,
    found: mpsc::UnboundedSender<Finding>,
) {
    let mut visits = JoinSet::new();
    let mut scratch = vec![0; DATAGRAM_BYTES_MAX];
    let listener = listener.and_then(|listener| tokio::net::TcpListener::from_std(listener).ok());
    loop {
        tokio::select! {
            received = station.datagrams.recv_from(&mut scratch) => {
                if let Ok((length, from)) = received
                    && let Some(answer) = station.take_datagram(&scratch[..length])
                {
                    // What is lost on its way is asked again.
                    let _ = station.datagrams.send_to(&answer, from).await;
                }
            }
            Some((stream, _)) = accept(listener.as_ref()), if visits.len() < VISITS_MAX => {
                let visit = host(station.clone(), stream, found.clone());
                visits.spawn(async move { drop(timeout(VISIT_MAX, visit).await) });
            }
            Some(_) = visits.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&tokio::net::TcpListener>) -> Option<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await.ok(),
        None => std::future::pending().await,
    }
}

/// Answers one stream. It ends where the other end says something that has no place here.
async fn host(station: Arc<Station>, stream: TcpStream, found: mpsc::UnboundedSender<Finding>) -> Option<()> {
    let mut talk = Talk::accepted(stream);
    let frame = talk.next().await.ok()??;
    let (visitor, hello) = match station.read(&frame, Place::Hello) {
        // A node that dials must not take this for a member.
        Ok((visitor, Message::Hello(hello))) if hello.purpose == Purpose::Examine => (visitor, hello),
        Ok(_) => return None,
        Err(refused) => {
            let hint = Hint::about(refused)?;
            return talk.send(&hint.to_frame()).await.ok();
        }
    };
    let nonce = station.stream_nonce();
    let misfit = hello.misfit(&station.cluster);
    let is_over = misfit.is_some();
    let welcome = || Message::Welcome(Welcome { name: station.name.clone(), table: Vec::new(), nonce });
    let answer = misfit.map_or_else(welcome, Message::Refuse);
    talk.send(&station.packet(&answer, 0, Place::Welcome(hello.nonce))).await.ok()?;
    if is_over {
        return None;
    }
    let turn = Turn { dialler: hello.nonce, acceptor: nonce, number: 0 };
    let frame = talk.next().await.ok()??;
    // Sealed for this stream: whoever sends it is no recording.
    let (_, Request::ExamineMe) = station.read(&frame, Place::Dialled(turn)).ok()?;
    let examined = examine(&station, visitor.addr, false).await;
    for finding in &examined.findings {
        // Fails only if nobody prints them.
        let _ = found.send(finding.clone());
    }
    talk.send(&station.packet(&examined.findings, 0, Place::Accepted(turn))).await.ok()
}
