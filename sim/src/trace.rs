//! A running digest of everything that happens, so that two runs of one seed can be compared across processes and
//! builds, and an optional text of it, so that the first difference can be found.

use std::fmt::{self, Debug, Write};

use haulout::proto::Time;
use twox_hash::XxHash3_64;

use crate::NodeIdx;
use crate::random::mix;

/// A hash that depends on every word and on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Takes in a number.
    pub fn word(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(7) ^ word).wrapping_add(1);
    }

    /// Takes in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.word(XxHash3_64::oneshot(bytes));
    }

    /// The digest of everything so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What becomes of the text of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceText {
    /// There is none; the digest costs little. The default.
    #[default]
    Off,
    /// Kept, for comparing two runs.
    Keep,
    /// Printed to standard error as it happens.
    Print,
}

/// The trace of one run.
#[derive(Debug, Default)]
pub struct Trace {
    digest: Digest,
    events: u64,
    text: TraceText,
    lines: Vec<String>,
}

impl Trace {
    /// A trace of nothing yet.
    pub fn new(text: TraceText) -> Self {
        Trace { text, ..Trace::default() }
    }

    /// The digest of everything so far.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How much has happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The text, if it was kept.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn bytes(&mut self, now: Time, node: NodeIdx, what: &'static str, bytes: &[u8]) {
        self.stamp(now, node, what);
        self.digest.bytes(bytes);
        if self.text != TraceText::Off {
            let line = format!("{} {node} {what} {} B {:016x}", At(now), bytes.len(), XxHash3_64::oneshot(bytes));
            self.line(line);
        }
    }

    pub(crate) fn show(&mut self, now: Time, node: NodeIdx, what: &'static str, shown: &dyn Debug) {
        self.stamp(now, node, what);
        // A digest takes any text; its Write never fails.
        let _ = write!(self.digest, "{shown:?}");
        if self.text != TraceText::Off {
            let line = format!("{} {node} {what} {shown:?}", At(now));
            self.line(line);
        }
    }

    fn stamp(&mut self, now: Time, node: NodeIdx, what: &'static str) {
        self.events += 1;
        self.digest.word(now.as_nanos());
        self.digest.word(node.0 as u64);
        self.digest.bytes(what.as_bytes());
    }

    fn line(&mut self, line: String) {
        match self.text {
            TraceText::Off => {}
            TraceText::Keep => self.lines.push(line),
            TraceText::Print => eprintln!("{line}"),
        }
    }
}

/// A point in virtual time, as people read it.
pub struct At(pub Time);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.since(Time::ZERO);
        write!(f, "{}.{:06}s", since.as_secs(), since.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_of(steps: &[(u64, usize, &[u8])]) -> Trace {
        let mut trace = Trace::new(TraceText::Keep);
        for &(at, node, bytes) in steps {
            trace.bytes(Time::from_nanos(at), NodeIdx(node), "datagram", bytes);
        }
        trace
    }

    #[test]
    fn a_digest_depends_on_time_node_bytes_and_order() {
        let base = trace_of(&[(1, 0, b"ab"), (2, 1, b"c")]).digest();
        assert_eq!(base, trace_of(&[(1, 0, b"ab"), (2, 1, b"c")]).digest());
        for other in [
            trace_of(&[(1, 0, b"ab"), (3, 1, b"c")]),
            trace_of(&[(1, 0, b"ab"), (2, 0, b"c")]),
            trace_of(&[(1, 0, b"ab"), (2, 1, b"d")]),
            trace_of(&[(2, 1, b"c"), (1, 0, b"ab")]),
            trace_of(&[(1, 0, b"a"), (2, 1, b"bc")]),
        ] {
            assert_ne!(base, other.digest());
        }
    }

    #[test]
    fn a_digest_is_the_same_in_every_build() {
        let mut trace = trace_of(&[(1, 0, b"ab"), (2, 1, b"c")]);
        trace.show(Time::from_nanos(3), NodeIdx(2), "reply", &Some("x"));
        assert_eq!(trace.digest().to_string(), "44efc210bb1290b6");
        assert_eq!((trace.events(), trace.lines().len()), (3, 3));
    }
}
