//! What users, operators and strangers get wrong. See also `tests/one_node.rs` and `tests/config.rs`.

use std::net::SocketAddr;

use haulout::{ChildSpec, Config, Node, SpecError, StartNodeError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::cluster::ids;
use crate::support::{Act, Cluster, Member, Worker, require, soon, until};

/// Noise that is the same in every run.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u8
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

/// Goal: what cannot be accepted is refused at the call with the reason; what just can is. Method: ids, kinds and
/// arguments one byte above the limit, and at it; the largest must run and move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specs_above_the_limits_are_refused_and_the_largest_allowed_one_runs_and_moves() {
    let mut cluster = Cluster::of(2).await;
    let long = "x".repeat(255);
    assert_eq!(ChildSpec::raw("", "worker", vec![]), Err(SpecError::IdLength { len: 0 }));
    assert_eq!(ChildSpec::raw(format!("{long}x"), "worker", vec![]), Err(SpecError::IdLength { len: 256 }));
    assert_eq!(ChildSpec::raw("id", "", vec![]), Err(SpecError::KindLength { len: 0 }));
    assert_eq!(ChildSpec::raw("id", format!("{long}x"), vec![]), Err(SpecError::KindLength { len: 256 }));
    assert_eq!(ChildSpec::raw("id", "worker", vec![0; 65_537]), Err(SpecError::ArgsLength { len: 65_537 }));

    let room = 65_536 - cluster.journal.spec("id", Act::Live).spec().args.len();
    // Two bytes more, because the length of the note is then written in three.
    let largest = cluster.journal.noted(&long, Act::Live, &"y".repeat(room - 2));
    assert_eq!(largest.spec().args.len(), 65_536);
    cluster[0].start_running(largest).await;
    cluster.quiet(&[&long]).await;
    let place = cluster.quiet(&[&long]).await[&long].clone();
    cluster.take(&place).node.leave().await.unwrap();
    cluster.quiet(&[&long]).await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal and method: a port that another node, a stranger's TCP or a stranger's UDP socket has is refused by name, and
/// the cluster next to it does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_occupied_port_is_refused_by_name() {
    let mut cluster = Cluster::of(2).await;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for taken in [cluster[0].node.addr(), tcp.local_addr().unwrap(), udp.local_addr().unwrap()] {
        let config = Config { bind: taken, ..cluster.config.clone() };
        let refused = Node::builder(config).start().await;
        assert!(matches!(refused, Err(StartNodeError::AddressInUse { addr }) if addr == taken), "{refused:?}");
    }
    cluster.know_each_other().await;
    cluster.end().await;
}

/// Goal: one good seed is enough, whatever the others are. Method: beside a good one, seeds that do not resolve, that
/// nobody listens on, that speak HTTP, and that stay silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_although_other_seeds_do_not_resolve_or_are_not_haulout() {
    let mut cluster = Cluster::of(1).await;
    let (http, silent) = (stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, stranger(b"").await);
    // A label of 64 letters is no name, so nobody is asked for it.
    let unresolvable = format!("{}.invalid:7946", "a".repeat(64));
    let closed = crate::support::free_addr();
    let bad = [unresolvable, closed.to_string(), http.to_string(), silent.to_string()];
    cluster.config.seeds.splice(0..0, bad);
    cluster.grow(2).await;
    let ids = ids(6);
    cluster.run_children(&ids, &Act::Live).await;
    cluster.end().await;
}

/// Listens, greets whoever comes with these bytes, and keeps the stream open.
async fn stranger(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(greeting).await;
            open.push(stream);
        }
    });
    addr
}

/// Goal and method: when all seeds are wrong a node that may settle by itself does so and works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_seeds_are_all_wrong_settles_alone() {
    let mut cluster = Cluster::empty();
    let (http, silent) = (stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, stranger(b"").await);
    cluster.config.seeds = vec![http.to_string(), silent.to_string()];
    cluster.grow(1).await;
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    cluster.quiet(&["seal"]).await;
    cluster.end().await;
}

