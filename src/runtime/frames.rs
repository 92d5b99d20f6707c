//! Frames on a stream: a big-endian `u32` length, then that many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::proto::{HELLO_BYTES_MAX, MAX_FRAME_BYTES};

const LENGTH_BYTES: usize = 4;

/// How much is read at once, and the most that is set aside for a frame before its bytes have come.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// The same for a stream whose other end has not shaken hands.
const STRANGER_READ_BYTES: usize = LENGTH_BYTES + HELLO_BYTES_MAX;

/// Cuts what is read from a stream into frames.
///
/// A length costs its sender nothing, so none is believed: one that is too large ends the stream before anything is
/// allocated, and memory grows only with bytes that came.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    frame_bytes_max: usize,
    read_bytes: usize,
}

/// A frame was announced that is larger than any honest one, or than may come before a handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Oversized {
    pub(super) announced: usize,
}

impl Decoder {
    /// For a stream that this node dialled, or whose other end has shaken hands.
    pub(super) fn of_peer() -> Self {
        Decoder { buffer: BytesMut::new(), frame_bytes_max: MAX_FRAME_BYTES, read_bytes: READ_BYTES }
    }

    /// For a stream that anybody may have opened: takes nothing that is larger than a Hello.
    pub(super) fn of_stranger() -> Self {
        Decoder { buffer: BytesMut::new(), frame_bytes_max: HELLO_BYTES_MAX, read_bytes: STRANGER_READ_BYTES }
    }

    /// The other end has shaken hands; what was read stays.
    pub(super) fn trust(&mut self) {
        *self = Decoder { buffer: std::mem::take(&mut self.buffer), ..Decoder::of_peer() };
    }

    /// Where to put the next bytes read, with room for as much as is read at once.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(self.read_bytes);
        &mut self.buffer
    }

    /// The next whole frame, if it is there.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Oversized> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*length) as usize;
        if announced > self.frame_bytes_max {
            return Err(Oversized { announced });
        }
        if self.buffer.len() < LENGTH_BYTES + announced {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(announced).freeze()))
    }
}

/// Appends a frame to what is to be written. Its length was checked before it was queued.
pub(super) fn encode(frame: &[u8], out: &mut Vec<u8>) {
    debug_assert!(frame.len() <= MAX_FRAME_BYTES);
    out.put_u32(frame.len() as u32);
    out.extend_from_slice(frame);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Bytes>, Oversized> {
        let mut decoder = Decoder::of_peer();
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.buffer().extend_from_slice(piece);
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = [vec![], vec![7], vec![1; 300], vec![9; 70_000], vec![]];
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| encode(frame, &mut bytes));
        for piece in [1, 3, 4, 5, 1_000, bytes.len()] {
            assert_eq!(decode_in_pieces(&bytes, piece).unwrap(), frames, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_is_refused() {
        let mut bytes = Vec::new();
        encode(&vec![5; MAX_FRAME_BYTES], &mut bytes);
        assert_eq!(decode_in_pieces(&bytes, READ_BYTES).unwrap()[0].len(), MAX_FRAME_BYTES);
        let announced = MAX_FRAME_BYTES + 1;
        let hostile = (announced as u32).to_be_bytes();
        assert_eq!(decode_in_pieces(&hostile, 4), Err(Oversized { announced }));
        assert!(decode_in_pieces(&[0xff; 4], 4).is_err());
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut decoder = Decoder::of_peer();
        decoder.buffer().extend_from_slice(&(MAX_FRAME_BYTES as u32).to_be_bytes());
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer().capacity() <= 2 * READ_BYTES + LENGTH_BYTES);
    }

    #[test]
    fn a_stranger_may_send_a_hello_and_more_once_it_is_none() {
        let (mut bytes, large) = (Vec::new(), vec![3; HELLO_BYTES_MAX + 1]);
        encode(&[1; HELLO_BYTES_MAX], &mut bytes);
        encode(&large, &mut bytes);
        let mut decoder = Decoder::of_stranger();
        assert!(decoder.buffer().capacity() <= STRANGER_READ_BYTES);
        decoder.buffer().extend_from_slice(&bytes);
        assert_eq!(decoder.next().unwrap().unwrap().len(), HELLO_BYTES_MAX);
        assert_eq!(decoder.next(), Err(Oversized { announced: large.len() }));
        decoder.trust();
        assert_eq!(decoder.next().unwrap().unwrap(), large);
    }
}
