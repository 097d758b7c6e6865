//! The versions of the libraries that decide on normal forms. A new version may make another key
//! of the same identifier, so it makes another rule set: it is part of the digest.

use super::document::Document;

/// The version of the crate and of its numbering plans.
const PHONENUMBER: &str = "phonenumber 0.3.10+9.0.33";

/// The version of the crate and of its Unicode data.
const IDNA: &str = "idna 1.1.0 icu_normalizer_data 2.4.0";

/// The normalisers that these rules use, if any.
pub fn of(document: &Document) -> Option<String> {
    let idna = document.email.uses_idna().then_some(IDNA);
    let phonenumber = document.phone.parses().then_some(PHONENUMBER);
    let used: Vec<_> = [idna, phonenumber].into_iter().flatten().collect();
    (!used.is_empty()).then(|| used.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{IDNA, PHONENUMBER};

    #[test]
    fn the_versions_in_the_digest_are_those_that_are_built_in() {
        let lock = include_str!("../../../Cargo.lock");
        let words: Vec<_> = PHONENUMBER.split(' ').chain(IDNA.split(' ')).collect();
        for pair in words.chunks(2) {
            let entry = format!("name = \"{}\"\nversion = \"{}\"\n", pair[0], pair[1]);
            assert!(lock.contains(&entry), "{} is another version now: say so here", pair[0]);
            assert_eq!(lock.matches(&format!("name = \"{}\"\n", pair[0])).count(), 1);
        }
    }
}
