//! One stream between two that examine, frame by frame.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::runtime::frames::{self, Decoder};
use crate::runtime::streams;

/// See the module.
pub(super) struct Talk {
    stream: TcpStream,
    decoder: Decoder,
}

impl Talk {
    pub(super) async fn dial(to: SocketAddr) -> io::Result<Self> {
        Ok(Talk { stream: streams::dial(to).await?, decoder: Decoder::of_peer() })
    }

    /// Of somebody who may be anybody.
    pub(super) fn accepted(stream: TcpStream) -> Self {
        Talk { stream, decoder: Decoder::of_stranger() }
    }

    pub(super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frames::encode(frame, &mut bytes);
        self.stream.write_all(&bytes).await
    }

    /// The next frame; `None` where the other end has said all.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(oversized) => {
                    let text = format!("it announced a frame of {} bytes", oversized.announced);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
            if self.stream.read_buf(self.decoder.buffer()).await? == 0 {
                return Ok(None);
            }
        }
    }
}