/// Goal: noise hurts nobody. Method: random bytes, empty frames and huge announced lengths on both ports of every node
/// of a cluster at work; children must not restart, members must not go, and the refusals must be counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_both_ports_of_every_node_lose_nothing() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(9);
    cluster.run_children(&ids, &Act::Live).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut noise = Noise(7);
    for member in &cluster.members {
        let addr = member.node.addr();
        for length in 0..150 {
            udp.send_to(&noise.bytes(length * 9), addr).await.unwrap();
        }
        for beginning in [&[0xff; 4][..], &[0, 0, 0, 0], &[0, 0, 0, 9], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1]] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let mut bytes = beginning.to_vec();
            bytes.extend(noise.bytes(300));
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // An end or a reset, but something.
            let _ = soon("the stream is closed", stream.read_to_end(&mut Vec::new())).await;
        }
    }
    for member in &cluster.members {
        until("refusals are counted", async || {
            let stats = member.node.stats().await.unwrap();
            let refused =
                stats.refused_malformed + stats.refused_corrupt + stats.refused_limit + stats.refused_other_cluster;
            require(refused >= 100, || format!("{stats:?}"))
        })
        .await;
    }
    cluster.quiet(&ids).await;
    assert_eq!(cluster.journal.runs().len(), ids.len());
    cluster.end().await;
}

/// What a node says when it joins through this address: its first bytes on a stream, and datagrams.
async fn recorded(cluster: &Cluster) -> (Vec<u8>, Vec<Vec<u8>>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(addr).await.unwrap();
    let config = Config {
        seeds: vec![addr.to_string()],
        name: Some("recorded".into()),
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..cluster.config.clone()
    };
    let speaker = Member::start(config, |scope| scope.kind::<Worker>()).await;
    let (mut stream, _) = soon("it joins", tcp.accept()).await.unwrap();
    let mut first = vec![0; 4_096];
    let length = soon("it speaks", stream.read(&mut first)).await.unwrap();
    first.truncate(length);
    let mut datagrams = Vec::new();
    let mut datagram = vec![0; 4_096];
    while let Ok((length, _)) = udp.try_recv_from(&mut datagram) {
        datagrams.push(datagram[..length].to_vec());
    }
    soon("it leaves", speaker.node.leave()).await.unwrap();
    (first, datagrams)
}

/// Goal: damaged packets of the real protocol hurt nobody either. Method: record what a joining node says; send it to
/// a cluster of the same name, each byte damaged in turn, and cut off after each byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_copies_of_real_packets_lose_nothing() {
    let mut cluster = Cluster::of(2).await;
    let ids = ids(6);
    cluster.run_children(&ids, &Act::Live).await;
    let (frame, datagrams) = recorded(&cluster).await;
    let addr = cluster[0].node.addr();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let damaged = (0..frame.len()).flat_map(|place| {
        let mut flipped = frame.clone();
        flipped[place] ^= 0x55;
        [flipped, frame[..place].to_vec()]
    });
    for bytes in damaged {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        udp.send_to(&bytes[bytes.len().min(4)..], addr).await.unwrap();
    }
    for datagram in datagrams {
        for place in 0..datagram.len() {
            let mut flipped = datagram.clone();
            flipped[place] ^= 0x55;
            udp.send_to(&flipped, addr).await.unwrap();
        }
    }
    cluster[1].start_running(cluster.journal.spec("seal", Act::Live)).await;
    let mut all = ids.clone();
    all.push("seal".into());
    cluster.quiet(&all).await;
    assert_eq!(cluster.journal.runs().len(), all.len());
    cluster.know_each_other().await;
    cluster.end().await;
}

/// Goal: clusters of another name on the same machine stay apart. Method: a node of another cluster has the seeds of
/// this one; it is refused, says so, and both go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_kept_out() {
    let mut cluster = Cluster::of(2).await;
    let mut config = cluster.config_of(2);
    config.cluster = "another".into();
    let other = Member::start(config, |scope| scope.kind::<Worker>()).await;
    other.start_running(cluster.journal.spec("alone", Act::Live)).await;
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    until("the refusals are counted", async || {
        let stats = cluster[0].node.stats().await.unwrap();
        require(stats.refused_other_cluster > 0, || format!("{stats:?}"))
    })
    .await;
    cluster.know_each_other().await;
    other.knows(&["n2"]).await;
    assert_eq!(cluster[1].list().await.len(), 1);
    soon("it leaves", other.node.leave()).await.unwrap();
    cluster.end().await;
}
