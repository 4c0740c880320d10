//! Checksums of safetensors files, in their own metadata.
//!
//! The entry [`KEY`] is [`LABEL`] and the SHA-256 of all the file's bytes, in which these 64 digits stand as zeros.

use sha2::{Digest, Sha256};

/// Name of the metadata entry.
pub(crate) const KEY: &str = "checksum";
/// What the entry starts with.
pub(crate) const LABEL: &str = "sha256-of-file:";
const DIGITS: usize = 64;

/// The entry before the digits are known.
pub(crate) fn placeholder() -> String {
    format!("{LABEL}{}", "0".repeat(DIGITS))
}

/// Puts the digits in the place of the [`placeholder`]; the header ends where `data` begins.
pub(crate) fn seal(bytes: &mut [u8], data: usize) {
    if let Some(place) = digits(bytes, data) {
        let digest = digest(bytes, place);
        bytes[place..place + DIGITS].copy_from_slice(digest.as_bytes());
    }
}

/// Whether the digits are those of the bytes.
pub(crate) fn holds(bytes: &[u8], data: usize) -> bool {
    digits(bytes, data).is_some_and(|place| bytes[place..place + DIGITS] == *digest(bytes, place).as_bytes())
}

/// Where the digits stand. Quotation marks within a value are escaped, so that no value looks like the entry.
fn digits(bytes: &[u8], data: usize) -> Option<usize> {
    let entry = format!("\"{KEY}\":\"{LABEL}");
    let header = bytes.get(..data)?;
    let start = header.windows(entry.len()).position(|window| window == entry.as_bytes())? + entry.len();
    (start + DIGITS <= data).then_some(start)
}

fn digest(bytes: &[u8], place: usize) -> String {
    let digest = Sha256::new()
        .chain_update(&bytes[..place])
        .chain_update([b'0'; DIGITS])
        .chain_update(&bytes[place + DIGITS..])
        .finalize();
    hex::encode(digest)
}
