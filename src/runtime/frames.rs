//! Frames on a stream: a big-endian `u32` length, then that many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::proto::MAX_FRAME_BYTES;

const LENGTH_BYTES: usize = 4;

/// How much is read at once, and the most that is set aside for a frame before its bytes have come.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Cuts what is read from a stream into frames.
///
/// A length costs its sender nothing, so none is believed: one that is too large ends the stream before anything is
/// allocated, and memory grows only with bytes that came.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
}

/// A frame was announced that is larger than any honest one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Oversized {
    pub(super) announced: usize,
}

impl Decoder {
    /// Where to put the next bytes read, with room for [`READ_BYTES`].
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// The next whole frame, if it is there.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Oversized> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*length) as usize;
        if announced > MAX_FRAME_BYTES {
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
        let mut decoder = Decoder::default();
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
        let mut decoder = Decoder::default();
        decoder.buffer().extend_from_slice(&(MAX_FRAME_BYTES as u32).to_be_bytes());
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.buffer().capacity() <= 2 * READ_BYTES + LENGTH_BYTES);
    }
}
