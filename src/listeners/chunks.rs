//! The chunked coding of a request body, byte by byte (RFC 9112 §7.1).
//!
//! Pingora's parser takes a size without digits and a bare LF inside an extension, and looks at no
//! trailer. What one side takes for the end of a body and the other does not is a second request,
//! so whatever the grammar does not allow is refused here. The rest is handed on as one plain chunk a
//! read, without extensions and trailers: a body in tiny chunks costs no more than another.

use crate::http::Misframed;

/// Digits of a size; more cannot be told apart from an overflow.
const MAX_DIGITS: u8 = 16;

/// Most bytes beside the size on the line of a chunk.
const MAX_EXTENSION: u16 = 1024;

/// Most bytes of all trailers.
const MAX_TRAILERS: u16 = 8 * 1024;

/// A size line as it is handed on: always eight digits, so that its length is known beforehand.
pub(super) type SizeLine = [u8; 10];

/// The end of the data of a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";

/// The last chunk, without trailers.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Most that the coding adds to what is handed on of one read.
pub(super) const CODING: usize = size_of::<SizeLine>() + CHUNK_END.len() + LAST_CHUNK.len();

/// Moves the first `data` bytes behind a size line, for which `chunk` has the room.
pub(super) fn head(chunk: &mut [u8], data: usize) {
    chunk.copy_within(..data, size_of::<SizeLine>());
    if let Some(line) = chunk.first_chunk_mut::<{ size_of::<SizeLine>() }>() {
        *line = *b"00000000\r\n";
        let digits = line.iter_mut().take(8).rev();
        for (place, digit) in digits.enumerate() {
            let value = (data >> (4 * place)) & 0xf;
            *digit = HEX.get(value).copied().unwrap_or(b'0');
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// How far a chunked body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    place: Place,
    /// Size of the chunk whose line is read, then what is left of it.
    size: u64,
    digits: u8,
    /// Bytes left for an extension or the trailers.
    room: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    /// White space before the semicolon of an extension.
    Gap,
    /// After that semicolon.
    ExtensionName,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Where a trailer or the last line begins.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Size,
            size: 0,
            digits: 0,
            room: MAX_EXTENSION,
        }
    }

    /// Whether the body has been read to its end.
    pub(super) const fn are_done(&self) -> bool {
        matches!(self.place, Place::Done)
    }

    /// Takes the coding off what was read and moves the data to the front. Returns how many of the
    /// bytes belong to the body, and how many bytes of data were in them.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Misframed> {
        let (mut taken, mut data) = (0, 0);
        while let Some(byte) = bytes.get(taken) {
            match self.place {
                Place::Done => break,
                Place::Data => {
                    let length = usize::try_from(self.size).unwrap_or(usize::MAX);
                    let length = length.min(bytes.len() - taken);
                    bytes.copy_within(taken..taken + length, data);
                    taken += length;
                    data += length;
                    self.size -= length as u64;
                    if self.size == 0 {
                        self.place = Place::DataCr;
                    }
                }
                _ => {
                    self.place = self.next(*byte)?;
                    taken += 1;
                }
            }
        }
        Ok((taken, data))
    }

    fn next(&mut self, byte: u8) -> Result<Place, Misframed> {
        let (has_size, blank) = (self.digits > 0, matches!(byte, b' ' | b'\t'));
        Ok(match (self.place, byte) {
            (Place::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte)?,
            (Place::Size | Place::Extension, b'\r') if has_size => Place::SizeLf,
            (Place::Size | Place::Gap, b';') if has_size => self.charged(Place::ExtensionName)?,
            (Place::Size | Place::Gap, _) if has_size && blank => self.charged(Place::Gap)?,
            (Place::ExtensionName, _) if blank => self.charged(Place::ExtensionName)?,
            (Place::ExtensionName, _) if is_token(byte) => self.charged(Place::Extension)?,
            (Place::Extension, _) if is_text(byte) => self.charged(Place::Extension)?,
            (Place::SizeLf, b'\n') => self.sized(),
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => {
                *self = Self::new();
                Place::Size
            }
            (Place::Trailer, b'\r') => Place::LastLf,
            (Place::Trailer | Place::TrailerName, _) if is_token(byte) => {
                self.charged(Place::TrailerName)?
            }
            (Place::TrailerName, b':') => self.charged(Place::TrailerValue)?,
            (Place::TrailerValue, b'\r') => Place::TrailerLf,
            (Place::TrailerValue, _) if is_text(byte) => self.charged(Place::TrailerValue)?,
            (Place::TrailerLf, b'\n') => self.charged(Place::Trailer)?,
            (Place::LastLf, b'\n') => Place::Done,
            _ => return Err(Misframed),
        })
    }

    fn digit(&mut self, byte: u8) -> Result<Place, Misframed> {
        let value = char::from(byte).to_digit(16).ok_or(Misframed)?;
        if self.digits == MAX_DIGITS {
            return Err(Misframed);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(value);
        Ok(Place::Size)
    }

    const fn sized(&mut self) -> Place {
        if self.size > 0 {
            Place::Data
        } else {
            self.room = MAX_TRAILERS;
            Place::Trailer
        }
    }

    fn charged(&mut self, place: Place) -> Result<Place, Misframed> {
        self.room = self.room.checked_sub(1).ok_or(Misframed)?;
        Ok(place)
    }
}

