//! Decodes text files in the encodings of editors and shells.

const NEITHER: &str = "is neither UTF-8 nor UTF-16 text";

/// Decodes UTF-8, or UTF-16 as PowerShell writes it, without the byte order mark. The error is the rest of a sentence about the
/// file.
pub fn decode(bytes: &[u8]) -> Result<String, &'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Err("is UTF-32 text: save it as UTF-8"),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        // UTF-16 without a byte order mark: a UTF-8 text has no NUL.
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => utf16(bytes, u16::from_le_bytes),
        [0, first, 0, second, ..] if *first != 0 && *second != 0 => utf16(bytes, u16::from_be_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, &'static str> {
    std::str::from_utf8(bytes).map(ToOwned::to_owned).map_err(|_| NEITHER)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, &'static str> {
    const DAMAGED: &str = "is UTF-16 text that is cut short or damaged: save it as UTF-8";
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(DAMAGED) };
    char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<_, _>>().map_err(|_| DAMAGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, mark: &[u8], bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
    }

    #[test]
    fn text_is_decoded_in_the_encodings_of_all_shells() {
        let text = "kind: Config # größer 🙂\r\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            utf16_of(text, b"\xff\xfe", u16::to_le_bytes),
            utf16_of(text, b"\xfe\xff", u16::to_be_bytes),
            utf16_of(text, b"", u16::to_le_bytes),
            utf16_of(text, b"", u16::to_be_bytes),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:?}");
        }
        assert_eq!(decode(b"").as_deref(), Ok(""));
        assert_eq!(decode(b"a").as_deref(), Ok("a"));
    }

    #[test]
    fn other_encodings_are_named() {
        assert_eq!(decode(b"caf\xe9"), Err(NEITHER));
        assert!(decode(b"\xff\xfea").unwrap_err().starts_with("is UTF-16 text that is cut"));
        assert!(decode(b"\xff\xfe\x00\xd8a\x00").unwrap_err().starts_with("is UTF-16 text that is cut"));
        assert!(decode(b"\xff\xfe\x00\x00k\x00\x00\x00").unwrap_err().starts_with("is UTF-32"));
    }
}
