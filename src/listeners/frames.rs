//! What an HTTP/2 client has begun to send and not finished: a frame, or a header block over several
//! frames (RFC 9113 §4.1, §6.10). Looks at the headers of frames alone and keeps no bytes.

/// Bytes before the payload of a frame.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

/// Follows the bytes behind the preface.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The header of the next frame, as far as it has come.
    head: [u8; HEAD],
    have: usize,
    /// Bytes that are missing of the payload.
    payload: usize,
    /// Whether the payload is part of a body: a client may take its time over that.
    is_body: bool,
    /// Whether a header block goes on behind this frame.
    block: bool,
}

/// How much of what a client has to finish is still missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing, or a body.
    Whole,
    /// The rest of what was begun before these bytes.
    Same,
    /// The rest of something that began in these bytes.
    Begun,
}

impl Frames {
    /// Takes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Progress {
        let mut same = self.is_open();
        while !bytes.is_empty() {
            if self.payload == 0 {
                bytes = self.take_head(bytes);
            } else {
                let part = self.payload.min(bytes.len());
                self.payload -= part;
                bytes = bytes.get(part..).unwrap_or_default();
            }
            same &= self.is_open();
        }
        match (self.is_open(), same) {
            (false, _) => Progress::Whole,
            (true, true) => Progress::Same,
            (true, false) => Progress::Begun,
        }
    }

    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (part, rest) = bytes.split_at(bytes.len().min(HEAD - self.have));
        for (place, byte) in self.head.iter_mut().skip(self.have).zip(part) {
            *place = *byte;
        }
        self.have += part.len();
        if self.have == HEAD {
            self.have = 0;
            let [a, b, c, kind, flags, ..] = self.head;
            self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            self.is_body = kind == DATA;
            if matches!(kind, HEADERS | CONTINUATION) {
                self.block = flags & END_HEADERS == 0;
            }
        }
        rest
    }

    /// Whether something was begun that a client has no reason to be slow about.
    const fn is_open(&self) -> bool {
        self.have > 0 || self.block || (self.payload > 0 && !self.is_body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn whole_frames_leave_nothing_open() {
        let mut frames = Frames::default();
        for bytes in [
            frame(4, 0, &[0; 12]),
            frame(4, 1, &[]),
            frame(HEADERS, END_HEADERS, b"abc"),
            [
                frame(HEADERS, 0, b"a"),
                frame(CONTINUATION, END_HEADERS, b""),
            ]
            .concat(),
            frame(DATA, 1, &[]),
        ] {
            assert_eq!(frames.take(&bytes), Progress::Whole);
        }
        assert_eq!(frames.take(&[]), Progress::Whole);
    }

    #[test]
    fn a_block_is_open_from_its_first_byte_to_its_last() {
        let block = [
            frame(HEADERS, 0, b"ab"),
            frame(CONTINUATION, 0, b""),
            frame(CONTINUATION, END_HEADERS, b"c"),
        ]
        .concat();
        let mut frames = Frames::default();
        let (last, begin) = block.split_last().unwrap();
        for (at, byte) in begin.iter().enumerate() {
            let expected = if at == 0 {
                Progress::Begun
            } else {
                Progress::Same
            };
            assert_eq!(frames.take(&[*byte]), expected, "{at}");
        }
        assert_eq!(frames.take(&[*last]), Progress::Whole);
    }

    #[test]
    fn a_body_may_take_its_time_and_a_new_block_has_its_own() {
        let mut frames = Frames::default();
        assert_eq!(frames.take(&frame(DATA, 0, b"abc")[..10]), Progress::Whole);
        assert_eq!(frames.take(b"b"), Progress::Whole);
        assert_eq!(frames.take(b"c\0"), Progress::Begun);
        let mut frames = Frames::default();
        assert_eq!(frames.take(&frame(HEADERS, 0, b"a")), Progress::Begun);
        let next = [
            frame(CONTINUATION, END_HEADERS, b""),
            frame(HEADERS, 0, b""),
        ]
        .concat();
        assert_eq!(frames.take(&next), Progress::Begun);
    }
}
