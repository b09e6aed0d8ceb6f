//! Hashes as replacement for texts that are too long or have characters that are not allowed.

use data_encoding::HEXLOWER;
use ring::digest;

/// SHA-256 of a text, in lower-case hex.
pub fn hex(text: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hash_of_a_text_is_the_one_of_the_standard() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::hex("abc"), abc);
    }
}
