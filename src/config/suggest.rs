//! Suggestions for misspelt keys and words. Imports nothing of ours.

/// The word that `written` most probably stands for, if any is near enough.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let written = plain(written);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&written, &plain(word)), *word))
        .filter(|(distance, word)| *distance <= word.len().max(written.len()).div_ceil(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Words as a list in a sentence: "`a`, `b` and `c`".
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["listeners", "issuer", "token_ttl", "h2"];
        assert_eq!(nearest("lisener", &known), Some("listeners"));
        assert_eq!(nearest("Token-TTL", &known), Some("token_ttl"));
        assert_eq!(nearest("isuer", &known), Some("issuer"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(nearest("", &known), None);
    }

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(listed(&[]), "");
        assert_eq!(listed(&["a"]), "`a`");
        assert_eq!(listed(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
