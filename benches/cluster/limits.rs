//! What has to be paid in any case: the same bytes sent and filed, as many bare tasks, one round trip.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use haulout::proto::group::ChildKey;
use haulout::proto::group::records::Desired;
use haulout::proto::group::replica::Record;
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Dot, InstanceId};
use haulout::{BoxError, ChildId, ChildSpec, Spec};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::clock;
use crate::cluster::AT_LAST;
use crate::figures::quantile;
use crate::node::resident_bytes;
use crate::process::{self, Process};

/// Round trips that are measured.
const ROUND_TRIPS: usize = 2_000;

/// Records of one write to the stream.
const BATCH: usize = 512;

/// What so many children cannot be cheaper than.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    stream_nanos: u64,
    spawn_nanos: u64,
    end_nanos: u64,
    pub(crate) record_bytes: usize,
    pub(crate) task_bytes: usize,
}

/// The command line of the process that measures them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LimitOptions {
    #[arg(long)]
    children: usize,
}

impl Limits {
    /// Measured in a process that has done nothing else.
    pub(crate) async fn of(children: usize) -> Result<Limits, BoxError> {
        let log = std::env::temp_dir().join(format!("haulout-bench-{}-limits.log", std::process::id()));
        let args = ["limits".to_owned(), "--children".to_owned(), children.to_string()];
        let mut process = Process::spawn("limits", args, &log)?;
        let limits = process.receive(AT_LAST).await?;
        process.stop(AT_LAST).await?;
        std::fs::remove_file(log)?;
        Ok(limits)
    }

    pub(crate) fn stream(&self) -> Duration {
        Duration::from_nanos(self.stream_nanos)
    }

    pub(crate) fn spawn(&self) -> Duration {
        Duration::from_nanos(self.spawn_nanos)
    }

    pub(crate) fn end(&self) -> Duration {
        Duration::from_nanos(self.end_nanos)
    }
}

/// The process that measures them.
pub(crate) async fn run(options: LimitOptions) -> Result<(), BoxError> {
    let children = options.children;
    let (spawn_nanos, end_nanos, task_bytes) = tasks(children).await?;
    let (stream_nanos, record_bytes) = tokio::task::spawn_blocking(move || stream(children)).await??;
    process::answer(&Limits { stream_nanos, spawn_nanos, end_nanos, record_bytes, task_bytes }).await
}

/// So many tasks that wait for one thing: until all have begun, until all have ended, and the memory of each.
async fn tasks(count: usize) -> Result<(u64, u64, usize), BoxError> {
    let (begun, ended, stop) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let before = resident_bytes().unwrap_or(0);
    let began = clock::now();
    for _ in 0..count {
        let (begun, ended, stop) = (begun.clone(), ended.clone(), stop.clone());
        tokio::spawn(async move {
            begun.add_permits(1);
            // Closed, not acquired.
            let _ = stop.acquire().await;
            ended.add_permits(1);
        });
    }
    let all = u32::try_from(count)?;
    begun.acquire_many(all).await?.forget();
    let spawned = clock::now();
    let bytes = resident_bytes().unwrap_or(0).saturating_sub(before);
    let stopped = clock::now();
    stop.close();
    ended.acquire_many(all).await?.forget();
    Ok((spawned - began, clock::now() - stopped, bytes as usize / count))
}

fn record(number: usize, spec: &Arc<Spec>) -> Result<(ChildKey, Record<Desired>), BoxError> {
    let key = ChildKey::new(ChildId::new(format!("bulk-{number}"))?);
    let dot = Dot { writer: InstanceId::new(7), n: number as u64 + 1 };
    Ok((key, Record { dot, birth: number as u64 + 1, over: None, value: Desired { spec: spec.clone(), run: 0 } }))
}

/// So many records encoded, sent through loopback, decoded and filed at the other end: how long, and the bytes of each.
fn stream(count: usize) -> Result<(u64, usize), BoxError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    let spec = Arc::new(ChildSpec::raw("x", "idle", vec![0])?.spec().clone());
    let began = clock::now();
    std::thread::scope(|threads| {
        let filing = threads.spawn(|| file(receiver, count));
        let mut bytes = 0;
        for batch in 0..count.div_ceil(BATCH) {
            let mut frame = Vec::new();
            for number in batch * BATCH..count.min((batch + 1) * BATCH) {
                let (key, record) = record(number, &spec)?;
                frame = postcard::to_extend(&Message::Scoped(ScopeMessage::Put(key, record)), frame)?;
            }
            bytes += frame.len();
            sender.write_all(&u32::try_from(frame.len())?.to_be_bytes())?;
            sender.write_all(&frame)?;
        }
        let filed = filing.join().map_err(|_| "the receiver panicked")??;
        Ok((filed - began, bytes / count))
    })
}

/// The other end: when the last one was filed.
fn file(mut stream: TcpStream, count: usize) -> Result<u64, std::io::Error> {
    let mut filed = BTreeMap::new();
    let (mut length, mut frame) = ([0; 4], Vec::new());
    while filed.len() < count {
        stream.read_exact(&mut length)?;
        frame.resize(u32::from_be_bytes(length) as usize, 0);
        stream.read_exact(&mut frame)?;
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let (message, after) = postcard::take_from_bytes(rest).map_err(std::io::Error::other)?;
            if let Message::Scoped(ScopeMessage::Put(key, record)) = message {
                filed.insert(key, record);
            }
            rest = after;
        }
    }
    Ok(clock::now())
}

/// The median of a datagram there and back between two threads.
pub(crate) fn round_trip() -> Result<Duration, BoxError> {
    let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Loopback loses nothing; this only keeps a mistake from waiting for ever.
    [&near, &far].iter().try_for_each(|socket| socket.set_read_timeout(Some(Duration::from_secs(5))))?;
    near.connect(far.local_addr()?)?;
    far.connect(near.local_addr()?)?;
    std::thread::scope(|threads| {
        let echo = threads.spawn(|| {
            let mut bytes = [0; 100];
            (0..ROUND_TRIPS)
                .try_for_each(|_| far.recv(&mut bytes).and_then(|length| far.send(&bytes[..length])).map(drop))
        });
        let mut trips = Vec::new();
        let mut bytes = [0; 100];
        for _ in 0..ROUND_TRIPS {
            let began = clock::now();
            near.send(&bytes)?;
            near.recv(&mut bytes)?;
            trips.push(clock::now() - began);
        }
        echo.join().map_err(|_| "the echo panicked")??;
        Ok(Duration::from_nanos(quantile(&trips, 500)))
    })
}
