//! Half-open streams: connected, and then nothing that would be a first frame.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use haulout::BoxError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Whoever is thrown out comes back after this time.
const REST: Duration = Duration::from_millis(200);

/// How long a byte of a frame that trickles takes.
const TRICKLE: Duration = Duration::from_millis(500);

/// How many streams were opened, how many the victim ended, and how many are open.
#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    ended: AtomicU64,
}

/// So many streams that are opened again whenever they end. Dropped, it closes them.
pub(crate) struct Streams {
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

impl Streams {
    pub(crate) fn start(to: SocketAddrV4, count: usize) -> Streams {
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            tasks.spawn(keep_open(to, number, counts.clone()));
        }
        Streams { counts, _tasks: tasks }
    }

    /// How many streams were opened so far, and how many of them ended.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.opened.load(Ordering::Relaxed), self.counts.ended.load(Ordering::Relaxed))
    }
}

async fn keep_open(to: SocketAddrV4, number: usize, counts: Arc<Counts>) {
    loop {
        if let Ok(stream) = connect(to, number).await {
            counts.opened.fetch_add(1, Ordering::Relaxed);
            // Its end, however it comes, is all that is waited for.
            let _ = hold(stream, number).await;
            counts.ended.fetch_add(1, Ordering::Relaxed);
        }
        sleep(REST).await;
    }
}

/// From eight addresses, so that no limit for each of them is all that helps.
async fn connect(to: SocketAddrV4, number: usize) -> Result<TcpStream, BoxError> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 2, 0, 1 + (number % 8) as u8), 0).into())?;
    Ok(socket.connect(to.into()).await?)
}

async fn hold(mut stream: TcpStream, number: usize) -> Result<(), BoxError> {
    let mut byte = [0];
    match number % 4 {
        0 => {}
        1 => stream.write_all(&[0, 0]).await?,
        2 => stream.write_all(&1_000_000_u32.to_be_bytes()).await?,
        _ => {
            stream.write_all(&1_000_u32.to_be_bytes()).await?;
            while timeout(TRICKLE, stream.read(&mut byte)).await.is_err() {
                stream.write_all(b"h").await?;
            }
        }
    }
    while stream.read(&mut byte).await? > 0 {}
    Ok(())
}
