//! A trust store as Java reads it: the `JKS` format, which every version takes without being told
//! its type or a password.
//!
//! *Standing*: [`super::trust`] writes one beside the bundle. *Never*: holds a key.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::CertificateDer;

/// The password that Java's own stores have had since the first.
pub(super) const PASSWORD: &str = "changeit";

/// How a store begins: the format's number and its version.
const HEAD: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// The tag of an entry that is a certificate to trust.
const TRUSTED: u32 = 2;
/// What the format puts between the password and the content before it sums them up.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// A store in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    entries: Vec<u8>,
    count: u32,
}

impl Store {
    /// Adds a certificate. One that is longer than the format can say is left out.
    pub(super) fn add(&mut self, certificate: &CertificateDer<'_>) {
        let Ok(length) = u32::try_from(certificate.len()) else { return };
        let entries = &mut self.entries;
        entries.extend_from_slice(&TRUSTED.to_be_bytes());
        text(&format!("boundary-{}", self.count), entries);
        // When it was added, which nobody asks for.
        entries.extend_from_slice(&0_u64.to_be_bytes());
        text("X.509", entries);
        entries.extend_from_slice(&length.to_be_bytes());
        entries.extend_from_slice(certificate);
        self.count += 1;
    }

    /// The store's file.
    pub(super) fn file(mut self) -> Vec<u8> {
        let mut store = HEAD.to_vec();
        store.extend_from_slice(&self.count.to_be_bytes());
        store.append(&mut self.entries);
        let sum = sum(&store);
        store.extend_from_slice(sum.as_ref());
        store
    }
}

/// A short text with its length before it.
fn text(text: &str, to: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// The sum at the end: it tells accidents, and who knows the password; here everybody does.
fn sum(store: &[u8]) -> aws_lc_rs::digest::Digest {
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        sum.update(&unit.to_be_bytes());
    }
    sum.update(WHITENER);
    sum.update(store);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_laid_out_as_java_reads_it() {
        let certificate = CertificateDer::from(vec![0x30, 0x01, 0x02]);
        let mut store = Store::default();
        store.add(&certificate);
        let store = store.file();
        let mut expected = HEAD.to_vec();
        expected.extend([0, 0, 0, 1]);
        expected.extend([0, 0, 0, 2, 0, 10]);
        expected.extend(b"boundary-0");
        expected.extend([0; 8]);
        expected.extend([0, 5]);
        expected.extend(b"X.509");
        expected.extend([0, 0, 0, 3, 0x30, 0x01, 0x02]);
        let (content, sum) = store.split_at(store.len() - 20);
        assert_eq!(content, expected);
        // sha1(utf-16be("changeit") "Mighty Aphrodite" content), by another hand.
        assert_eq!(
            sum,
            [
                0x9b, 0xcd, 0x0b, 0x4a, 0x6c, 0x8c, 0xdc, 0x36, 0x6b, 0xef, 0x6f, 0x79, 0xae, 0x59,
                0xdc, 0x5a, 0x8e, 0xe2, 0x55, 0x57
            ]
        );
    }
}