/// A character of a name (RFC 9110 §5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}

/// A character of a value (RFC 9110 §5.5).
const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// The bounds of the coding, for those who check it.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug)]
pub struct ChunkBounds {
    /// Most digits of a size.
    pub digits: usize,
    /// Most bytes behind the size on its line.
    pub extension: usize,
    /// Most bytes of all trailers, with a line feed for each.
    pub trailers: usize,
}

/// Those in force.
#[cfg(feature = "testing")]
pub const CHUNK_BOUNDS: ChunkBounds = ChunkBounds {
    digits: MAX_DIGITS as usize,
    extension: MAX_EXTENSION as usize,
    trailers: MAX_TRAILERS as usize,
};

/// What was read of a body.
#[cfg(feature = "testing")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadChunks {
    /// How many bytes belong to the body.
    pub taken: usize,
    /// Its data.
    pub data: Vec<u8>,
    /// Whether it has been read to its end.
    pub is_done: bool,
}

/// What is read of a body that comes in `pieces`.
///
/// # Errors
/// [`Misframed`] at the first byte that does not belong there.
#[cfg(feature = "testing")]
pub fn decode_chunks<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<ReadChunks, Misframed> {
    let mut chunks = Chunks::new();
    let (mut taken, mut data) = (0, Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let (of_body, of_data) = chunks.decode(&mut piece)?;
        piece.truncate(of_data);
        taken += of_body;
        data.extend(piece);
    }
    Ok(ReadChunks {
        taken,
        data,
        is_done: chunks.are_done(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes belong to the body; `None` when it is not done after all of them.
    fn length(body: &[u8]) -> Result<Option<usize>, Misframed> {
        let mut chunks = Chunks::new();
        let (taken, _) = chunks.decode(&mut body.to_vec())?;
        Ok(chunks.are_done().then_some(taken))
    }

    #[test]
    fn ends_where_the_last_chunk_does() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "0005\r\nhello\r\n000\r\n\r\n",
            "A;x\r\n0123456789\r\n0 ; y = \"z;\u{e9}\"\r\n\r\n",
            "1\r\n\r\r\n0\r\nX: y\r\nDigest:\r\n\r\n",
        ] {
            let followed = format!("{body}GET / HTTP/1.1\r\n\r\n");
            assert_eq!(length(followed.as_bytes()), Ok(Some(body.len())), "{body}");
        }
        assert_eq!(length(b"5\r\nhello\r\n0\r\n\r"), Ok(None));
    }

    #[test]
    fn refuses_what_the_grammar_does_not_know() {
        for body in [
            "\r\n\r\n",
            "   \r\n\r\n",
            ";x\r\n\r\n",
            "3;a\nb\r\nabc\r\n0\r\n\r\n",
            "0;a\n\r\n\r\n",
            "0;\r\n\r\n",
            "0 \r\n\r\n",
            "0\n\r\n",
            "0;a\rb\r\n\r\n",
            "0;a\0\r\n\r\n",
            "0x5\r\n",
            "00000000000000000\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "0\r\nX\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: \x07\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(length(body.as_bytes()), Err(Misframed), "{body:?}");
        }
    }

    #[test]
    fn hands_on_one_plain_chunk() {
        let mut bytes = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\nGET".to_vec();
        let length = bytes.len();
        let mut chunks = Chunks::new();
        assert_eq!(chunks.decode(&mut bytes), Ok((length - 3, 5)));
        head(&mut bytes, 5);
        assert!(bytes.starts_with(b"00000005\r\nabcde"));
        let mut long = vec![b'x'; 0x1_2345];
        head(&mut long, 0x1_0ab9);
        assert!(long.starts_with(b"00010ab9\r\nx"));
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = |length: usize| format!("0;{}\r\n\r\n", "e".repeat(length));
        assert!(length(extension(1023).as_bytes()).is_ok());
        assert_eq!(length(extension(1024).as_bytes()), Err(Misframed));
        let each = "1;signature=0123456789\r\nx\r\n".repeat(1000) + "0\r\n\r\n";
        assert_eq!(
            length(each.as_bytes()),
            Ok(Some(each.len())),
            "each chunk has its own"
        );
        let trailer = |length: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(length));
        assert!(length(trailer(8000).as_bytes()).is_ok());
        assert_eq!(length(trailer(8192).as_bytes()), Err(Misframed));
    }

    proptest! {
        #[test]
        fn pieces_and_whole_agree(text in "[0-3a;: \r\n]{0,24}", cut in 0_usize..24) {
            let bytes = text.as_bytes();
            let decode = |chunks: &mut Chunks, bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let (taken, data) = chunks.decode(&mut bytes)?;
                bytes.truncate(data);
                Ok::<_, Misframed>((taken, bytes))
            };
            let (mut whole, mut halves) = (Chunks::new(), Chunks::new());
            let at_once = decode(&mut whole, bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let in_two = decode(&mut halves, first).and_then(|(taken, data)| {
                let (more, rest) = decode(&mut halves, second)?;
                Ok((taken + more, [data, rest].concat()))
            });
            if at_once.is_ok() {
                prop_assert_eq!(whole, halves);
            }
            prop_assert_eq!(at_once, in_two);
        }
    }
}
