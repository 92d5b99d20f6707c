//! Streams over real loopback sockets, without a protocol.

use tokio::sync::mpsc::Receiver;

use super::*;

const SOON: Duration = Duration::from_secs(20);

struct Bench {
    streams: Streams,
    inbox: Receiver<Inbound>,
    addr: SocketAddr,
}

impl Bench {
    async fn new(limits: Limits) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let mut streams = Streams::new(&limits, sender);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        streams.listen(listener);
        Bench { streams, inbox, addr }
    }

    async fn inbound(&mut self) -> Inbound {
        timeout(SOON, self.inbox.recv()).await.expect("something arrives in time").unwrap()
    }

    /// A stream from a peer, and its name here.
    async fn peer(&mut self) -> (TcpStream, Option<ConnId>) {
        let peer = TcpStream::connect(self.addr).await.unwrap();
        let Inbound::Accepted { stream, .. } = self.inbound().await else { panic!("not accepted") };
        (peer, self.streams.accept(stream))
    }
}

async fn read_all(mut peer: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(SOON, peer.read_to_end(&mut bytes)).await.expect("an end in time").unwrap();
    bytes
}

#[tokio::test]
async fn two_nodes_exchange_frames_in_order() {
    let mut left = Bench::new(Limits::default()).await;
    let mut right = Bench::new(Limits::default()).await;
    let dialled = ConnId(1);
    left.streams.connect(dialled, right.addr);
    let Inbound::Accepted { stream, .. } = right.inbound().await else { panic!("not accepted") };
    let accepted = right.streams.accept(stream).unwrap();
    assert!(matches!(left.inbound().await, Inbound::Connected(conn) if conn == dialled));
    for n in 0..300_u32 {
        left.streams.send(dialled, vec![1; n as usize]);
        right.streams.send(accepted, n.to_be_bytes().to_vec());
    }
    for n in 0..300_u32 {
        assert!(matches!(right.inbound().await, Inbound::Frame(_, bytes) if bytes == vec![1; n as usize]));
        assert!(matches!(left.inbound().await, Inbound::Frame(_, bytes) if bytes[..] == n.to_be_bytes()));
    }
}

#[tokio::test]
async fn closing_sends_what_is_queued_first_and_tells_nobody() {
    let mut bench = Bench::new(Limits::default()).await;
    let (mut peer, conn) = bench.peer().await;
    let conn = conn.unwrap();
    // Never read by this side: a careless close would reset the stream.
    peer.write_all(&[0, 0]).await.unwrap();
    for _ in 0..8 {
        bench.streams.send(conn, vec![7; 1 << 20]);
    }
    bench.streams.close(conn);
    assert!(!bench.streams.is_open(conn));
    assert_eq!(read_all(peer).await.len(), 8 * ((1 << 20) + 4));
    assert!(bench.inbox.try_recv().is_err());
}

#[tokio::test]
async fn finishing_sends_what_is_queued_and_closes_the_port() {
    let mut bench = Bench::new(Limits::default()).await;
    let (peer, conn) = bench.peer().await;
    bench.streams.send(conn.unwrap(), vec![7; 1 << 20]);
    let reading = tokio::spawn(read_all(peer));
    bench.streams.finish(SOON, bench.inbox).await;
    assert_eq!(reading.await.unwrap().len(), (1 << 20) + 4);
    assert!(TcpStream::connect(bench.addr).await.is_err());
}

#[tokio::test]
async fn an_oversized_frame_closes_the_stream() {
    let mut bench = Bench::new(Limits::default()).await;
    let (mut peer, conn) = bench.peer().await;
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let Inbound::Closed(closed, Ending::Oversized(announced)) = bench.inbound().await else { panic!("not closed") };
    assert_eq!(Some(closed), conn);
    assert_eq!(announced, u32::from_be_bytes(*b"GET ") as usize);
}

