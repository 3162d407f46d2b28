//! A chunked body, beside a second reading of the same grammar that sees all of it at once.

use crate::listeners::{CHUNK_BOUNDS, decode_chunks};

/// A body and what follows it on the connection. Its first byte chooses where the rest is cut.
///
/// # Panics
/// When the pieces are read in another way than the whole, or the whole in another way than RFC 9112
/// §7.1 has it.
pub fn chunked_body(data: &[u8]) {
    let Some((cut, body)) = data.split_first() else {
        return;
    };
    let whole = decode_chunks([body]);
    let complete = whole.clone().ok().filter(|read| read.is_done);
    assert_eq!(
        complete.map(|read| (read.taken, read.data)),
        by_the_grammar(body),
        "not what the grammar says"
    );
    let length = usize::from(*cut) % 16 + 1;
    let pieces = decode_chunks(body.chunks(length));
    // Data in front of an error has been handed on by then; only the verdict is compared.
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "cut after each {length}"),
        (whole, pieces) => assert_eq!(whole.err(), pieces.err(), "cut after each {length}"),
    }
}

/// How many bytes a complete body at the start of `input` has, and its data.
fn by_the_grammar(input: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut rest, mut data) = (input, Vec::new());
    loop {
        let (line, after) = line(rest)?;
        rest = after;
        let size = chunk_size(line)?;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok()?;
        let (chunk, after) = rest.split_at_checked(size)?;
        data.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
    let mut room = CHUNK_BOUNDS.trailers;
    loop {
        let (line, after) = line(rest)?;
        rest = after;
        if line.is_empty() {
            return Some((input.len() - rest.len(), data));
        }
        // Its line feed counts.
        room = room.checked_sub(line.len() + 1)?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let is_field = !name.is_empty() && name.iter().all(is_tchar) && value.iter().all(is_text);
        is_field.then_some(())?;
    }
}

/// Up to the first CRLF, and what is behind it.
fn line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.windows(2).position(|two| two == b"\r\n")?;
    Some((input.get(..end)?, input.get(end + 2..)?))
}

/// `chunk-size [ BWS ";" BWS chunk-ext-name … ]`; what follows the first character of the name may be
/// any text.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (size, extension) = line.split_at(digits.count());
    let size = std::str::from_utf8(size).ok()?;
    if size.len() > CHUNK_BOUNDS.digits || extension.len() > CHUNK_BOUNDS.extension {
        return None;
    }
    if !extension.is_empty() {
        let name = extension.trim_ascii_start().strip_prefix(b";")?;
        let begins_well = name.trim_ascii_start().first().is_some_and(is_tchar);
        (begins_well && extension.iter().all(is_text)).then_some(())?;
    }
    u64::from_str_radix(size, 16).ok()
}

fn is_tchar(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..) && *byte != 0x7f
}
