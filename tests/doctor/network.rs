//! Ports of every kind between a doctor and a node.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::ports::free_addr;

/// A port that leads to another one until the test ends.
pub(crate) struct Tunnel {
    pub(crate) addr: SocketAddr,
}

impl Tunnel {
    /// Passes every stream, and datagrams of up to so many bytes.
    pub(crate) async fn open(to: SocketAddr, datagram_bytes_max: usize) -> Self {
        let addr = free_addr();
        let listener = TcpListener::bind(addr).await.expect("it is free");
        let datagrams = UdpSocket::bind(addr).await.expect("it is free");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_stream(stream, to));
            }
        });
        tokio::spawn(pass_datagrams(datagrams, to, datagram_bytes_max));
        Tunnel { addr }
    }
}

async fn pass_stream(mut stream: TcpStream, to: SocketAddr) {
    if let Ok(mut onward) = TcpStream::connect(to).await {
        // Either end may reset it.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
    }
}

/// Of one client: whoever sends from elsewhere than the other end is it.
async fn pass_datagrams(datagrams: UdpSocket, to: SocketAddr, bytes_max: usize) {
    let mut bytes = [0; 2_048];
    let mut client = None;
    while let Ok((length, from)) = datagrams.recv_from(&mut bytes).await {
        let onward = if from == to { client } else { client.replace(from).map_or(Some(to), |_| Some(to)) };
        if let Some(onward) = onward.filter(|_| length <= bytes_max) {
            datagrams.send_to(&bytes[..length], onward).await.expect("loopback takes it");
        }
    }
}

/// A port that answers every stream with this one frame.
pub(crate) async fn hinting_port(frame: [u8; 5]) -> SocketAddr {
    let addr = free_addr();
    let listener = TcpListener::bind(addr).await.expect("it is free");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = [&[0, 0, 0, 5], &frame[..]].concat();
            stream.write_all(&bytes).await.expect("it is read");
            // Kept open until the other end has read it and closes.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    addr
}