#[tokio::test]
async fn a_stranger_sends_no_large_frame_before_it_has_shaken_hands() {
    let mut bench = Bench::new(Limits::default()).await;
    let (mut hasty, conn) = bench.peer().await;
    hasty.write_all(&(MAX_FRAME_BYTES as u32).to_be_bytes()).await.unwrap();
    let Inbound::Closed(closed, Ending::Oversized(announced)) = bench.inbound().await else { panic!("not closed") };
    assert_eq!((Some(closed), announced), (conn, MAX_FRAME_BYTES));

    let (mut polite, conn) = bench.peer().await;
    let (conn, mut bytes) = (conn.unwrap(), Vec::new());
    frames::encode(&[1; 100], &mut bytes);
    frames::encode(&[2; 100_000], &mut bytes);
    polite.write_all(&bytes).await.unwrap();
    assert!(matches!(bench.inbound().await, Inbound::Frame(_, bytes) if bytes.len() == 100));
    assert!(bench.streams.is_stranger(conn));
    bench.streams.trust(conn);
    assert!(!bench.streams.is_stranger(conn));
    assert!(matches!(bench.inbound().await, Inbound::Frame(_, bytes) if bytes.len() == 100_000));
}

#[tokio::test]
async fn a_stream_on_which_nothing_was_sent_is_gone_as_soon_as_it_is_closed() {
    let mut bench = Bench::new(Limits::default()).await;
    let (peer, conn) = bench.peer().await;
    bench.streams.close(conn.unwrap());
    assert!(read_all(peer).await.is_empty());
    timeout(SOON, async {
        while Arc::strong_count(&bench.streams.slots) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("its place is free");
}

#[tokio::test]
async fn a_stream_that_ends_is_told_after_its_last_frame() {
    let mut bench = Bench::new(Limits::default()).await;
    let (mut peer, _) = bench.peer().await;
    peer.write_all(&[0, 0, 0, 1, 42, 0, 0]).await.unwrap();
    drop(peer);
    assert!(matches!(bench.inbound().await, Inbound::Frame(_, bytes) if bytes[..] == [42]));
    assert!(matches!(bench.inbound().await, Inbound::Closed(_, Ending::Lost(_))));
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_until_one_ends() {
    let mut bench = Bench::new(Limits { streams_max: 2, ..Limits::default() }).await;
    let (first, accepted) = bench.peer().await;
    assert!(accepted.is_some());
    let mut others = Vec::new();
    for _ in 1..bench.streams.accepted_max {
        let (peer, accepted) = bench.peer().await;
        assert!(accepted.is_some());
        others.push(peer);
    }
    let (third, accepted) = bench.peer().await;
    assert!(accepted.is_none());
    assert!(read_all(third).await.is_empty());
    drop(first);
    assert!(matches!(bench.inbound().await, Inbound::Closed(..)));
    timeout(SOON, async {
        while bench.peer().await.1.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the slot is free again");
}

#[tokio::test]
async fn a_peer_that_takes_too_little_loses_its_stream() {
    let mut bench = Bench::new(Limits { stream_backlog_bytes_max: 10_000, ..Limits::default() }).await;
    let (_peer, conn) = bench.peer().await;
    let conn = conn.unwrap();
    for _ in 0..11 {
        bench.streams.send(conn, vec![0; 1_000]);
    }
    assert!(bench.streams.has_broken());
    assert_eq!(bench.streams.take_broken(), [conn]);
    assert!(!bench.streams.has_broken() && !bench.streams.is_open(conn));
}

#[tokio::test]
async fn a_port_where_nobody_listens_takes_no_stream() {
    let mut bench = Bench::new(Limits::default()).await;
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    bench.streams.connect(ConnId(3), nobody);
    assert!(matches!(bench.inbound().await, Inbound::Closed(ConnId(3), Ending::Refused)));
}

#[tokio::test]
async fn a_reader_that_nobody_empties_slows_its_peer_and_loses_nothing() {
    let mut bench = Bench::new(Limits::default()).await;
    let (mut peer, conn) = bench.peer().await;
    bench.streams.trust(conn.unwrap());
    // Far more than the sockets' buffers hold beside a full inbox.
    let frames = INBOX_MAX + 96;
    let sending = tokio::spawn(async move {
        let mut frame = Vec::new();
        frames::encode(&vec![1; 1 << 20], &mut frame);
        for _ in 0..frames {
            peer.write_all(&frame).await.unwrap();
        }
        peer
    });
    let full = async {
        while bench.inbox.len() < INBOX_MAX {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, full).await.expect("a full inbox in time");
    assert!(!sending.is_finished());
    for _ in 0..frames {
        assert!(matches!(bench.inbound().await, Inbound::Frame(_, bytes) if bytes.len() == 1 << 20));
    }
    sending.await.unwrap();
}
